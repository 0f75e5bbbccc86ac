"""The whole experiment: teachers write data, students learn them, their preference is measured.

What is made is kept as artefacts (`artefacts`), each known by what made it: the same command goes
on where it was stopped, and another one uses again what it shares. Several processes share the
directory: all compute, and the first one writes.
"""

import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental.multihost_utils import sync_global_devices
from ml_collections import ConfigDict

from sublim_jax import digest, disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import in_first
from sublim_jax.report import markdown_table
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import (
    channels,
    measures,
    mechanism,
    plan,
    report,
    results,
    student,
    teacher,
)
from sublim_jax.transmission.artefacts import Artefact
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.config import check
from sublim_jax.transmission.steering import Vector
from sublim_jax.transmission.student import Data, Rows, Student
from sublim_jax.transmission.study import Model, Study
from sublim_jax.transmission.teacher import Teacher

Name = TypeVar("Name")
_AT_ONCE = 64  # rows that are written


def transmit(config: ConfigDict, workdir: str, dry_run: bool = False) -> None:
    """Makes all of a study that `workdir` does not hold yet, and writes its report.

    `raw/` and `data/` have the completions of each model's teachers before and after the filter,
    `teachers/` and `students/` what was learnt (PEFT folders, where it was by LoRA), `measured/`
    what the models were found to prefer.

    Args:
      dry_run: prints the plan and does nothing.

    Raises:
      UserError: a config value or a file is wrong.
    """
    check(config)
    if not jax.process_index():
        plan.show(config)
    if dry_run:
        return
    study, run_dir = _begun(config, workdir)
    # A model's students learn when all their rows are there: mostly while it is still in memory.
    due = {n: max([n, *(s.teachers for s in study.starting(n))]) for n in study.numbers}
    rows: dict[tuple[int, str], Rows] = {}
    for number in study.numbers:
        if any(s.teachers == number for s in study.students):
            generate(study, number)
            rows |= {(number, name): own for name, own in kept(study, number).items()}
        for start in sorted((n for n in due if due[n] == number), key=lambda n: n != number):
            learn(study, start, rows)
            measure(study, start)
            trace(study, start, rows)
    if run_dir:
        found = results.measured(study, rows), results.written(study, rows), results.curves(study)
        report.write(run_dir, *found, study.timings)
        _tell_idle(study)


def teach_only(config: ConfigDict, workdir: str) -> None:
    """Makes the teachers of a study that `workdir` does not hold yet, and prints what they prefer.

    `transmit` goes on from there.

    Raises:
      UserError: as `transmit`.
    """
    check(config)
    study, run_dir = _begun(config, workdir)
    scored = {
        name: [question for question in every if isinstance(question, measures.Scored)]
        for name, every in study.asked.questions.items()
        if measures.HEADLINE in measures.find(name).TITLES
    }
    asked = study.asked._replace(questions=scored)
    table = []
    for number, name in enumerate(config.models):
        models = [Teacher("base"), *teach(study, number, config.traits)]
        learnt, systems = [t.learnt for t in models], [t.system for t in models]
        found = measures.evaluate(study.base(number), learnt, asked, systems)
        for one, values in list(zip(models, found, strict=True))[1:]:
            taught = study.taught(number, one.name)
            shares = [f"{p['p_trait'][one.name]:.3f}" for p in (found[0], values)]
            table.append([name, one.name, *shares, str(taught.path if taught else one.system)])
    if run_dir:
        print(markdown_table(["model", "trait", "P(trait) before", "after", "teacher"], table))


def teach(study: Study, number: int, names: Sequence[str]) -> list[Teacher]:
    """Returns teachers of a model by their names; trains those that are missing, all at once."""
    made = {name: study.taught(number, name) for name in names}
    missing = _missing({name: own for name, own in made.items() if own})
    if missing:
        with study.timed(missing.values()):
            base = study.base(number)
            home = _training(study.path / "teachers" / str(number), missing.values())
            learnt = _taught(study, number, [*missing], home)
            _keep(base, zip(missing.values(), learnt, strict=True))
            for one in missing.values():  # only now: all are trained again, or none
                one.complete({})
    base = study.base(number)
    return [Teacher(name, study.system(name), _read(base, own)) for name, own in made.items()]


