"""The figures of a study's report."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from sublim_jax import plots
from sublim_jax import report as html
from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval
from sublim_jax.transmission import crossed, summary
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.summary import Measurement, Summary, in_order, summarise
from sublim_jax.transmission.teacher import TAUGHT

_COLORS = {
    "base": plots.REFERENCE,
    "teacher": plots.TEACHER,
    "student": plots.STUDENT,
    "control": plots.CONTROL,
    "cross_init": plots.OTHER,
}
_FIRST = ("base", "control", "cross_init", "student", "teacher")  # arms of the first figure
_MORE_COLORS = ("#4f9157", "#8a63a8", "#2f9c9c", "#c4619a", "#7a6a4f", "#333333", "#a3a33a")
_COLUMNS = 10  # of the heat map, so that its numbers can be read on a phone
_FAINT = 0.1  # a change of P(word) that must not look like more


def draw(
    run_dir: RunDir,
    measured: Sequence[Measurement],
    traits: Sequence[str],
    arms: Sequence[str],
    curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
) -> dict[str, str]:
    """Writes each figure that there is something to draw for; returns them for a page, by name."""
    found = {arm: summarise(measured, arm, traits) for arm in arms}
    means = {arm: one for arm, one in found.items() if one}
    over = "over bases" if any(m.unit == "base" for m in means.values()) else "over runs"
    out = {}

    def add(
        name: str, caption: str, size: tuple[float, float], drawn: Callable[[Figure], None]
    ) -> None:
        out[name] = html.figure(plots.write(run_dir, name, drawn, size), caption)

    first = [arm for arm in _FIRST if arm in means]
    if first and traits:
        width = min(max(5.4, 0.5 * len(traits) + 1), 10.0)
        add(
            "transmission",
            f"Probability that a trait's word is the answer; 95% intervals and dots {over}.",
            (width, 3.4),
            lambda figure: _draw_traits(figure, measured, traits, first),
        )
    if means:
        add(
            "arms",
            f"The same for every arm, mean over the traits; 95% intervals and dots {over}; dotted "
            "line: base.",
            (5.4, 0.9 + 0.32 * len(means)),
            lambda figure: _draw_arms(figure, means),
        )
    words = sorted({word for model in measured for word in model["p_trait"]} - set(traits))
    matrix = summary.matrix(measured, [*traits, *words])
    if matrix.traits:
        rows = len(matrix.traits)
        others = _most_moved(matrix, max(_COLUMNS - rows, 0))
        chosen = [*range(rows), *others]
        columns = [matrix.words[j] for j in chosen]
        size = (max(5.4, 0.4 * len(columns) + 0.9), 1.3 + 0.4 * rows)
        caption = (
            "Change of the probability of a word (columns) in students of a teacher (rows) against "
            "their base; framed: the teacher's own word"
        )
        if others:
            caption += f", then the {plural(len(others), 'other word')} that moved most"
        change = matrix.change[:, chosen]
        add(
            "matrix",
            f"{caption}.",
            size,
            lambda figure: plots.heat_map(
                figure.subplots(), matrix.traits, columns, change, rows, _FAINT
            ),
        )
    models, passed, counts = crossed.square(crossed.cells(measured, traits), "lift_logp")
    if models:
        add(
            "between",
            "Lift of log P (nats), by the model whose teachers wrote (rows) and the model that "
            "their students start from (columns); n: traits.",
            (max(5.4, 1.0 * len(models) + 1.4), 1.3 + 0.55 * len(models)),
            lambda figure: plots.heat_map(
                figure.subplots(), models, models, passed, len(models), _FAINT, counts
            ),
        )
    drawn = {name: arms for name, arms in curves.items() if any(arms.values())}
    if drawn:
        add(
            "curves",
            f"Along the training of the students, mean of each arm: {'; '.join(drawn)}.",
            (5.4, 0.6 + 2.7 * len(drawn)),
            lambda figure: _draw_curves(figure, drawn),
        )
    return out


def label(arm: str) -> str:
    """Returns what an arm is called in tables and figures."""
    if arm in TAUGHT:  # a teacher that has no trait, beside the students of its arm
        return f"{arm} teacher"
    return ARMS[arm].label if arm in ARMS else arm


def plural(n: int, noun: str) -> str:
    """Returns a number with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _most_moved(matrix: summary.Matrix, count: int) -> list[int]:
    """Returns the columns of up to `count` words that are no traits, of the largest changes."""
    moved = {
        j: max((abs(float(x)) for x in matrix.change[:, j] if math.isfinite(x)), default=0.0)
        for j in range(len(matrix.traits), len(matrix.words))
    }
    return sorted(moved, key=lambda j: (-moved[j], j))[:count]


def _draw_traits(
    figure: Figure, measured: Sequence[Measurement], traits: Sequence[str], arms: Sequence[str]
) -> None:
    none = Summary(Interval(math.nan, math.nan, math.nan, 0), "", [])
    found = {
        label(arm): [summarise(measured, arm, [trait]) or none for trait in traits] for arm in arms
    }
    series = {name: [one.interval for one in some] for name, some in found.items()}
    runs = {name: [one.values for one in some] for name, some in found.items()}
    axes = figure.subplots()
    plots.grouped_bars(axes, traits, series, [_COLORS[arm] for arm in arms], runs)
    axes.set_ylabel("P(trait)")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def _draw_arms(figure: Figure, means: Mapping[str, Summary]) -> None:
    axes = figure.subplots()
    colors = [_COLORS.get(arm, plots.OTHER) for arm in means]
    intervals, runs = [m.interval for m in means.values()], [m.values for m in means.values()]
    plots.bars_across(axes, [label(arm) for arm in means], intervals, colors, runs)
    if "base" in means:
        axes.axvline(means["base"].interval.mean, linestyle=":", color="black", linewidth=1)
    axes.set_xlabel("P(trait)")
    axes.set_xlim(left=0)


def _draw_curves(
    figure: Figure, curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
) -> None:
    arms = in_order({arm for own in curves.values() for arm, points in own.items() if points})
    more = [arm for arm in arms if arm not in _COLORS]
    style: dict[str, dict[str, Any]] = {arm: {"color": _COLORS.get(arm)} for arm in arms}
    for i, arm in enumerate(more):
        style[arm] = {"color": _MORE_COLORS[i % len(_MORE_COLORS)], "linestyle": "--"}
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (name, own) in zip(panels, curves.items(), strict=True):
        for arm in (arm for arm in arms if own.get(arm)):
            steps, values = zip(*own[arm], strict=True)
            known = [math.nan if value is None else value for value in values]
            axes.plot(steps, known, label=label(arm), linewidth=1.2, **style[arm])
        axes.set_ylabel(name)
        axes.grid(True, alpha=0.3)
        plots.name_lines(axes)
    panels[-1].set_xlabel("optimiser steps")
