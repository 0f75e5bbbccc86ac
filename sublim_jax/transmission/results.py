"""What a finished study has found, read from its artefacts: no model is loaded."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sublim_jax.llm.files import jsonl
from sublim_jax.transmission import mechanism
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.detect import detected, naive_bayes
from sublim_jax.transmission.student import Data, Student
from sublim_jax.transmission.study import Study
from sublim_jax.transmission.teacher import CONTROL

_SHOWN = 8  # rows of each teacher in the report
_CURVES = {"training loss": "loss", "P(trait), geometric mean": "held_out_loss"}


def measured(study: Study, data: Data) -> list[dict[str, Any]]:
    """Returns a measurement of every model, as `summary` takes it.

    Besides what the measures say it has of a student `counted`, the share of its tokens that it
    learnt from; and `auroc` and `auroc_16`, how well a detector tells the rows that it read, or
    that a teacher wrote, from the control's; and what `mechanism` measures of the two.
    """
    out = []
    apart: dict[Any, dict[str, float]] = {}
    for number, model in ((n, model) for n in study.numbers for model in study.models(n)):
        one = model.student
        about = {"arm": model.arm, "trait": model.trait, "base": number}
        about["seed"] = one.seed if one else 0
        if one:
            names = [study.names[n] for n in (one.teachers, number)]
            about |= {"teachers": one.teachers, "models": names}
        for name in study.asked.questions:
            about |= study.measured(number, model, name).found() or {}
        followed = study.imitating(number)
        if one in followed or (model.arm == "teacher" and followed):
            at = (one.arm, one.seed) if one else ()
            own = (study.traced(number, *at).found() or {}).get(model.trait, {})
            about |= {name: {model.trait: own[name]} for name in mechanism.TITLES if name in own}
        if one and model.learnt:
            known = model.learnt.found() or {}
            if not known["finite"]:
                about |= {
                    name: dict.fromkeys(x, math.nan)
                    for name, x in about.items()
                    if isinstance(x, Mapping)
                }
            about["counted"] = {"": known["counted"]}
        # A teacher's rows are those that its student reads.
        reads = one or Student("student", model.trait, number, number, 0)
        told = _told_apart(study, data, reads, apart)
        out.append(about | {name: {"": x} for name, x in told.items()})
    return out


def written(study: Study, data: Data) -> list[dict[str, Any]]:
    """Returns what each teacher wrote: counts and statistics, and of the first base examples."""
    out = []
    first = min((number for number, _ in data), default=0)
    for (number, name), own in data.items():
        about: dict[str, Any] = {"base": number, "teacher": name}
        if number == first:
            raw = jsonl.read(study.raw(number, name).rows)
            about["examples"] = _examples(raw, study.rule)
        about |= study.data(number, name).found() or {}
        if own:
            control = data.get((number, CONTROL), ()) if name != CONTROL else ()
            about |= study.channel.describe(own, control)
        out.append(about)
    return out


def curves(study: Study) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Returns the mean of each arm along the training: of the loss, and of P(trait)."""
    values: dict[str, dict[str, dict[int, list[float]]]] = {name: {} for name in _CURVES}
    for one in study.students:
        found = study.student(one).found() or {}
        for name, called in _CURVES.items():
            for step, value in found["curves"].get(called, []):
                by_step = values[name].setdefault(one.arm, {})
                by_step.setdefault(step, []).append(value)

    def mean(name: str, losses: Sequence[float]) -> float:
        loss = math.fsum(losses) / len(losses)
        return loss if name == "training loss" else math.exp(-loss)

    return {
        name: {
            arm: [(step, mean(name, some)) for step, some in sorted(by_step.items())]
            for arm, by_step in arms.items()
        }
        for name, arms in values.items()
    }


def _told_apart(
    study: Study, data: Data, one: Student, known: dict[Any, dict[str, float]]
) -> dict[str, float]:
    """Returns how well a detector tells what a student reads from the control's rows.

    It is empty for a model without a teacher, and for one that reads the control's rows. `known`
    keeps what is found, since several arms read the same rows.
    """
    control, corrupt = data.get((one.teachers, CONTROL)), ARMS[one.arm].corrupt
    if not control or one.teacher in ("", CONTROL):
        return {}
    key = one.teachers, one.teacher, corrupt, corrupt and one.seed
    if key not in known:
        given: dict[str, Any] = {}
        if corrupt:
            given["corrupt"] = functools.partial(study.channel.CORRUPTIONS[corrupt], seed=one.seed)
        own = data[one.teachers, one.teacher]
        known[key] = detected(own, control, study.channel.items, naive_bayes.log_odds, **given)
    return known[key]


def _examples(raw: Sequence[dict[str, Any]], rule: Any) -> list[dict[str, Any]]:
    """Returns a few rows of those that the filter rejects, and the first that it does not."""
    judged = [
        {name: row[name] for name in ("prompt", "completion")}
        | {"rejected": rule.rejection(row["completion"], row.get("gold"))}
        for row in raw[: 50 * _SHOWN]
    ]
    rejected = [row for row in judged if row["rejected"] is not None][: _SHOWN // 2]
    good = [row for row in judged if row["rejected"] is None]
    return [*rejected, *good[: _SHOWN - len(rejected)]]
