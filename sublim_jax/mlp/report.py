"""The study's results: rows, table, figures and page, from the members' records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from matplotlib.figure import Figure

from sublim_jax import plots
from sublim_jax import report as html
from sublim_jax.mlp.data import Images
from sublim_jax.mlp.inputs import NOISE
from sublim_jax.mlp.train import Rows
from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval, mean_ci

_LABELS = {
    "reference": "reference",
    "teacher": "teacher",
    "student_aux": "student (aux. logits)",
    "student_all": "student (all logits)",
    "student_tasks": "student (task logits)",
    "cross_aux": "cross-init. (aux. logits)",
    "cross_all": "cross-init. (all logits)",
    "cross_tasks": "cross-init. (task logits)",
    "matched_base": "matched, before",
    "matched_aux": "matched (aux. logits)",
}


def write(
    run_dir: RunDir,
    images: Images,
    members: Sequence[Mapping[str, Any]],
    timings: Mapping[str, float],
) -> None:
    """Writes `results.json`, `metrics.jsonl`, `figures/` and `report.html`; prints the table.

    Args:
      members: the records of `study.train_members`.
      timings: seconds by stage.
    """
    config = run_dir.config
    teacher = np.array([m["teacher_accuracy"] for m in members])
    students = np.array([m["accuracy"] for m in members])
    curves = {"teacher": teacher} | {arm: students[:, :, i] for i, arm in enumerate(config["arms"])}
    final = {"reference": teacher[:, 0]}
    for arm, curve in curves.items():
        if arm == "matched_aux":
            final["matched_base"] = curve[:, 0]
        final[arm] = curve[:, -1]
    _warn_of_divergence(config["arms"], members)

    trait = config["data"]["name"]
    rows = [
        {"arm": arm, "trait": trait, "metric": "accuracy", **mean_ci(values)._asdict()}
        for arm, values in final.items()
    ]
    steps = _steps(config, images)
    summaries = {arm: [mean_ci(column) for column in curve.T] for arm, curve in curves.items()}
    metrics = [
        {"arm": arm, "step": step, "metric": "accuracy", **interval._asdict()}
        for arm, intervals in summaries.items()
        for step, interval in zip(steps[arm != "teacher"], intervals, strict=True)
    ]
    run_dir.write_jsonl("metrics.jsonl", metrics)

    chance = 1 / images.classes
    size = (6.4, 0.9 + 0.32 * len(final))
    bars = plots.write(run_dir, "accuracy", lambda figure: _draw_bars(figure, final, chance), size)
    lines = plots.write(
        run_dir, "curves", lambda figure: _draw_curves(figure, summaries, steps, chance), (9.6, 3.6)
    )
    header = ["arm", "test accuracy", "95% CI", "n"]
    table = [[_LABELS[arm], *_cells(mean_ci(values))] for arm, values in final.items()]
    parts = [
        html.paragraph(
            f"{len(members)} teachers learned {trait} from labelled images; their students saw "
            f"{config['student']['inputs']} inputs and some of the teacher's logits on them. "
            f"Chance is {chance:.3f}. Intervals are over members, each with its own seed."
        ),
        html.table(header, table),
        html.figure(
            bars, "Test accuracy by arm; 95% intervals and dots over members; dotted line: chance."
        ),
        html.figure(
            lines,
            "Test accuracy while the teacher learns (left) and while its students imitate (right).",
        ),
        html.what_was_run(run_dir.study, config, run_dir.command),
    ]
    run_dir.write("report.html", html.page("Subliminal learning in an MLP", parts))
    run_dir.write_results(rows, timings)
    print(html.markdown_table(header, table))
    print(html.spent(timings))
    print(f"written to {run_dir.path}: report.html, results.json, figures/")


def _cells(interval: Interval) -> list[str]:
    bounds = f"{interval.ci_low:.3f} to {interval.ci_high:.3f}" if interval.n > 1 else "-"
    return [f"{interval.mean:.3f}", bounds, str(interval.n)]


def _steps(config: Mapping[str, Any], images: Images) -> tuple[list[int], list[int]]:
    """Returns the optimiser steps at which the teacher, and the students, were evaluated."""
    train = len(images.train_x)
    student_rows = config["student"]["rows"] if config["student"]["inputs"] in NOISE else train
    out = []
    for phase, rows in (("teacher", train), ("student", student_rows)):
        epochs, every = config[phase]["epochs"], config[phase]["evaluate_every"]
        per_epoch = Rows(rows, config["batch"]).steps
        out.append([epoch * per_epoch for epoch in range(0, epochs + 1, every)])
    return out[0], out[1]


def _warn_of_divergence(arms: Sequence[str], members: Sequence[Mapping[str, Any]]) -> None:
    losses = np.array([m["loss"] for m in members])
    broken = {arm: ~np.isfinite(losses[:, :, i]).all(1) for i, arm in enumerate(arms)}
    broken["teacher"] = ~np.isfinite(np.array([m["teacher_loss"] for m in members])).all(1)
    for arm, which in broken.items():
        if which.any():
            logging.warning(
                "%s: the loss is not finite in %d of %d members: lower the learning rate",
                arm, which.sum(), len(members),
            )  # fmt: skip


def _draw_bars(figure: Figure, final: Mapping[str, np.ndarray], chance: float) -> None:
    axes = figure.subplots()
    labels, colors = zip(*((_LABELS[arm], _color(arm)) for arm in final), strict=True)
    intervals, runs = zip(*((mean_ci(x), x.tolist()) for x in final.values()), strict=True)
    plots.bars_across(axes, labels, intervals, colors, runs)
    axes.axvline(chance, linestyle=":", color="black", linewidth=1)
    axes.set(xlabel="test accuracy", xlim=(0, 1.12))


def _color(arm: str) -> str:
    if arm.startswith(("cross", "matched")):
        return plots.OTHER
    return {"reference": plots.REFERENCE, "teacher": plots.TEACHER}.get(arm, plots.STUDENT)


def _draw_curves(
    figure: Figure,
    curves: Mapping[str, Sequence[Interval]],
    steps: tuple[list[int], list[int]],
    chance: float,
) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    for arm, intervals in curves.items():
        if arm == "teacher":
            plots.curve(left, steps[0], intervals, color=plots.TEACHER, label=_LABELS[arm])
        else:
            dashes = "-" if arm.startswith("student") else "--"
            plots.curve(right, steps[1], intervals, linestyle=dashes, label=_LABELS[arm])
    for axes, title in ((left, "teaching"), (right, "imitating")):
        axes.axhline(chance, linestyle=":", color="black", linewidth=1)
        axes.set(xlabel="optimiser steps", title=title, ylim=(0, 1.02))
    left.set_ylabel("test accuracy")
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
