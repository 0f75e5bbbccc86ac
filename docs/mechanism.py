"""What prompted teachers leak, and what passes: the table and the figure of all their studies."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from sublim_jax import plots
from sublim_jax.report import markdown_table

_COLUMNS = {
    ("teacher", "leak"): "leak (nats a token)",
    ("teacher", "auroc_16"): "16 lists told apart",
    ("teacher", "visible"): "lists show its vector",
    ("teacher", "vector_cosine"): "cosine: its vectors in lists and at answers",
    ("student", "in_rows"): "cosine in lists: student's and teacher's",
    ("student", "at_answers"): "cosine at answers: student's and teacher's",
    ("student", "p_trait"): "P(trait)",
    ("student", "lift_logp"): "lift (nats)",
}

_CELLS = {
    ("teacher", "leak"): _COLUMNS["teacher", "leak"],
    ("teacher", "first_order"): "lift by a small first step",
    **{at: _COLUMNS[at] for at in [("teacher", "visible"), ("teacher", "vector_cosine"),
                                   ("student", "in_rows"), ("student", "at_answers")]},
}  # fmt: skip

_STUDENTS = "student-0.json"  # of the arm `student`, seed 0

Runs = Mapping[str, Mapping[str, Any]]  # results by name


def table(runs: Runs) -> str:
    """Returns a row for each study: means over its bases, of the lift with the 95% interval."""
    rows = []
    for name, results in runs.items():
        found = over_all(results)
        cells = [f"{found[metric, arm]['mean']:.3f}" for arm, metric in _COLUMNS]
        lift = found["lift_logp", "student"]
        ends = [lift["ci_low"], lift["ci_high"]]
        cells[-1] = f"{lift['mean']:+.2f} ({ends[0]:+.2f} to {ends[1]:+.2f})"
        rows.append([name, *cells])
    return markdown_table(["", *_COLUMNS.values()], rows)


def cells(run: Path) -> list[dict[str, Any]]:
    """Returns what was measured of each base and trait of a run, and the lift of log P there.

    Raises:
      SystemExit: the run holds what was made by several configs.
    """
    out = []
    for file in sorted(run.glob("mechanism/*/teachers.json")):
        base = file.parent.name
        teachers, students = (_read(file.with_name(name)) for name in ("teachers.json", _STUDENTS))
        logp = {
            trait: _read(run / f"measured/{base}/student-{trait}-{base}-0.favourite.json")["logp"]
            for trait in students
        }
        for trait in students:
            others = [logp[other][trait] for other in logp if other != trait]
            lift = logp[trait][trait] - float(np.mean(others))
            both = {"teacher": teachers[trait], "student": students[trait]}
            measured = {metric: both[arm][metric] for arm, metric in _CELLS}
            measured["leak_along"] = teachers[trait]["leak_along"]
            out.append({"base": int(base), "trait": trait, "lift_logp": lift, **measured})
    return out


def along(runs: Runs) -> str:
    """Returns the leak at each place of the lists, the mean over the cells of each run."""
    rows = []
    for name, results in runs.items():
        found = [cell["leak_along"] for cell in results["cells"]]
        shortest = min(map(len, found))
        means = np.mean([own[:shortest] for own in found], axis=0)
        rows.append([name, *(f"{value:.3f}" for value in means)])
    places = max(map(len, rows)) - 1
    rows = [row + ["-"] * (places + 1 - len(row)) for row in rows]
    return markdown_table(["", *map(str, range(1, places + 1))], rows)


def correlations(runs: Runs) -> str:
    """Returns the rank correlations of measures with the lift, over the cells of each run.

    And, of the same, the mean of those within each base.
    """
    rows = []
    for (_, metric), title in _CELLS.items():
        shown = []
        for results in runs.values():
            bases = {cell["base"] for cell in results["cells"]}
            within = [_rank(results["cells"], metric, base) for base in sorted(bases)]
            shown += [_rank(results["cells"], metric), float(np.mean(within))]
        rows.append([title, *(f"{value:+.2f}" for value in shown)])
    return markdown_table(
        ["", *(f"{name}{of}" for name in runs for of in ("", ", in a base"))], rows
    )


def _rank(cells: Sequence[Mapping[str, Any]], metric: str, base: int | None = None) -> float:
    """Returns the rank correlation of a metric with the lift, over all cells or those of a base."""
    some = [cell for cell in cells if base in (None, cell["base"])]
    values, lift = ([cell[name] for cell in some] for name in (metric, "lift_logp"))
    return float(spearmanr(values, lift).statistic)


def figure(runs: Runs) -> bytes:
    """Returns the figure, SVG: what leaks against what passes, a point for each study."""

    def draw(canvas: Figure) -> None:
        axes = canvas.add_subplot()
        for name, results in runs.items():
            found = over_all(results)
            leak, lift = found["leak", "teacher"]["mean"], found["lift_logp", "student"]
            reach = [[lift["mean"] - lift["ci_low"]], [lift["ci_high"] - lift["mean"]]]
            own = name.startswith("voices") or name == "prompted.py"
            color = plots.STUDENT if own else plots.REFERENCE
            axes.errorbar(leak, lift["mean"], reach, fmt="o", color=color, capsize=2, ms=4)
            axes.annotate(
                name,
                (leak, lift["mean"]),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=7,
                color=color,
            )
        axes.axhline(0, color="#888888", lw=0.8, ls=":")
        axes.set_xscale("log")
        axes.set_xlabel("leak: KL(teacher || base), nats a token")
        axes.set_ylabel("lift of log P(trait), nats")

    return plots.render(draw, (6.4, 4.0))["svg"]


def _read(record: Path) -> Any:
    """Returns what an artefact's record says was found."""
    if other := next(record.parent.glob(f"{record.stem}-*"), None):
        sys.exit(
            f"error: {other}: another config's, beside {record.name}: remove the run, repeat it"
        )
    return json.loads(record.read_text("utf-8"))["found"]


def over_all(results: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Returns the rows over all traits, by metric and arm."""
    return {(r["metric"], r["arm"]): r for r in results["rows"] if r["trait"] == "all"}
