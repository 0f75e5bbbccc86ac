"""What was detected, beside what was passed on: sentences, tables, figures and a page."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublim_jax import plots
from sublim_jax import report as html
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import channels, detection_results
from sublim_jax.transmission.detect import (
    AGAINST,
    BAG,
    DETECTION,
    human,
    layout,
    naive_bayes,
    ngrams,
    prompted,
    reader,
)
from sublim_jax.transmission.detection_results import (
    LEAKS,
    PASSED,
    Found,
    Row,
    find,
    interval_of,
)
from sublim_jax.transmission.figures import label, plural
from sublim_jax.transmission.finished import Finished
from sublim_jax.transmission.teacher import CONTROL

TITLES = {
    "naive_bayes": naive_bayes.TITLE,
    "ngrams": ngrams.TITLE,
    "layout": layout.TITLE,
    "reader": reader.TITLE,
    "prompted": prompted.TITLE,
    "human": human.TITLE,
}
LEAST = 0.95  # AUROC of bags with overt leaks, below which a detector counts for nothing
SEES, SEES_NOT, WORTHLESS = "sees it", "does not see it", "counts for nothing"
_COLORS = (plots.TEACHER, plots.OTHER, plots.REFERENCE)  # of `AGAINST`
_PASSED_COLORS = (plots.REFERENCE, plots.CONTROL, plots.STUDENT)
_LESS = {"logp_over_control": "the control's", "logp_over_other": "another trait's"}


def write(
    run_dir: RunDir,
    run: Finished,
    traits: Sequence[str],
    found: Sequence[Found],
    games: Sequence[human.Game],
) -> None:
    """Writes all files of a run; `results.json`, which says that it is complete, the last.

    Args: as in `detection_results.rows`.
    """
    rows = detection_results.rows(run, traits, found, games)
    noun = channels.find(run.config.data.channel).NOUN
    detectors, context = _detector_table(rows), _context_table(rows)
    sentences = _sentences(rows, noun)
    seconds = {name: math.fsum(own.seconds[name] for own in found) for name in found[0].seconds}
    bars = plots.write(run_dir, "detectors", lambda f: _draw_detectors(f, rows), (9.0, 4.0))
    curves = plots.write(run_dir, "in_context", lambda f: _draw_context(f, rows), (5.4, 3.4))
    parts = [
        *map(html.paragraph, sentences),
        html.figure(
            bars,
            f"Left: AUROC of {BAG} rows against {BAG} others, with 95% intervals; 0.5 is chance. "
            "Right: what students took on that learnt these rows.",
        ),
        html.heading("Detectors"),
        html.paragraph(
            f"AUROC of one row and of {BAG} together, means over the traits, with 95% intervals "
            f"{_unit(rows)}. Leaks, the positive control: rows of the control with the trait's "
            "word put into half of them, against the same rows without."
        ),
        html.table(*detectors),
        html.table(*_trait_table(rows, traits)),
        html.heading("Items that differ most from the control's"),
        html.table(
            ["trait", "item: share of all, and of the control's"],
            [[t, ", ".join(map(_item, own))] for t, own in found[0].items.items()],
        ),
        html.heading("The same rows in context, and learnt"),
        html.paragraph(
            "Rows of a teacher as turns of a chat before the question: log P(trait) in nats, and "
            "how much more it is than after the control's rows, or those of other traits' "
            "teachers. Learnt: the same differences between students that learnt all rows."
        ),
        html.table(*context),
        html.figure(curves, "The same, with 95% intervals; dashed: learnt."),
        html.heading("Time"),
        html.table(["what", "seconds"], [[k, f"{v:.1f}"] for k, v in seconds.items()]),
        html.what_was_run(run_dir.study, run_dir.config, run_dir.command),
    ]
    tables = [html.markdown_table(*table) for table in (detectors, context)]
    run_dir.write("table.md", "\n\n".join([*tables, "\n".join(sentences)]) + "\n")
    items = [{t: [list(item) for item in some] for t, some in own.items.items()} for own in found]
    run_dir.write_json("items.json", items)
    run_dir.write("report.html", html.page(f"Does anything see a trait in {noun}?", parts))
    run_dir.write_results(rows, seconds)


def _sentences(rows: Sequence[Row], noun: str) -> list[str]:
    """Returns which detectors see the trait, what was passed on, and what rows do in context."""
    said: dict[str, list[str]] = {SEES: [], SEES_NOT: [], WORTHLESS: []}
    for name in (name for name in TITLES if _telling(rows, name)):
        verdict = _verdict(rows, name)
        shown = _telling(rows, name, LEAKS if verdict == WORTHLESS else CONTROL)
        said[verdict].append(f"{TITLES[name]} {_cell(shown)}")
    which = (
        f"a teacher's {noun} from the control's (AUROC, {BAG} against {BAG}; people 1 against 1)"
    )
    out = [f"These tell {which}: {', '.join(said[SEES]) or 'none'}."]
    if said[SEES_NOT]:
        out.append(f"These do not: {', '.join(said[SEES_NOT])}.")
    if said[WORTHLESS]:
        out.append(
            f"These count for nothing, as they do not even see the trait's word put into {noun} "
            f"(below {LEAST}): {', '.join(said[WORTHLESS])}."
        )
    if passed := find(rows, "student", "p_over_control"):
        out.append(f"Students that learnt them: P(trait) {_cell(passed, '+')} over the control's.")
    out.append(
        "Detection and transmission are two things: a detector says that data differ, not that the "
        "difference does anything to who learns them; and that none finds one does not show that "
        "there is none."
    )
    most = max((row["shown"] for row in rows if "shown" in row), default=0)
    for metric, than in _LESS.items():
        if row := find(rows, "in_context", metric, shown=most):
            learnt = _cell(find(rows, "learnt", metric), "+")
            out.append(
                f"In context, log P(trait) after {plural(most, 'row')} is higher than after {than} "
                f"by {_cell(row, '+')} nats; learnt, all rows: {learnt}."
            )
    return out


def _telling(rows: Sequence[Row], name: str, against: str = CONTROL) -> Row | None:
    """Returns a detector's row for bags, or that for single rows of one that has no other."""
    found = (find(rows, name, metric, against=against) for metric in reversed(DETECTION))
    return next((row for row in found if row), None)


