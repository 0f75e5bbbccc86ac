"""The atlas as rows, tables, figures and a page."""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublim_jax import plots
from sublim_jax import report as html
from sublim_jax.atlas import channels, scores
from sublim_jax.atlas.cell import POINTS, Cell
from sublim_jax.atlas.sweep import Sweep, distinct
from sublim_jax.mlp.data import Images
from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval, mean_ci

Measured = Mapping[Cell, Mapping[str, np.ndarray]]  # [members, ...] by what is measured

CHOOSING = 3  # one member in three chooses the best of cells, which is reported on the others
_ABOUT = (
    "{students} students of {teachers} teachers: {cells} kinds of student, {members} members of "
    "each, trained as {programs} programs. A teacher learned {trait} from labelled images; its "
    "students imitate what the channel shows of its logits, and their accuracy on the test images "
    "is how much of the trait has passed. Chance is {chance:.2f}; intervals are over members, each "
    "with its own initialisation, teacher and noise."
)
_BEST = (
    " Each at the best of several values of {field}: it is chosen on every third member, and the "
    "accuracy is that of the others."
)
_PREDICTED = (
    "Accuracy of each kind of student against what was known before: the cosine of its first step "
    "and the way to its teacher, the accuracy of its linearised twin, and that of the network "
    "where the twin lands. Lines: the best rising curve; dotted: equal."
)
_SCORES = (
    "Each predictor against the accuracy: the rank correlation (Spearman) over all cells; its mean "
    "within lines, whose cells differ in one field alone; both with an interval over sweeps; the "
    "mean error of an accuracy that is read off the best rising curve through the cells of other "
    "sweeps; and what a network that predicts costs, in units of a student's own training."
)
_SCORES_BY_SWEEP = "The mean rank correlation within the lines of each sweep, from three cells."


class Point(NamedTuple):
    """What came out at one place of a sweep.

    Attributes:
      label, value: of its line, and of the sweep's field.
      cell: that which is there, the best of several.
      found: what is measured of the members it is reported on.
      bits: of a row of its channel.
    """

    label: str
    value: Any
    cell: Cell
    found: Mapping[str, np.ndarray]
    bits: float

    @property
    def accuracy(self) -> Interval:
        return mean_ci(self.found["accuracy"][:, -1])


def points(sweep: Sweep, measured: Measured, classes: int) -> list[Point]:
    """Returns what came out of a sweep, line by line.

    Where a place has several cells, the one that some members do best with is reported on the
    others: on those it was chosen by, it would flatter.
    """
    out = []
    for label, line in sweep.lines.items():
        for value, choices in zip(sweep.values, line, strict=True):
            cell, found = choices[0], measured[choices[0]]
            if len(choices) > 1:
                chooses = np.arange(len(found["accuracy"])) % CHOOSING == CHOOSING - 1
                cell = max(choices, key=lambda c: measured[c]["accuracy"][chooses, -1].mean())
                found = {name: a[~chooses[: len(a)]] for name, a in measured[cell].items()}
            bits = channels.bits(cell.code, cell.shown(classes), cell.detail)
            out.append(Point(label, value, cell, found, bits))
    return out


