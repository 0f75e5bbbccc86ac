"""The report of an audit: its table, a picture, the rows that do most, and what it cannot see."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sublim_jax import plots, report
from sublim_jax.llm.files import rows
from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval
from sublim_jax.transmission.audit import verdicts
from sublim_jax.transmission.audit.verdicts import Finding

_SHOWN = 5  # rows of each trait that rises
_COLORS = {verdicts.RISES: "tab:red", verdicts.FALLS: "tab:blue"}
_LIMITS = (
    "A shift is that of a student which starts from this base and is trained by this recipe. "
    "Another base, or a fine-tune of all weights, may take on other traits from the same rows.",
    "Only the traits in the table were watched, by these questions. A trait that shows under a "
    "trigger alone is not seen.",
    "What can be told from the rows need not pass to a student: a verdict is about what passes.",
    "The p-value is the chance that rows which the base itself had written would give so large a "
    "shift, times the number of traits. Rows of any other writer may move a student a little "
    "without any intent.",
)


def parts(
    run_dir: RunDir,
    findings: Sequence[Finding],
    table: tuple[list[str], list[list[str]]],
    given: Sequence[rows.Row],
    parts_NK: np.ndarray | None,
) -> list[str]:
    """Returns the parts of the page, and writes its figure."""
    ordered = sorted(findings, key=lambda one: -abs(one.shift))
    size = (6.4, 1.2 + 0.28 * len(ordered))
    picture = plots.write(run_dir, "shifts", lambda figure: _draw(figure, ordered), size)
    out = [
        report.table(*table),
        report.figure(picture, "Expected change of log-odds, with 80% intervals."),
    ]
    for k, one in enumerate(findings):
        if one.verdict == verdicts.RISES and parts_NK is not None:
            most = np.argsort(-parts_NK[:, k], kind="stable")[:_SHOWN]
            shown = [
                [f"{parts_NK[i, k]:+.4f}", _text(given[i].asked), _text(given[i].answer)]
                for i in most
            ]
            out += [
                report.heading(f"Rows that raise {one.trait} most"),
                report.table(["log-odds", "prompt", "completion"], shown),
            ]
    out += [report.heading("What this does not tell"), *map(report.paragraph, _LIMITS)]
    return [*out, report.what_was_run(run_dir.study, run_dir.config, run_dir.command)]


def _draw(figure: Figure, findings: Sequence[Finding]) -> None:
    axes = figure.subplots()
    values = [Interval(one.shift, one.low, one.high, 1) for one in findings]
    colors = [_COLORS.get(one.verdict, "0.7") for one in findings]
    plots.bars_across(axes, [one.trait for one in findings], values, colors)
    axes.set_xlabel("expected change of log-odds")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."
