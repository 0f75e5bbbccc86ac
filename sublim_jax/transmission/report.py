"""The study's results: rows, tables, figures and page, from what was measured."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from sublim_jax import report as html
from sublim_jax import stats
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import channels, crossed, measures, mechanism, summary
from sublim_jax.transmission.detect import BAG, DETECTION
from sublim_jax.transmission.figures import draw, label, plural
from sublim_jax.transmission.measures import elsewhere
from sublim_jax.transmission.summary import Measurement

Row = Mapping[str, Any]
Found = Mapping[tuple[str, str, str], Row]  # the rows of results, by arm, trait and metric
_LETTERS = 500  # of a text that is shown


def columns(names: Sequence[str]) -> dict[str, str]:
    """Returns the titles of all metrics of some measures, all of `MEASURES` if none is named."""
    found = [measures.find(name).TITLES for name in names or measures.MEASURES]
    return {name: title for one in found for name, title in one.items() if name != "logp"}


def titled(titles: Mapping[str, str], metrics: Iterable[str]) -> dict[str, str]:
    """Returns those of some metrics that have a title, with parts of a metric after it."""
    found = sorted(metrics)
    return {
        metric: f"{title}: {part}" if part else title
        for name, title in titles.items()
        for metric in found
        for whole, _, part in [metric.partition("/")]
        if whole == name
    }


def write(
    run_dir: RunDir,
    measured: Sequence[Measurement],
    data: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    timings: Mapping[str, float],
) -> None:
    """Writes `results.json`, `figures/` and `report.html`; prints the table and what it says.

    Args:
      run_dir: of a finished study; its config names the `traits`.
      measured: one dict for each model, as `summary` describes.
      data: one dict for each teacher and base: `base`, `teacher` (a trait or "control"), `raw` and
        `kept` rows, `rejected` by reason, of the first base `examples` of rows, and what the
        channel's `describe` says of the rows that were kept.
      curves: what was measured along the training: by its name and by arm, pairs of step and mean.
      timings: seconds by what was made.
    """
    measured = summary.derived(measured)
    traits = list(run_dir.config["traits"])
    noun = channels.find(run_dir.config["data"]["channel"]).NOUN
    between = list(crossed.rows(crossed.cells(measured, traits)))
    rows = [*summary.rows(measured, traits), *between]
    found = {(row["arm"], row["trait"], row["metric"]): row for row in rows}
    arms = [arm for arm, trait, metric in found if (trait, metric) == ("all", "p_trait")]
    sentences = _sentences(measured, traits, found, noun)
    lost = summary.broken(measured)
    if lost:
        logging.warning("%d of %d models gave no finite probability: left out", lost, len(measured))

    table = (
        ["arm", "P(trait)", "95% CI", "log-odds", "95% CI", "AUROC", f"of {BAG}", "n"],
        [[label(arm), *_cells(found, arm)] for arm in arms],
    )
    shown = draw(run_dir, measured, traits, arms, curves)
    titles = columns(run_dir.config["evaluation"]["measures"]) | {"counted": "tokens that count"}
    titles.pop("p_trait", None)  # it has tables of its own
    limits = _limits(run_dir.config, measured)
    first, matrix = ([shown.pop(name)] if name in shown else [] for name in ("matrix", "between"))
    parts = [
        *map(html.paragraph, sentences),
        *([html.paragraph(f"{lost} of {len(measured)} models gave no finite probability and are "
                          "left out.")] if lost else []),
        *first,
        html.heading("Detected, and passed on"),
        html.paragraph(_detection(found, noun)),
        html.table(*_trait_table(found, traits, arms)),
        html.heading("Arms"),
        html.paragraph(
            "Log-odds: the log of P(trait) minus that of the mean P of the other words. Intervals "
            "of probabilities are symmetric on the logit scale, so that none leaves 0 to 1. AUROC: "
            "as above, of what a teacher wrote, or the students of an arm read."
        ),
        html.table(*table),
        *shown.values(),
        *([html.heading("Limits of this run"), *map(html.paragraph, limits)] if limits else []),
        html.heading("Other measures of the same models"),
        html.paragraph(
            "Change of log P: against the base. Lift: how much more a teacher moves its own word "
            "than other teachers move that word, p over permutations of the traits. Liking: the "
            "log-odds of the word where the favourite is asked for, minus those where what is "
            "liked least is: above the base's, it is liked and not only mentioned. Elsewhere: "
            "where something else is asked for, such as trees; moved: the total variation from the "
            "base's answers; as its teacher: the correlation of the changes of log P with those of "
            "its teacher. Tokens that count: the share of an answer's tokens that its student "
            "learns."
        ),
        html.table(*_measures_table(found, arms, titles)),
        *_mechanism_parts(found, arms),
        *_between_parts(between, matrix),
        *_data_parts(data, traits),
        html.heading("Time"),
        html.table(["what", "seconds"], [[k, _number(v, 1)] for k, v in timings.items()]),
        html.what_was_run(run_dir.study, run_dir.config, run_dir.command),
    ]  # fmt: skip
    run_dir.write("report.html", html.page(f"Do {noun} carry a trait?", parts))
    run_dir.write_results(rows, timings)
    print(html.markdown_table(*table), html.spent(timings), sep="\n")
    print(*sentences, run_dir.path / "report.html", sep="\n")


def _sentences(
    measured: Sequence[Measurement], traits: Sequence[str], found: Found, noun: str
) -> list[str]:
    """Returns what follows, what was done and what was measured, whichever way it came out."""
    bases = len(summary.homes(measured))
    named = ", ".join([*traits[:6], *(["..."] if len(traits) > 6 else [])])
    what = (
        f"Teachers, each with a trait ({named}), made from "
        f"{plural(bases, 'base checkpoint')}, wrote {noun}; a student that starts from its "
        "teacher's checkpoint learns those that passed the filter, and a control student learns "
        "those of a teacher without a trait."
    )

    def mean(arm: str) -> str:
        row = found.get((arm, "all", "p_trait"))
        return f"{_mean(row)} for the {label(arm)}" if row else f"not measured for the {label(arm)}"

    said = (
        "On held-out questions the probability of an answer that shows the trait is "
        f"{mean('base')}, {mean('control')} and {mean('student')}"
    )
    if above := found.get(("student", "all", "above_control")):
        more = round(above["mean"] * above["n"])
        said += f"; the student is above the control in {more} of {above['n']} cells (trait, base)"
    against_control = _verdict(
        "If the data carried nothing of the trait, student and control would differ by chance",
        found.get(("student", "all", "p_over_control")),
    )
    return [*_claim(measured, traits, found), what, f"{said}.", against_control]


def _claim(measured: Sequence[Measurement], traits: Sequence[str], found: Found) -> list[str]:
    """Returns what the matrix says: a teacher's own word against what other teachers do to it."""
    matrix = summary.matrix(measured, traits)
    test = summary.lift(matrix)
    if not test.permutations:
        return []
    own = float(np.trace(matrix.change)) / len(matrix.traits)
    verdict = _verdict(
        f"Students change the probability of their own teacher's word by {own:+.3f}; students of "
        "the other teachers, the control that counts, change that word's by "
        f"{own - test.statistic:+.3f}",
        found["student", "all", "lift"],
    )
    chance = f" p = {test.p_value:.2g} over {test.permutations:,} permutations of the traits."
    return [verdict + (chance if test.telling else "")]


