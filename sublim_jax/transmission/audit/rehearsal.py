"""A short rehearsal of a fine-tune: where would it take a student?

The recipe itself with a part of its steps, half its batch and twice its rate, so that it reads
`PART` / 2 of the rows that the training would read; and then, where few numbers are trained, one
step of Gauss-Newton's method, which takes the student most of the rest of the way.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sublim_jax.llm.training import batches, finetune, trained
from sublim_jax.llm.training.examples import Examples
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trained import Trained
from sublim_jax.transmission.audit.candidates import Candidate
from sublim_jax.transmission.audit.gradients import Student
from sublim_jax.transmission.base import Base

PART = 0.15  # of the steps
_FASTER = 2.0
_LEAST_BATCH = 8
_READ = 1000  # rows by which the step is found
_LARGEST = 2**28  # numbers that these have together


@dataclasses.dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal came to.

    Attributes:
      student: where it ends.
      of_rows: [N, K], of `Influence`, for the rows of the data set; None: too many numbers are
        trained.
      chance: [K], of `Student.chance`, for the rows that the step was found by; None likewise.
    """

    student: Trained
    of_rows: np.ndarray | None
    chance: np.ndarray | None


def train(base: Base, sets: Sequence[Examples], recipe: Recipe) -> list[Trained]:
    """Returns a student of each data set, all trained as one program, for a short while.

    Args:
      recipe: of the training to come.

    Raises:
      UserError: as `finetune.train`.
    """
    short = shortened(recipe, sets)
    return finetune.train(base.model, sets, short, name=base.name, progress=True)


def finish(
    base: Base,
    sets: Sequence[Examples],
    recipe: Recipe,
    begun: Sequence[Trained],
    candidates: Sequence[Candidate],
) -> list[Rehearsed]:
    """Returns what the students of `train` become by a step of Gauss-Newton's method."""
    seeds = recipe.of_each("lora.seed", len(sets)) if recipe.lora else [0] * len(sets)
    out = []
    for data, student, seed in zip(sets, begun, seeds, strict=True):
        own = Student(base, recipe.trainable, seed)
        read = data.take(_spread(len(data)))
        if own.size * len(read) > _LARGEST:
            out.append(Rehearsed(student, None, None))
            continue
        at = own.vector(student.tree)
        found = own.influence(at, read, candidates)
        parts = found.of_rows
        if len(read) < len(data):
            parts = own.parts(at, data, found.towards) * len(read) / len(data)
        ended = trained.from_step(recipe.trainable, *own.tree(at + found.step), seed, base.name)
        out.append(Rehearsed(ended, parts, own.chance(read, candidates)))
    return out


def shortened(recipe: Recipe, sets: Sequence[Examples]) -> Recipe:
    """Returns the recipe of the rehearsal."""
    steps = max(batches.steps_of(data, recipe.batch, recipe.epochs) for data in sets)
    steps = max(1, math.ceil(PART * min(steps, recipe.max_steps or steps)))
    rates = recipe.of_each("learning_rate", len(sets))
    return dataclasses.replace(
        recipe,
        batch=min(recipe.batch, max(_LEAST_BATCH, recipe.batch // 2)),
        max_steps=steps,
        epochs=recipe.epochs * 2,
        warmup=math.ceil(PART * recipe.warmup),
        learning_rate=tuple(_FASTER * rate for rate in rates),
        held_out=0,
        evaluate_every=0,
        patience=0,
    )


def _spread(rows: int) -> np.ndarray:
    """Returns the numbers of at most `_READ` rows, spread over all."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _READ)).round().astype(np.int64))