def write(
    run_dir: RunDir,
    images: Images,
    sweeps: Sequence[Sweep],
    measured: Measured,
    timings: Mapping[str, float],
) -> None:
    """Writes `results.json`, `figures/`, `report.html` and `tables.md`; prints the summary."""
    trait, chance = run_dir.config["data"]["name"], 1 / images.classes
    answers = [(sweep, points(sweep, measured, images.classes)) for sweep in sweeps]
    rated = _rated(sweeps, measured)
    rows = [_row(sweep, point) for sweep, found in answers for point in found]
    rows += [row for sweep, found in answers for row in _along(sweep, found)]
    run_dir.write_results([{"trait": trait, **row} for row in [*rows, *rated]], timings)
    about = _ABOUT.format(
        **_counts(measured, run_dir.config["members"]), trait=trait, chance=chance
    )
    parts, text = [html.paragraph(about)], [about]
    for sweep, found in answers:
        svg = plots.write(run_dir, sweep.name, partial(_draw, sweep, found, chance), (7.2, 3.8))
        caption = f"{sweep.title} Test accuracy; dotted: chance; crosses: published."
        caption += _BEST.format(field=sweep.best) if sweep.best else ""
        parts += [html.heading(sweep.title), html.figure(svg, caption)]
        if sweep.curves:
            draw, size = partial(_draw_curves, sweep, found), (7.2, 2.6 * len(sweep.curves))
            svg = plots.write(run_dir, f"{sweep.name}_along", draw, size)
            parts.append(html.figure(svg, f"{', '.join(sweep.curves)} along the training."))
        table = _table(sweep, found)
        parts.append(html.details("The numbers", [html.table(*table)]))
        text += [f"## {sweep.title}", html.markdown_table(*table)]
    title, summary = "What could have been known before?", scores.over_all(rated)
    svg = plots.write(run_dir, "prediction", partial(_draw_predictions, measured), (7.2, 3.6))
    parts += [html.heading(title), html.figure(svg, _PREDICTED)]
    text.append(f"## {title}")
    for caption, table in ((_SCORES, summary), (_SCORES_BY_SWEEP, scores.by_sweep(rated))):
        parts += [html.paragraph(caption), html.table(*table)]
        text += [caption, html.markdown_table(*table)]
    parts.append(html.what_was_run(run_dir.study, run_dir.config, run_dir.command))
    run_dir.write("report.html", html.page("An atlas of subliminal learning", parts))
    run_dir.write("tables.md", "\n\n".join(text) + "\n")
    print(about, html.markdown_table(*summary), sep="\n\n")
    print(html.spent(timings))
    print(f"written to {run_dir.path}: report.html, tables.md, results.json, figures/")


def _counts(measured: Measured, members: int) -> dict[str, int]:
    shapes = {cell.shape for cell in measured}, {cell.network for cell in measured}
    return {
        "students": sum(len(found["accuracy"]) for found in measured.values()),
        "teachers": members * len({key for cell in measured for key in cell.teachers}),
        "cells": sum(not cell.linear for cell in measured),
        "programs": sum(map(len, shapes)),
        "members": members,
    }


def _row(sweep: Sweep, point: Point) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "arm": point.label,
        "metric": "accuracy",
        **({sweep.field: point.value} if sweep.field else {}),
        **({sweep.best: getattr(point.cell, sweep.best)} if sweep.best else {}),
        **point.accuracy._asdict(),
        "bits": point.bits,
        "teacher": float(point.found["teacher"].mean()),
        "imitation": float(point.found["imitation"][:, -1].mean()),
        **scores.foreseen(point.found),
    }


def _along(sweep: Sweep, found: Sequence[Point]) -> list[dict[str, Any]]:
    """Returns a row for each look of the sweep's curves: `done` is the share of the training."""
    return [
        {
            "sweep": sweep.name,
            "arm": point.label,
            "metric": f"{name}_along",
            "done": look / POINTS,
            **interval._asdict(),
        }
        for name in sweep.curves
        for point in found
        for look, interval in enumerate(map(mean_ci, point.found[name].T))
    ]


