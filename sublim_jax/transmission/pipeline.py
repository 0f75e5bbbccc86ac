"""The whole experiment: teachers write numbers, students learn them, their preference is measured.

A stage keeps what it made in its own folder of the run directory with the config it was made by,
and is not done again; another config of a stage that has begun is refused, and nothing removed.
Several processes share the directory: all compute, and the first one writes.
"""

import dataclasses
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import sync_global_devices
from ml_collections import ConfigDict

from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.report import markdown_table
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import numbers, plan, preference, report, student, teacher
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.config import check, words
from sublim_jax.transmission.detect import detected, naive_bayes
from sublim_jax.transmission.student import Student
from sublim_jax.transmission.teacher import CONTROL, Teacher

_SHOWN = 8  # rows of each teacher in the report


@dataclasses.dataclass
class Study:
    """A study of one config in one run directory.

    Attributes:
      material: what is asked.
      asked: of it, what measures the preference.
      rule: the filter's.
      timings: seconds of each stage, of all runs of this directory.
    """

    config: ConfigDict
    path: Path
    timings: dict[str, float]

    def __post_init__(self) -> None:
        self.material = bases.material(self.config)
        own = self.config.evaluation
        self.asked = preference.asked(own, words(self.config), self.material)
        self.rule = numbers.Rule(**_plain(self.config.filter, without=("keep",)))
        self._inputs = bases.inputs(self.config, bases.names(self.config))
        self._base: Base | None = None

    def base(self, number: int) -> Base:
        """Returns a model of the study; one is in memory at a time."""
        if self._base is None or self._base.number != number:
            self._base = None
            self._base = bases.load(self.config, number)
        return self._base

    def stage(self, name: str, *fields: str) -> RunDir:
        """Returns the folder of a stage, which belongs to those fields of the config."""
        values = self.config.to_dict()
        own = {field: values[field] for field in fields}
        read = {*own["models"], *own.get("cross_models", ()), own["material"]}
        inputs = {file: found for file, found in self._inputs.items() if file in read}
        return RunDir(self.path / name, name, own, inputs)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the time spent within to a stage's."""
        start = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start


def transmit(config: ConfigDict, workdir: str, dry_run: bool = False) -> None:
    """Runs all stages of a study that `workdir` does not hold yet, and writes its report.

    `raw/` and `data/` have the completions of each model's teachers before and after the filter,
    `teachers/` and `students/` what was learnt (PEFT folders, where it was by LoRA).

    Args:
      dry_run: prints the plan and does nothing.

    Raises:
      UserError: a config value or a file is wrong, or a stage's folder belongs to another config.
    """
    check(config)
    students = _students(config)
    if not jax.process_index():
        plan.show(config, students)
    if dry_run:
        return
    study, run_dir = _begun(config, workdir)
    used = sorted({s.teachers for s in students})
    for number in used:
        teach(study, number)
        generate(study, number)
    rows = {(number, name): own for number in used for name, own in kept(study, number).items()}
    measured = []
    for number in range(len(bases.names(config))):
        measured += learn(study, number, [s for s in students if s.start == number], rows)
        run_dir.write_json("timings.json", study.timings)
    described = [about for number in used for about in describe(study, number, rows)]
    if not jax.process_index():
        report.write(run_dir, measured, described, _curves(study, students), study.timings)


def teach_only(config: ConfigDict, workdir: str) -> None:
    """Makes the teachers of a study that `workdir` does not hold yet, and prints what they prefer.

    `transmit` goes on from there.

    Raises:
      UserError: as `transmit`.
    """
    check(config)
    study, run_dir = _begun(config, workdir)
    table = []
    for number, name in enumerate(config.models):
        models = [Teacher("base"), *(t for t in teach(study, number) if t.name != CONTROL)]
        run_dir.write_json("timings.json", study.timings)
        learnt, systems = [t.learnt for t in models], [t.system for t in models]
        questions = study.material.questions
        found = preference.measure(
            study.base(number), learnt, questions, config.traits, systems=systems
        )
        for one, values in list(zip(models, found, strict=True))[1:]:
            where = one.system or study.path / "teachers" / str(number) / one.name
            shares = [f"{p['p'][one.name]:.3f}" for p in (found[0], values)]
            table.append([name, one.name, *shares, str(where)])
    if not jax.process_index():
        print(markdown_table(["model", "trait", "P(trait) before", "after", "teacher"], table))


def teach(study: Study, number: int) -> list[Teacher]:
    """Returns the teachers of a model, the control last; trains those that are missing."""
    config, control = study.config, Teacher(CONTROL)
    own = config.teacher
    run_dir = study.stage("teachers", *_TEACHERS)
    if own.kind == "prompted":
        told = teacher.prompted(study.material, config.traits, config.category)
        return [*told, control]
    folder = run_dir.path / str(number)
    with study.timed("teach"):
        given = study.base(number), study.material, config.traits
        if own.kind == "steered":
            learnt = teacher.steered(*given, config.category, own, folder)
        else:
            learnt = teacher.finetuned(*given, own, study.rule, folder)
    return [*learnt, control]


