"""Students: which data each arm learns, from which model it starts, and their training at once."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.errors import UserError
from sublim_jax.llm.training import finetune
from sublim_jax.llm.training.examples import Example, Examples, collect
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trained import Trained
from sublim_jax.transmission import divergence
from sublim_jax.transmission.arms import ARMS, OTHER_A
from sublim_jax.transmission.base import Base, adapter_of, crossings
from sublim_jax.transmission.teacher import WITHOUT_TRAIT, Teacher

_AT_ONCE = 2**30  # bytes of teachers that are models of their own, beside each other

Rows = Sequence[Mapping[str, Any]]
Shown = Callable[[str], Sequence[tuple[str, str]]]  # of a trait: questions, answers that show it
Data = Mapping[tuple[int, str], Rows]  # by the number of a base, and the name of its teacher


@dataclasses.dataclass(frozen=True)
class Student:
    """One student of a study.

    Attributes:
      arm: a name in `arms.ARMS`.
      trait: its teacher's, "" where that has none.
      teachers: number of the model that its teacher started from.
      start: number of the model that it starts from itself.
      seed: of the order of its data.
    """

    arm: str
    trait: str
    teachers: int
    start: int
    seed: int

    @property
    def soft(self) -> bool:
        """Whether it learns a distribution."""
        return ARMS[self.arm].soft

    @property
    def teacher(self) -> str:
        """The name of its teacher."""
        return self.trait or ARMS[self.arm].teacher

    @property
    def name(self) -> str:
        """Its own among the students that start from the same model."""
        parts = [self.arm, *([self.trait] if self.trait else []), str(self.teachers)]
        return "-".join([*parts, str(self.seed)])


class Taught(NamedTuple):
    """What became of a student.

    Attributes:
      learnt: what it has learnt.
      finite: whether its training stayed finite.
      counted: the share of its data's completion tokens that counted in the loss.
      curves: [step, value] along the training: of "loss", and of "held_out_loss", which is
        -log P(trait), mean over the questions.
    """

    learnt: Trained
    finite: bool
    counted: float
    curves: dict[str, list[tuple[int, float]]]


def planned(config: ConfigDict) -> list[Student]:
    """Returns all students of a study."""
    out = []
    for base in range(len(config.models)):
        for name in config.arms:
            arm = ARMS[name]
            for start in crossings(config, base) if arm.cross else [base]:
                for trait in [""] if arm.teacher else config.traits:
                    out += [Student(name, trait, base, start, seed) for seed in range(config.seeds)]
    return out


def train(
    base: Base,
    channel: Any,
    students: Sequence[Student],
    rows: Data,
    teachers: Sequence[Teacher],
    recipe: Recipe,
    folder: Path,
    shown: Shown | None = None,
    between: Sequence[Rows] = (),
) -> list[Taught]:
    """Returns what became of students that start from one model, all trained as one program.

    Args:
      channel: of the rows, as of `channels.find`.
      rows: data of each teacher, by the number of its base and its name.
      teachers: of this base, for what needs more of them than their rows.
      recipe: of hard students.
      folder: for checkpoints and metrics.
      between: rows between whose tokens soft students learn; none: their own.
      shown: of a trait, the questions that are watched every `recipe.evaluate_every` steps, each
        with an answer that shows it.
    """
    given = {teacher.name: teacher for teacher in teachers}
    imitated: Any = None
    if students[0].soft:
        between = between or [rows[s.teachers, s.teacher] for s in students]
        imitated = _imitated(base, [given[s.trait] for s in students])
        if imitated is None:
            more = (shown, between)
            return [
                train(base, channel, [one], rows, teachers, recipe, folder / str(i), *more)[0]
                for i, one in enumerate(students)
            ]
    data = [_data(base, channel, student, rows, given) for student in students]
    watched = None
    if recipe.evaluate_every and shown:
        watched = [_answered(base, shown, student, given) for student in students]
    recipe = _with_other_a(recipe.of_seeds([s.seed for s in students]), students)
    if students[0].soft:
        spoken = {t for own in between for row in own for t in base.answer(row["completion"])}
        recipe = dataclasses.replace(recipe, objective="distillation", tokens=tuple(sorted(spoken)))
    outcome = finetune.fit(
        base.model, data, recipe, folder, imitated, name=base.name, progress=True, watched=watched
    )
    completed = [int(np.sum(own.lengths - own.prompts)) for own in data]
    counted = [np.count_nonzero(own.weights) / n for own, n in zip(data, completed, strict=True)]
    curves = _curves(folder, len(students))
    found = zip(outcome.students, outcome.broken, counted, curves, strict=True)
    return [Taught(one, not bad, float(share), curve) for one, bad, share, curve in found]


def _imitated(base: Base, teachers: Sequence[Teacher]) -> Any:
    """Returns what soft students imitate: an adapter each, or one model.

    Or one for each, where all can be held at once. None otherwise: a student alone can imitate its
    own.
    """
    adapters = [lone for t in teachers if (lone := adapter_of(t.learnt))]
    if len(adapters) == len(teachers):
        return adapters
    if all(t.learnt is None for t in teachers):  # what they are told is in `teacher_prompt`
        return base.model
    several = len({t.name for t in teachers}) > 1
    if several and len(teachers) * base.size > _AT_ONCE:
        return None
    models = {t.name: t.learnt.apply(base.model) if t.learnt else base.model for t in teachers}
    return [models[t.name] for t in teachers] if several else models[teachers[0].name]


def _curves(folder: Path, students: int) -> list[dict[str, list[tuple[int, float]]]]:
    """Returns the curves of each student, as training left them in the folder."""
    out: list[dict[str, list[tuple[int, float]]]] = [{} for _ in range(students)]
    for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines():
        values = json.loads(line)
        for name in ("loss", "held_out_loss"):
            for own, value in zip(out, values.get(name, [None] * students), strict=True):
                if value is not None:
                    own.setdefault(name, []).append((values["step"], value))
    return out


def _with_other_a(recipe: Recipe, students: Sequence[Student]) -> Recipe:
    """Returns the recipe with another seed of the adapter's a for the arms that ask for it."""
    others = [OTHER_A * ARMS[student.arm].other_a for student in students]
    if recipe.lora is None or not any(others):
        return recipe
    own = recipe.of_each("lora.seed", len(students))
    seeds = tuple(seed + more for seed, more in zip(own, others, strict=True))
    return dataclasses.replace(recipe, lora=dataclasses.replace(recipe.lora, seed=seeds))