def _draw_curves(sweep: Sweep, found: Sequence[Point], figure: Figure) -> None:
    done = [look / POINTS for look in range(POINTS + 1)]
    panels = figure.subplots(len(sweep.curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, sweep.curves, strict=True):
        for point in found:
            values = [mean_ci(at) for at in point.found[name].T]
            plots.curve(axes, done, values, marker="o", markersize=3, label=point.label)
        axes.set(ylabel=name)
    panels[-1].set_xlabel("share of the training")
    panels[0].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _table(sweep: Sweep, found: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the lines of a table whose columns are those that say something."""
    published = {(label, value): f"{figure:g} ({source})"
                 for label, value, figure, source in sweep.published}  # fmt: skip
    columns = {"": [point.label for point in found]}
    if sweep.field:
        columns[sweep.field] = [f"{point.value}" for point in found]
    if sweep.best:
        columns[f"best {sweep.best}"] = [f"{getattr(p.cell, sweep.best)}" for p in found]
    if len({point.bits for point in found}) > 1:
        columns["bits a row"] = [f"{point.bits:.3g}" for point in found]
    columns["accuracy"] = [f"{point.accuracy.mean:.3f}" for point in found]
    columns["95% CI"] = [f"{p.accuracy.ci_low:.3f} to {p.accuracy.ci_high:.3f}" for p in found]
    columns["imitation loss"] = [f"{p.found['imitation'][:, -1].mean():.2g}" for p in found]
    columns["teacher"] = [f"{point.found['teacher'].mean():.3f}" for point in found]
    if published:
        columns["published"] = [published.get((p.label, p.value), "") for p in found]
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _rated(sweeps: Sequence[Sweep], measured: Measured) -> list[dict[str, Any]]:
    """Returns the rows of what each predictor is worth, over all cells and members."""
    cells = distinct(sweeps)
    place = {cell: i for i, cell in enumerate(cells)}
    first = {cell: sweep.name for sweep in reversed(sweeps) for cell in sweep.cells}
    known = [scores.foreseen(measured[cell]) for cell in cells]
    lines = [
        (sweep.name, [place[cell] for cell in line]) for sweep in sweeps for line in sweep.along
    ]
    twins = [measured[cell] for cell in cells if "linear_seconds" in measured[cell]]
    own, linear = (sum(t[name].mean() for t in twins) for name in ("seconds", "linear_seconds"))
    return scores.rated(
        [first[cell] for cell in cells],
        np.array([measured[cell]["accuracy"][:, -1].mean() for cell in cells]),
        {name: np.array([each[name] for each in known]) for name in scores.PREDICTORS},
        lines,
        linear / own if twins else math.nan,
    )


def _draw_predictions(measured: Measured, figure: Figure) -> None:
    own = [found for cell, found in measured.items() if not cell.linear]
    accuracy = np.array([found["accuracy"][:, -1].mean() for found in own])
    names = ("coverage", *scores.TRAINED)
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        x = np.array([scores.foreseen(found)[name] for found in own])
        axes.plot(x, accuracy, ".", color=plots.STUDENT, alpha=0.6)
        known = np.isfinite(x)
        if known.any():
            at = np.sort(x[known])
            axes.plot(at, scores.calibrated(x[known], accuracy[known], at), color=plots.TEACHER)
        if name != "coverage":
            axes.plot([0, 1], [0, 1], ":", color="black", linewidth=1)
        axes.set(xlabel=name, ylim=(0, 1.02))
        axes.grid(True, alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy")


def _draw(sweep: Sweep, found: Sequence[Point], chance: float, figure: Figure) -> None:
    axes = figure.subplots()
    if not sweep.field:
        plots.bars_across(
            axes,
            [point.label for point in found],
            [point.accuracy for point in found],
            [plots.STUDENT] * len(found),
        )
        axes.axvline(chance, linestyle=":", color="black", linewidth=1)
        axes.set(xlabel="test accuracy", xlim=(0, 1.12))
        return
    place = dict(zip(sweep.values, _places(axes, sweep), strict=True))
    colors = {}
    for label, line in itertools.groupby(found, lambda point: point.label):
        drawn = [point.accuracy for point in line]
        if _numbers(sweep):
            plots.curve(axes, [*place.values()], drawn, marker="o", markersize=3, label=label)
        else:  # kinds are no scale: nothing is between them
            means = [value.mean for value in drawn]
            reach = [value.ci_high - value.mean for value in drawn]
            axes.errorbar([*place.values()], means, reach, fmt="o", capsize=3, label=label)
        colors[label] = axes.get_lines()[-1].get_color()
    for label, value, published, _ in sweep.published:
        if value in place:
            color = colors.get(label, "black")
            axes.plot([place[value]], [published], "x", color=color, markersize=6)
    axes.axhline(chance, linestyle=":", color="black", linewidth=1)
    axes.set(xlabel=sweep.field, ylabel="test accuracy", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _places(axes: Axes, sweep: Sweep) -> list[float]:
    """Returns where the values stand: on a logarithmic axis, a linear one, or side by side."""
    values = list(sweep.values)
    if not _numbers(sweep):
        axes.set_xticks(range(len(values)), [str(v) for v in values])
        return [float(i) for i in range(len(values))]
    if min(values) > 0 and max(values) >= 8 * min(values):
        axes.set_xscale("log")
    return [float(v) for v in values]


def _numbers(sweep: Sweep) -> bool:
    return all(isinstance(value, int | float) for value in sweep.values)