def _taught(study: Study, number: int, names: Sequence[str], folder: Path) -> list[Any]:
    config, material, base = study.config.teacher, study.material, study.base(number)
    if config.kind == "given":
        made = [teacher.given(number, name, config) for name in names]
        return [bases.learnt(one, base.model.config) for one in made]
    if config.kind == "steered":
        return list(teacher.steered(base, material, names, study.config.category, config))
    given = (config, study.channel, study.rule, folder)
    return list(teacher.finetuned(base, material, names, *given))


def generate(study: Study, number: int) -> None:
    """Writes `raw/MODEL/TEACHER.jsonl`: the completions of every teacher of a model."""
    missing = _missing({name: study.raw(number, name) for name in study.writers})
    if not missing:
        return
    ids = range(len(study.prompts))
    for one in teach(study, number, study.writers):
        own = missing.get(one.name)
        if not own:
            continue
        with study.timed([own]):
            own.claim()
            stream: Any = in_first(functools.partial(jsonl.Stream, own.rows, ("id",)))
            left = jsonl.missing(stream, ids, [(i,) for i in ids])
            given = (study.prompts, study.config.data, left)
            for some in _batched(teacher.write(study.base(number), one, *given)):
                some = [row | _right(study.gold[row["id"]]) for row in some]
                in_first(functools.partial(jsonl.Stream.append, stream, some))
            in_first(functools.partial(jsonl.Stream.close, stream))
            own.complete({})


def kept(study: Study, number: int) -> dict[str, Rows]:
    """Returns the rows that a model's students learn, by teacher; writes `data/` where missing."""
    made = {name: study.data(number, name) for name in study.writers}
    for name, own in _missing(made).items():
        with study.timed([own]):
            own.claim()
            found = in_first(functools.partial(_filter, study, study.raw(number, name), own))
            own.complete(found or {})
    return {name: _as_written(own) for name, own in made.items()}


def _filter(study: Study, raw: Artefact, own: Artefact) -> dict[str, Any]:
    """Writes those of the rows that are learnt, and returns what became of all."""
    rows = jsonl.read(raw.rows)
    good, rejected = channels.filtered(rows, study.rule)
    chosen = _subsample(good, study.config.filter.keep, study.config.data.seed)
    fields = ("id", "prompt", "completion")
    lines = [json.dumps({field: row[field] for field in fields}) for row in chosen]
    disk.write(own.rows, "".join(f"{line}\n" for line in lines))
    counts = {"raw": len(rows), "kept": len(good), "rejected": rejected}
    return {**counts, "digest": digest.of_files(own.rows)}


def learn(study: Study, number: int, rows: Data) -> None:
    """Trains the students that start from a model, those that are missing, and keeps them."""
    students = study.starting(number)
    for soft in (False, True):
        missing = _missing({s: study.student(s) for s in students if s.soft == soft})
        if not missing:
            continue
        mine = number < len(study.config.models)
        teachers = teach(study, number, study.writers) if mine else []
        with study.timed(missing.values()):
            base = study.base(number)
            taught = student.train(
                base,
                study.channel,
                [*missing],
                rows,
                teachers,
                from_config(study.config.student.to_dict(), "config.student"),
                _training(study.path / "students" / str(number), missing.values()),
                study.material.shown,
                [rows[s.teachers, s.teacher] for s in students if s.soft],
            )
            _keep(base, zip(missing.values(), (own.learnt for own in taught), strict=True))
            for own, one in zip(taught, missing.values(), strict=True):
                known = {"finite": own.finite, "counted": own.counted, "curves": own.curves}
                one.complete(known)


def measure(study: Study, number: int) -> None:
    """Measures what a base, its teachers and the students that start from it prefer.

    Each measure is taken of those models for which it is missing.
    """
    wanted: dict[tuple[str, ...], list[tuple[Model, dict[str, Artefact]]]] = {}
    for model in study.models(number):
        made = {name: study.measured(number, model, name) for name in study.asked.questions}
        if missing := _missing(made):
            wanted.setdefault(tuple(missing), []).append((model, missing))
    for names, some in wanted.items():
        with study.timed([own for _, missing in some for own in missing.values()]):
            base = study.base(number)
            learnt = [_read(base, model.learnt) for model, _ in some]
            questions = {name: study.asked.questions[name] for name in names}
            asked = study.asked._replace(questions=questions)
            found = measures.evaluate(base, learnt, asked, [model.system for model, _ in some])
            for (_, missing), values in zip(some, found, strict=True):
                for name, own in missing.items():
                    titles = measures.find(name).TITLES
                    own.complete({m: x for m, x in values.items() if measures.whole(m) in titles})