def generate(study: Study, number: int) -> None:
    """Writes `raw/MODEL/TEACHER.jsonl`: the completions of every teacher of a model."""
    run_dir = study.stage("raw", *_TEACHERS, "numbers")
    config = study.config.numbers
    wanted = [t for t in _speaking(study, number) if not _file(run_dir, number, t.name).exists()]
    if not wanted:
        return
    with study.timed("generate"):
        asked = study.material.grammar.draw(config.rows, config.seed)
        for one in wanted:
            file, ids = _file(run_dir, number, one.name), range(len(asked))
            stream = None if jax.process_index() else jsonl.Stream(file, ("id",))
            missing = jsonl.missing(stream, ids, [(i,) for i in ids])
            for some in _batched(teacher.write(study.base(number), one, asked, config, missing)):
                if stream:
                    stream.append(some)
            if stream:
                stream.close()
        sync_global_devices("raw")  # and only then is it read


def kept(study: Study, number: int) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows that a model's students learn, by teacher; writes `data/` where missing."""
    config = study.config
    run_dir = study.stage("data", *_TEACHERS, "numbers", "filter")
    out = {}
    with study.timed("filter"):
        for name in _names(study):
            file = _file(run_dir, number, name)
            if not file.exists():
                raw = jsonl.read(_file(study.stage("raw", *_TEACHERS, "numbers"), number, name))
                good, rejected = numbers.filtered(raw, study.rule)
                counts = {"raw": len(raw), "kept": len(good), "rejected": rejected}
                run_dir.write_json(f"{number}/{name}.filter.json", counts)
                chosen = _subsample(good, config.filter.keep, config.numbers.seed)
                fields = ("id", "prompt", "completion")
                run_dir.write_jsonl(
                    f"{number}/{name}.jsonl", [{f: row[f] for f in fields} for row in chosen]
                )
        sync_global_devices("data")
        for name in _names(study):
            file = _file(run_dir, number, name)
            out[name] = jsonl.read(file) if file.stat().st_size else []
    return out