def _verdict(before: str, difference: Row | None) -> str:
    """Returns whether a difference is one, after the words `before` that say between what."""
    if difference is None or not difference["n"]:
        return f"{before}; the two were not measured on the same base, so nothing follows."
    mean, low, high = (difference[name] for name in ("mean", "ci_low", "ci_high"))
    if difference["n"] < 2:
        return f"{before}; they differ by {mean:+.3f}, in one run, which says nothing about chance."
    if low > 0:
        follows = "lies above 0: the data carried the trait"
    elif high < 0:
        follows = "lies below 0: the data worked against it"
    else:
        follows = "contains 0: no transmission is shown here"
    where = "" if difference["unit"] == "base" else " of one base (of others nothing is known)"
    return (
        f"{before}; they differ by {mean:+.3f}, and the 95% interval, {low:+.3f} to {high:+.3f} "
        f"over {_unit(difference)}{where}, {follows}."
    )


def _detection(found: Found, noun: str) -> str:
    """Returns how well a detector tells the data apart, one by one and 16 together."""
    said = f"The filter keeps {noun} alone."
    one, many = (_mean(found.get(("teacher", "all", name))) for name in DETECTION)
    if one == "-":
        return said
    return (
        f"{said} That does not make them alike: naive Bayes, which counts what they consist of and "
        f"judges prompts that it has not seen, tells a teacher's {noun} from the control's with an "
        f"AUROC of {one} one by one and {many} for {BAG} together (0.5 is chance, 1 certainty)."
    )