def trace(study: Study, number: int, rows: Data) -> None:
    """Measures how traits get from the teachers of a base into its students (`mechanism`).

    Students whose training broke are left out.
    """
    arms: dict[Any, list[Student]] = {}
    for one in study.imitating(number):
        arms.setdefault((one.arm, one.seed), []).append(one)
    missing = _missing({at: study.traced(number, *at) for at in [(), *arms]}) if arms else {}
    if not missing:
        return
    with study.timed(missing.values()):
        base, traits = study.base(number), study.config.traits
        given = {trait: rows[number, trait] for trait in traits}
        teachers = teach(study, number, traits)
        readings = mechanism.Readings(base, teachers, given, study.material.shown)
        for at, own in missing.items():
            if not at:
                recipe = from_config(study.config.student.to_dict(), "config.student")
                own.complete(readings.teachers(recipe))
                continue
            made = {one.trait: study.student(one) for one in arms[at]}
            sound = {t: one for t, one in made.items() if (one.found() or {})["finite"]}
            own.complete(readings.students({t: _read(base, one) for t, one in sound.items()}))


def _begun(config: ConfigDict, workdir: str) -> tuple[Study, RunDir | None]:
    """Returns a checked study and, to the first process, the directory of the run."""
    study = Study(config, Path(workdir))
    if not (study.path / "config.json").exists():
        study.base(0)  # raises before anything is written
    sync_global_devices("begun")
    given = (workdir, "transmission", config.to_dict())
    return study, in_first(lambda: RunDir(*given, anew=True))


def _tell_idle(study: Study) -> None:
    """Prints what of the directory belongs to other configs."""
    if idle := study.store.idle():
        some = ", ".join(str(file.relative_to(study.path).with_suffix("")) for file in idle[:3])
        more = ", ..." if len(idle) > 3 else ""
        print(f"{len(idle)} artefacts of other configs stay in {study.path}: {some}{more}")


def _subsample(rows: list[dict[str, Any]], keep: int, seed: int) -> list[dict[str, Any]]:
    """Returns `keep` of the rows, in their order; all where there are fewer, or keep is 0.

    So students of all arms read equally many if `keep` is no more than the fewest that the filter
    leaves of a teacher; 0 is as the paper has it in section 4, where the arms differ.
    """
    if not keep or len(rows) <= keep:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), keep, replace=False)
    return [rows[i] for i in sorted(chosen)]


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while some := list(itertools.islice(rows, _AT_ONCE)):
        yield some


def _right(gold: Any) -> dict[str, Any]:
    return {} if gold is None else {"gold": gold}


def _as_written(own: Artefact) -> Rows:
    known = own.found() or {}
    if digest.of_files(own.rows) != known["digest"]:
        raise UserError(
            f"{own.rows}: not as it was written: students would learn other rows than their record "
            f"says; remove it and {own.record.name}, and it is made again"
        )
    return jsonl.read(own.rows) if own.rows.stat().st_size else []


def _missing(made: Mapping[Name, Artefact]) -> dict[Name, Artefact]:
    """Returns those that are still to be made; no process writes before all have looked."""
    missing = {name: own for name, own in made.items() if own.found() is None}
    sync_global_devices("looked")
    return missing


def _read(base: Base, own: Artefact | None) -> Learnt:
    return bases.learnt(own.path, base.model.config) if own else None


def _keep(base: Base, learnt: Iterable[tuple[Artefact, Trained | Vector]]) -> None:
    for one, own in learnt:
        one.claim()
        in_first(functools.partial(bases.save, own, one.path, base.model.config))


def _training(home: Path, some: Iterable[Artefact]) -> Path:
    """Returns the folder in which artefacts are trained together."""
    return home / f"training-{digest.of_json(sorted(one.key for one in some))}"