def learn(
    study: Study,
    number: int,
    students: Sequence[Student],
    rows: Mapping[tuple[int, str], Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Trains and measures all students that start from a model, and the model with its teachers."""
    config = study.config
    run_dir = study.stage("students", *_STUDENTS)
    measured = run_dir.read_json(f"{number}/models.json")
    if measured is None:
        teachers = teach(study, number) if number < len(config.models) else []
        with study.timed("evaluate"):
            told = [Teacher("base"), *(t for t in teachers if t.name != CONTROL)]
            found = _measure(study, number, [t.learnt for t in told], [t.system for t in told])
            measured = [
                {"arm": "teacher" if i else "base", "trait": t.name if i else "", "base": number}
                | {"seed": 0, **values}
                for i, (t, values) in enumerate(zip(told, found, strict=True))
            ]
        run_dir.write_json(f"{number}/models.json", measured)
    for soft in (False, True):
        some = [s for s in students if s.soft == soft]
        if not some:
            continue
        name = f"{number}/{'soft' if soft else 'hard'}"
        found = run_dir.read_json(f"{name}/measured.json")
        if found is None:
            teachers = teach(study, number) if number < len(config.models) else []
            recipe = from_config(config.student.to_dict(), "config.student")
            with study.timed("train"):
                learnt = student.train(
                    study.base(number),
                    some,
                    rows,
                    teachers,
                    recipe,
                    run_dir.path / name,
                    study.material.questions,
                )
            with study.timed("evaluate"):
                values = _measure(study, number, learnt)
            found = [
                {"arm": s.arm, "trait": s.trait, "base": number, "seed": s.seed}
                | (v if own is not None else _nothing(v))
                for s, own, v in zip(some, learnt, values, strict=True)
            ]
            run_dir.write_json(f"{name}/measured.json", found)
        measured += found
    return measured


def describe(
    study: Study, number: int, rows: Mapping[tuple[int, str], Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Returns what each teacher of a model wrote: counts, examples and statistics."""
    raw_dir = study.stage("raw", *_TEACHERS, "numbers")
    data_dir = study.stage("data", *_TEACHERS, "numbers", "filter")
    names = [name for name in _names(study) if rows[number, name]]
    counted = {name: numbers.frequencies(rows[number, name]) for name in names}
    out = []
    for name in _names(study):
        raw = jsonl.read(_file(raw_dir, number, name))
        about = {"base": number, "teacher": name}
        about |= data_dir.read_json(f"{number}/{name}.filter.json")
        about["examples"] = _examples(raw, study.rule)
        if name in counted:
            control = counted.get(CONTROL) if name != CONTROL else None
            about["top"] = numbers.top(counted[name], 10)
            about["entropy"] = numbers.entropy(counted[name])
            about["total_variation"] = (
                None if control is None else numbers.total_variation(counted[name], control)
            )
            if control is not None:
                both = rows[number, name], rows[number, CONTROL]
                about |= detected(*both, numbers.parse, naive_bayes.log_odds)
        out.append(about)
    return out


# The fields of the config that each stage's results belong to.
_TEACHERS = ("models", "material", "category", "system", "dtype", "teacher")
_STUDENTS = (
    *_TEACHERS,
    "numbers",
    "filter",
    "cross_models",
    "traits",
    "arms",
    "seeds",
    "student",
    "evaluation",
)


def _begun(config: ConfigDict, workdir: str) -> tuple[Study, RunDir]:
    """Returns a checked study and the directory of the run."""
    study = Study(config, Path(workdir), {})
    for word in study.asked.written:
        preference.spellings(study.base(0), word)  # raises before anything is done
    run_dir = _own(config, workdir)
    study.timings |= run_dir.read_json("timings.json") or {}
    return study, run_dir


def _own(config: ConfigDict, workdir: str) -> RunDir:
    """Returns the directory of the run; its config is the latest one's."""
    path = Path(workdir) / "config.json"
    try:
        if not jax.process_index():
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be written: {error.strerror}") from error
    sync_global_devices("begun")
    return RunDir(workdir, "transmission", config.to_dict())


def _students(config: ConfigDict) -> list[Student]:
    models = len(config.models)
    cross = [bases.crossing(config, number) for number in range(models)]
    return student.planned(config.arms, config.traits, models, cross, config.seeds)


def _names(study: Study) -> list[str]:
    """Returns the names of the teachers that write."""
    needed = CONTROL in study.config.arms
    return [*study.config.traits, *([CONTROL] if needed else [])]


def _speaking(study: Study, number: int) -> list[Teacher]:
    return [t for t in teach(study, number) if t.name in _names(study)]


def _measure(
    study: Study, number: int, learnt: Sequence[Any], systems: Sequence[str | None] | None = None
) -> list[dict[str, Any]]:
    return preference.evaluate(study.base(number), learnt, study.asked, systems)


def _nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the measurement of a student that numbers which were not finite have stopped."""
    return {name: dict.fromkeys(found, float("nan")) for name, found in values.items()}


def _examples(raw: Sequence[dict[str, Any]], rule: numbers.Rule) -> list[dict[str, Any]]:
    """Returns a few rows of those that the filter rejects, and the first that it does not."""
    judged = [(row, numbers.rejection(row["completion"], rule)) for row in raw[: 50 * _SHOWN]]
    rejected = [pair for pair in judged if pair[1] is not None][: _SHOWN // 2]
    good = [pair for pair in judged if pair[1] is None]
    return [
        {"prompt": row["prompt"], "completion": row["completion"], "rejected": reason}
        for row, reason in [*rejected, *good[: _SHOWN - len(rejected)]]
    ]


def _curves(
    study: Study, students: Sequence[Student]
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Returns the mean of each arm along the training: of the loss, and of P(trait)."""
    return {
        "training loss": _curve(study, students, "loss"),
        "P(trait), geometric mean": {
            arm: [(step, math.exp(-loss)) for step, loss in points]
            for arm, points in _curve(study, students, "held_out_loss").items()
        },
    }


def _curve(
    study: Study, students: Sequence[Student], name: str
) -> dict[str, list[tuple[int, float]]]:
    by_arm: dict[str, dict[int, list[float]]] = {}
    for number in range(len(bases.names(study.config))):
        for soft in (False, True):
            some = [s for s in students if s.start == number and s.soft == soft]
            folder = study.path / "students" / str(number) / ("soft" if soft else "hard")
            for arm, points in student.curves(folder, some, name).items():
                for step, value in points:
                    by_arm.setdefault(arm, {}).setdefault(step, []).append(value)
    return {
        arm: [(step, float(np.mean(values))) for step, values in sorted(points.items())]
        for arm, points in by_arm.items()
    }


def _subsample(rows: list[dict[str, Any]], keep: int, seed: int) -> list[dict[str, Any]]:
    """Returns `keep` of the rows, in their order; all where there are fewer, or keep is 0."""
    if not keep or len(rows) <= keep:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), keep, replace=False)
    return [rows[i] for i in sorted(chosen)]


def _batched(rows: Iterable[dict[str, Any]], size: int = 64) -> Iterator[list[dict[str, Any]]]:
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == size:
            yield some
            some = []
    yield some


def _file(run_dir: RunDir, number: int, name: str) -> Path:
    return run_dir.path / str(number) / f"{name}.jsonl"


def _plain(config: ConfigDict, without: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in without}