def _verdict(rows: Sequence[Row], name: str) -> str:
    """Returns whether a detector sees the trait: whether chance is below its 95% interval."""
    leaks, row = _telling(rows, name, LEAKS), _telling(rows, name)
    if row is None or (leaks and not leaks["mean"] >= LEAST):
        return WORTHLESS
    low = row["ci_low"] if math.isfinite(row["ci_low"]) else row["mean"]  # all bases alike
    return SEES if low > 0.5 else SEES_NOT


def _detector_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    columns = [(against, metric) for against in AGAINST for metric in DETECTION]
    sizes = dict(zip(DETECTION, (1, BAG), strict=True))
    header = ["detector", *(f"{against}, {sizes[metric]}" for against, metric in columns), ""]
    return header, [
        [
            TITLES[name],
            *(_cell(find(rows, name, metric, against=against)) for against, metric in columns),
            _verdict(rows, name),
        ]
        for name in TITLES
        if _telling(rows, name)
    ]


def _trait_table(rows: Sequence[Row], traits: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Returns a table of the AUROC of bags against the control by trait, and of what passed on."""
    columns = [(name, DETECTION[1]) for name in TITLES] + [(arm, "p_trait") for arm in PASSED]
    columns = [at for at in columns if any(find(rows, *at, trait) for trait in traits)]
    header = ["trait", *(TITLES.get(arm, f"P: {label(arm)}") for arm, _ in columns)]
    return header, [[t, *(_cell(find(rows, *at, t)) for at in columns)] for t in traits]


def _context_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["rows in context", "log P(trait)", *(f"over {than}" for than in _LESS.values())]

    def line(name: str, arm: str, **more: Any) -> list[str]:
        moved = (_cell(find(rows, arm, metric, **more), "+") for metric in _LESS)
        return [name, _cell(find(rows, arm, "logp", **more)), *moved]

    counts = dict.fromkeys(row["shown"] for row in rows if "shown" in row)
    lines = [line(str(n), "in_context", shown=n) for n in counts]
    return header, [*lines, line("learnt, all rows", "learnt")]


def _draw_detectors(figure: Figure, rows: Sequence[Row]) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    names = [name for name in TITLES if _telling(rows, name)]
    series = {
        against: [interval_of(_telling(rows, name, against)) for name in names]
        for against in AGAINST
    }
    dots: dict[str, list[list[float]]] = {against: [[] for _ in names] for against in AGAINST}
    plots.grouped_bars(left, [TITLES[name] for name in names], series, _COLORS, dots)
    left.axhline(0.5, linestyle=":", color="black", linewidth=1)
    left.set_ylabel("AUROC")
    left.set_ylim(0, 1.02)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    passed = [interval_of(find(rows, arm, "p_trait")) for arm in PASSED]
    plots.bars_across(right, [label(arm) for arm in PASSED], passed, _PASSED_COLORS)
    right.set_xlabel("P(trait)")
    right.set_xlim(left=0)


def _draw_context(figure: Figure, rows: Sequence[Row]) -> None:
    axes: Axes = figure.subplots()
    counts = list(dict.fromkeys(row["shown"] for row in rows if "shown" in row))
    place = range(len(counts))
    for (metric, than), color in zip(_LESS.items(), (plots.STUDENT, plots.TEACHER), strict=True):
        found = [interval_of(find(rows, "in_context", metric, shown=n)) for n in counts]
        plots.curve(axes, place, found, color=color, label=f"over {than}")
        if learnt := find(rows, "learnt", metric):
            axes.axhline(learnt["mean"], color=color, linestyle="--", linewidth=1)
    axes.set_xticks(place, list(map(str, counts)))
    axes.set_xlabel("rows in context")
    axes.set_ylabel("log P(trait), nats")
    axes.legend(frameon=False)


def _item(one: naive_bayes.Share) -> str:
    return f"{one.item}: {one.own:.1%}, {one.other:.1%}"


def _cell(row: Row | None, sign: str = "") -> str:
    """Returns a mean with its interval, as far as there is one."""
    if row is None or not math.isfinite(row["mean"]):
        return "-"
    ends = f" ({row['ci_low']:{sign}.3f} to {row['ci_high']:{sign}.3f})"
    return f"{row['mean']:{sign}.3f}{ends if math.isfinite(row['ci_low']) else ''}"


def _unit(rows: Sequence[Row]) -> str:
    if any(row["arm"] in TITLES and row["unit"] == "base" for row in rows):
        return "over the bases"
    return "over the prompts of one base, by the bootstrap (of other bases they say nothing)"