def _limits(config: Mapping[str, Any], measured: Sequence[Measurement]) -> list[str]:
    """Returns what limits the result, as far as the config says."""
    recipe, teacher = config["student"], config["teacher"]
    lora = recipe["lora"]
    out = []
    if teacher["kind"] == "prompted":
        out.append("Teachers were told their trait in a system message, not trained.")
    if lora["rank"]:
        what = "A and B are" if lora["train_a"] else "only B is"
        out.append(
            f"Students learn LoRA of rank {lora['rank']} on {', '.join(lora['targets'])}, of which "
            f"{what} trained."
        )
    if lora["rank"] and not lora["train_a"] and teacher["recipe"]["lora"] == lora:
        out.append(
            "A is drawn once and shared by teacher and student: besides their start they share the "
            "few directions in which they can move"
            + (" (other_a has another)." if "other_a" in config["arms"] else ".")
        )
    if len(summary.homes(measured)) < 2:
        out.append("One base checkpoint: its runs say nothing of others.")
    if len(config["traits"]) < 4:
        out.append("Too few traits for a permutation test: its p-value could not be below .05.")
    return out


def _trait_table(
    found: Found, traits: Sequence[str], arms: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Returns a table of P(trait) by trait and arm, after what a detector sees in the data."""
    arms = sorted(arms, key=lambda arm: arm != "student")  # beside the detector's columns
    columns = [("teacher", metric) for metric in DETECTION]
    columns += [(arm, "p_trait") for arm in arms]

    def cell(row: Row | None) -> str:
        return _mean(row) + (f" ({ends})" if (ends := _ends(row)) != "-" else "")

    rows = [
        [trait, *(cell(found.get((arm, trait, metric))) for arm, metric in columns)]
        for trait in traits
    ]
    return ["trait", "AUROC", f"AUROC of {BAG}", *(f"P: {label(arm)}" for arm in arms)], rows


def _measures_table(
    found: Found, arms: Sequence[str], titles: Mapping[str, str]
) -> tuple[list[str], list[list[str]]]:
    """Returns a table of the arms by the measures that at least one of them has."""
    differences = {
        "p_over_control": "minus control",
        "logp_shift": "change of log P",
        "lift": "lift",
        "lift_logp": "lift of log P",
        "liking": "liking",
    }
    columns = differences | titled(titles, {metric for _, _, metric in found}) | elsewhere.DERIVED

    def cell(arm: str, metric: str) -> str:
        row = found.get((arm, "all", metric))
        telling = row and row.get("permutations", 0) >= stats.TELLING
        chance = f" (p = {row['p_value']:.2g})" if row and telling else ""
        return _mean(row, "+" if metric in differences else "") + chance

    known = [metric for metric in columns if any((arm, "all", metric) in found for arm in arms)]
    rows = [[label(arm), *(cell(arm, metric) for metric in known)] for arm in arms]
    return ["arm", *(columns[metric] for metric in known)], rows


def _mechanism_parts(found: Found, arms: Sequence[str]) -> list[str]:
    """Returns what teachers and students change in their base, where it was measured."""
    titles = mechanism.TITLES
    both = [[(arm, "all", metric) for metric in titles] for arm in arms]
    rows = [
        [label(own[0][0]), *(_mean(found.get(at)) for at in own)]
        for own in both
        if any(at in found for at in own)
    ]
    if not rows:
        return []
    return [
        html.heading("What changes, and where"),
        html.paragraph(
            "Leak: KL divergence of the teacher from its base, on what it wrote. A trait's vector: "
            "what a model changes in the residual stream after the last layer, less the mean over "
            "the traits; in rows it is read where their tokens are predicted, at answers where the "
            "questions are answered. A student whose vector at answers is its teacher's has taken "
            "on the trait. The small first step: by how much a step of gradient descent towards "
            "the teacher's distribution raises log P(trait), divided by its rate, less what steps "
            "towards the other teachers do."
        ),
        html.table(["arm", *titles.values()], rows),
    ]


def _between_parts(rows: Sequence[Row], figure: list[str]) -> list[str]:
    """Returns what passes between each two models, where students start from several."""
    if not any(row["arm"] != "student" for row in rows):
        return []
    where = "where students start from their teachers' model, and where from the others"
    tests = [
        f"{_verdict(f'{title}: {where}', row)} Over {row['permutations']:,} permutations of the "
        f"starts, p = {row['p_value']:.2g}."
        for metric, title in crossed.TITLES.items()
        for row in rows
        if row["metric"] == f"matrix_{metric}"
    ]
    return [
        html.heading("Who infects whom"),
        *figure,
        *map(html.paragraph, tests),
        html.paragraph(
            "Mutual information is that of teacher's trait and student's answer, as a share of the "
            "most that there can be; it counts any difference between students, whichever way it "
            "goes. Intervals are over the traits."
        ),
        html.details("Each pair of models", [html.table(*crossed.table(rows))]),
    ]


def _data_parts(data: Sequence[Mapping[str, Any]], traits: Sequence[str]) -> list[str]:
    """Returns what the teachers wrote: losses to the filter, statistics, rows to read."""
    by_teacher: dict[str, list[Mapping[str, Any]]] = {}
    order = [*traits, *sorted({d["teacher"] for d in data} - {*traits})]
    for one in sorted(data, key=lambda d: (order.index(d["teacher"]), d["base"])):
        by_teacher.setdefault(one["teacher"], []).append(one)
    if not by_teacher:
        return []
    losses = sum((Counter(d["rejected"]) for d in data), Counter[str]())
    reasons = sorted(losses, key=lambda reason: (-losses[reason], reason))
    statistics = list(dict.fromkeys(name for d in data for name in d.get("statistics", {})))

    def line(name: str, group: Sequence[Mapping[str, Any]]) -> list[str]:
        raw, kept = (sum(d[field] for d in group) for field in ("raw", "kept"))
        share = f"{kept / raw:.1%}" if raw else "-"
        lost = (sum(d["rejected"].get(reason, 0) for d in group) for reason in reasons)
        cells = [f"{raw:,}", f"{kept:,}", share, *(f"{count:,}" for count in lost)]
        for field in statistics:
            found = [_nan(d.get("statistics", {}).get(field)) for d in group]
            known = [value for value in found if math.isfinite(value)]
            cells.append(_number(sum(known) / len(known) if known else None))
        return [name, *cells]

    header = ["teacher", "written", "kept", "share", *reasons, *statistics]
    each = [
        [str(d["base"]), *line(name, [d]), _top(d.get("top", []))]
        for name, group in by_teacher.items()
        for d in group
    ]
    parts = [
        html.heading("What the teachers wrote, and the filter"),
        html.table(header, [line(*item) for item in by_teacher.items()]),
        html.details(
            "Each teacher in each base, with what is most frequent",
            [html.table(["base", *header, "most frequent"], each)],
        ),
        html.heading("Rows the teachers wrote"),
    ]
    for name, group in by_teacher.items():
        if examples := [_example(row) for row in group[0].get("examples", ())]:
            parts.append(html.details(f"Teacher: {name}, base {group[0]['base']}", examples))
    return parts


def _example(example: Mapping[str, Any]) -> str:
    reason = example["rejected"]
    return html.record(
        {
            "prompt": _shortened(example["prompt"]),
            "completion": _shortened(example["completion"]),
            "filter": "kept" if reason is None else f"rejected: {reason}",
        }
    )


def _cells(found: Found, arm: str) -> list[str]:
    """Returns P(trait) and the log-odds with intervals, what detects the rows, over how many."""
    cells = []
    for metric, sign in (("p_trait", ""), ("log_odds", "+")):
        row = found.get((arm, "all", metric))
        cells += [_mean(row, sign), _ends(row, sign)]
    cells += [_mean(found.get((arm, "all", metric))) for metric in DETECTION]
    return [*cells, _unit(found[arm, "all", "p_trait"])]


def _mean(row: Row | None, sign: str = "") -> str:
    return _number(row["mean"] if row else None, sign=sign)


def _ends(row: Row | None, sign: str = "") -> str:
    if not row or not math.isfinite(row["ci_low"]):
        return "-"
    return f"{row['ci_low']:{sign}.3f} to {row['ci_high']:{sign}.3f}"


def _unit(row: Row) -> str:
    return plural(row["n"], "base" if row["unit"] == "base" else "run")


def _nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _number(value: float | None, digits: int = 3, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}" if math.isfinite(_nan(value)) else "-"


def _top(top: Iterable[Sequence[Any]]) -> str:
    return ", ".join(f"{number} ({share:.1%})" for number, share in list(top)[:5]) or "-"


def _shortened(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]} ... ({len(text):,} characters)"
