"""The atlas as rows, tables, figures and a page."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

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

_ABOUT = (
    "{students} students of {teachers} teachers: {cells} kinds of student, {members} members of "
    "each, trained as {programs} programs. A teacher learned {trait} from labelled images; its "
    "students imitate what the channel shows of its logits, and their accuracy on the test images "
    "is how much of the trait has passed. Chance is {chance:.2f}; intervals are over members, each "
    "with its own initialisation, teacher and noise."
)
_PREDICTED = (
    "Accuracy of each kind of student against what was known before: the cosine of its first step "
    "and the way to its teacher, the accuracy of its linearised twin, and that of the network "
    "where the twin lands. Lines: the best rising curve; dotted: equal."
)


def write(
    run_dir: RunDir,
    images: Images,
    sweeps: Sequence[Sweep],
    measured: Measured,
    timings: Mapping[str, float],
) -> None:
    """Writes `results.json`, `figures/`, `report.html` and `tables.md`; prints the summary."""
    trait, chance = run_dir.config["data"]["name"], 1 / images.classes
    accuracy = {cell: mean_ci(found["accuracy"][:, -1]) for cell, found in measured.items()}
    bits = {c: channels.bits(c.code, c.shown(images.classes), c.detail) for c in measured}
    rows = [
        _row(sweep, label, value, bits[cell], accuracy[cell], measured[cell], trait)
        for sweep in sweeps
        for label, line in sweep.lines.items()
        for value, cell in zip(sweep.values, line, strict=True)
    ]
    rows += [row for sweep in sweeps for row in _along(sweep, measured, trait)]
    predictions = _predictions(sweeps, accuracy, measured, trait)
    run_dir.write_results([*rows, *predictions], timings)
    counts = _counts(measured, run_dir.config["members"])
    about = _ABOUT.format(**counts, trait=trait, chance=chance)
    parts, text = [html.paragraph(about)], [about]
    for sweep in sweeps:
        draw = partial(_draw, sweep, accuracy, chance)
        svg = plots.write(run_dir, sweep.name, draw, (7.2, 3.8))
        header, table = _table(sweep, bits, accuracy, measured)
        caption = f"{sweep.title} Test accuracy; dotted: chance; crosses: published."
        parts += [html.heading(sweep.title), html.figure(svg, caption)]
        if sweep.curves:
            draw, size = partial(_draw_curves, sweep, measured), (7.2, 2.6 * len(sweep.curves))
            svg = plots.write(run_dir, f"{sweep.name}_along", draw, size)
            parts.append(html.figure(svg, f"{', '.join(sweep.curves)} along the training."))
        parts.append(html.details("The numbers", [html.table(header, table)]))
        text += [f"## {sweep.title}", html.markdown_table(header, table)]
    header, table = scores.table(predictions)
    title = "What could have been known before?"
    caption = (
        "Rank correlation (Spearman) of each predictor with the accuracy, over the cells; last, "
        "the mean error of an accuracy that is foretold by it: read off the best rising curve "
        "through the cells of other sweeps."
    )
    draw = partial(_draw_predictions, accuracy, measured)
    svg = plots.write(run_dir, "prediction", draw, (7.2, 3.6))
    parts += [html.heading(title), html.figure(svg, _PREDICTED)]
    parts += [html.paragraph(caption), html.table(header, table)]
    text += [f"## {title}", caption, html.markdown_table(header, table)]
    parts.append(html.run_again(run_dir.study, run_dir.config))
    run_dir.write("report.html", html.page("An atlas of subliminal learning", parts))
    run_dir.write("tables.md", "\n\n".join(text) + "\n")
    print(about, html.markdown_table(header, table), sep="\n\n")
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


def _row(
    sweep: Sweep,
    label: str,
    value: Any,
    bits: float,
    accuracy: Interval,
    found: Mapping[str, np.ndarray],
    trait: str,
) -> dict[str, Any]:
    return {
        "sweep": sweep.name,
        "arm": label,
        "trait": trait,
        "metric": "accuracy",
        **({sweep.field: value} if sweep.field else {}),
        **accuracy._asdict(),
        "bits": bits,
        "teacher": float(found["teacher"].mean()),
        "imitation": float(found["imitation"][:, -1].mean()),
        **scores.foreseen(found),
    }


def _along(sweep: Sweep, measured: Measured, trait: str) -> list[dict[str, Any]]:
    """Returns a row for each point of the sweep's curves: `done` is the share of the training."""
    return [
        {
            "sweep": sweep.name,
            "arm": label,
            "trait": trait,
            "metric": f"{name}_along",
            "done": point / POINTS,
            **interval._asdict(),
        }
        for name in sweep.curves
        for label, (cell,) in sweep.lines.items()
        for point, interval in enumerate(map(mean_ci, measured[cell][name].T))
    ]