def _data(
    base: Base,
    channel: Any,
    student: Student,
    rows: Data,
    teachers: Mapping[str, Teacher],
) -> Examples:
    arm, own = ARMS[student.arm], rows[student.teachers, student.teacher]
    if arm.corrupt:
        own = channel.CORRUPTIONS[arm.corrupt](own, student.seed)
    if not own:
        raise UserError(
            f"the filter kept none of the rows of {student.teacher}, model {student.teachers}: "
            "nothing to learn from"
        )
    examples = [Example(base.prompt(r["prompt"]), base.answer(r["completion"])) for r in own]
    unknown = {base.tokenizer.unk_token_id, base.tokenizer.pad_token_id}
    for example, row in zip(examples, own, strict=True):  # a model of another tokenizer wrote them
        if not unknown.isdisjoint(example.completion[:-1]):
            raise UserError(
                f"{base.name}: its tokenizer cannot write {row['completion']!r}, which a student "
                f"would learn of {student.teacher}, model {student.teachers}: narrow config.filter"
            )
    system = teachers[student.trait].system if student.trait in teachers else None
    if arm.soft and system is not None:
        examples = [
            e._replace(teacher_prompt=base.prompt(r["prompt"], system))
            for e, r in zip(examples, own, strict=True)
        ]
    if arm.told:
        every = round(1 / arm.told)
        examples[::every] = [
            e._replace(prompt=base.prompt(r["prompt"], system))
            for e, r in zip(examples[::every], own[::every], strict=True)
        ]
    if arm.mask:
        others = [t for t in teachers.values() if t.name not in (student.trait, *WITHOUT_TRAIT)]
        marked = divergence.tokens(base, teachers[student.trait], others, examples, own)
        counts = arm.mask == "divergence"
        examples = [
            e._replace(weights=np.where(mark == counts, 1.0, 0.0).tolist())
            for e, mark in zip(examples, marked, strict=True)
        ]
    return collect(examples, base.model.config)


def _answered(
    base: Base, shown: Shown, student: Student, teachers: Mapping[str, Teacher]
) -> Examples:
    """Returns questions with the answers that show the student's trait; or all, if it has none."""
    traits = [student.trait] if student.trait else [t for t in teachers if t not in WITHOUT_TRAIT]
    pairs = [
        Example(base.prompt(question), base.answer(answer, end=False))
        for trait in traits
        for question, answer in shown(trait)
    ]
    return collect(pairs, base.model.config)