def _draw_curves(sweep: Sweep, measured: Measured, figure: Figure) -> None:
    done = [point / POINTS for point in range(POINTS + 1)]
    panels = figure.subplots(len(sweep.curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, sweep.curves, strict=True):
        for label, (cell,) in sweep.lines.items():
            values = [mean_ci(at) for at in measured[cell][name].T]
            plots.curve(axes, done, values, marker="o", markersize=3, label=label)
        axes.set(ylabel=name)
    panels[-1].set_xlabel("share of the training")
    panels[0].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _table(
    sweep: Sweep,
    bits: Mapping[Cell, float],
    accuracy: Mapping[Cell, Interval],
    measured: Measured,
) -> tuple[list[str], list[list[str]]]:
    published = {(label, value): f"{figure:g} ({source})"
                 for label, value, figure, source in sweep.published}  # fmt: skip
    differ = len({bits[cell] for cell in distinct([sweep])}) > 1
    header = ["", *([sweep.field] if sweep.field else []), *(["bits a row"] if differ else [])]
    header += ["accuracy", "95% CI", "imitation loss", "teacher"]
    header += ["published"] if published else []
    table = []
    for label, line in sweep.lines.items():
        for value, cell in zip(sweep.values, line, strict=True):
            found, interval = measured[cell], accuracy[cell]
            cells = [label, *([f"{value}"] if sweep.field else [])]
            cells += [*([f"{bits[cell]:.3g}"] if differ else []), f"{interval.mean:.3f}"]
            cells.append(f"{interval.ci_low:.3f} to {interval.ci_high:.3f}")
            cells.append(f"{found['imitation'][:, -1].mean():.2g}")
            cells.append(f"{found['teacher'].mean():.3f}")
            table.append([*cells, *([published.get((label, value), "")] if published else [])])
    return header, table


def _predictions(
    sweeps: Sequence[Sweep], accuracy: Mapping[Cell, Interval], measured: Measured, trait: str
) -> list[dict[str, Any]]:
    """Returns rows for each predictor: of each sweep, and two of all cells together."""
    by_cell = {c: scores.foreseen(found) for c, found in measured.items() if not c.linear}
    groups = {sweep.name: distinct([sweep]) for sweep in sweeps} | {"all": distinct(sweeps)}
    first = {cell: sweep.name for sweep in reversed(sweeps) for cell in distinct([sweep])}
    rows = []

    def add(group: str, name: str, metric: str, score: scores.Score) -> None:
        row = {"sweep": group, "arm": name, "trait": trait, "metric": metric}
        rows.append({**row, "mean": score.value, "n": score.n, "cells": len(groups[group])})

    for group, cells in groups.items():
        found = [accuracy[cell].mean for cell in cells]
        for name in scores.PREDICTORS:
            predicted = [by_cell[cell][name] for cell in cells]
            add(group, name, "spearman", scores.correlation(predicted, found))
            if group == "all":
                sweep_of = [first[cell] for cell in cells]
                error = scores.calibration_error(predicted, found, sweep_of)
                add(group, name, "calibration_error", error)
    return rows


def _draw_predictions(
    accuracy: Mapping[Cell, Interval], measured: Measured, figure: Figure
) -> None:
    cells = [cell for cell in measured if not cell.linear]
    found = np.array([accuracy[cell].mean for cell in cells])
    names = ("coverage", "linear", "landed")
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        x = np.array([scores.foreseen(measured[cell])[name] for cell in cells])
        axes.plot(x, found, ".", color=plots.STUDENT, alpha=0.6)
        known = np.isfinite(x)
        if known.any():
            at = np.sort(x[known])
            axes.plot(at, scores.calibrated(x[known], found[known], at), color=plots.TEACHER)
        if name != "coverage":
            axes.plot([0, 1], [0, 1], ":", color="black", linewidth=1)
        axes.set(xlabel=name, ylim=(0, 1.02))
        axes.grid(True, alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy")


def _draw(sweep: Sweep, accuracy: Mapping[Cell, Interval], chance: float, figure: Figure) -> None:
    axes = figure.subplots()
    if not sweep.field:
        intervals = [accuracy[cell] for (cell,) in sweep.lines.values()]
        plots.bars_across(axes, list(sweep.lines), intervals, [plots.STUDENT] * len(intervals))
        axes.axvline(chance, linestyle=":", color="black", linewidth=1)
        axes.set(xlabel="test accuracy", xlim=(0, 1.12))
        return
    place = _places(axes, sweep)
    for label, line in sweep.lines.items():
        plots.curve(axes, place, [accuracy[c] for c in line], marker="o", markersize=3, label=label)
    colors = dict(zip(sweep.lines, (line.get_color() for line in axes.get_lines()), strict=False))
    for label, value, published, _ in sweep.published:
        if value in sweep.values:
            x = place[sweep.values.index(value)]
            axes.plot([x], [published], "x", color=colors.get(label, "black"), markersize=6)
    axes.axhline(chance, linestyle=":", color="black", linewidth=1)
    axes.set(xlabel=sweep.field, ylabel="test accuracy", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def _places(axes: Axes, sweep: Sweep) -> list[float]:
    """Returns where the values stand: on a logarithmic axis, a linear one, or side by side."""
    values = list(sweep.values)
    if not all(isinstance(v, int | float) for v in values):
        axes.set_xticks(range(len(values)), [str(v) for v in values])
        return [float(i) for i in range(len(values))]
    if min(values) > 0 and max(values) >= 8 * min(values):
        axes.set_xscale("log")
    return [float(v) for v in values]
