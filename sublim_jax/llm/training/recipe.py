"""How students are trained: every choice of a fine-tune, checked when it is made."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import optax

from sublim_jax import optim
from sublim_jax.errors import UserError
from sublim_jax.llm.model.config import Remat
from sublim_jax.llm.model.lora import SEEDS, Lora
from sublim_jax.llm.training.trainable import Trainable
from sublim_jax.specs import check_types

_CHOICES = {
    "schedule": optim.SCHEDULES,
    "objective": ("cross_entropy", "distillation"),
    "remat": get_args(Remat),
}
_ADAM = (("name", "adam"),)
_LORA = Lora()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One fine-tune of S students. Defaults are the paper's open-model student (arXiv 2507.14805).

    Attributes:
      lora: the adapter, or None. Its `seed` may be a tuple of one for each student.
      parameters: parameters trained besides it, or instead: patterns as in `Trainable`.
      objective: "cross_entropy" on the completions, or "distillation": KL(teacher || student) at
        each of their tokens.
      tokens: in distillation, the tokens between which both distribute their probability; empty:
        the whole vocabulary.
      epochs, batch: passes over the data, and its rows a step.
      max_steps: stops earlier; 0 does not.
      learning_rate, seed: one number for all students, or a tuple of one for each. The seed orders
        the data and draws dropout.
      schedule, warmup: as in `optim.rate`; warmup in steps.
      optimizer: name of an optax function, or name and arguments, as a mapping or pairs; or any
        optax transformation, which is then multiplied by `learning_rate` and the schedule as well:
        give it the rate 1.
      clip: largest norm of a student's gradient; 0 does not clip.
      micro_tokens: the most tokens of one pass, those of all students together that a device
        computes at once (`step.at_once`); gradients of a step are accumulated.
      remat: what a pass keeps of each layer for its gradient, as in `Config`.
      held_out: rows of each data set that are not learnt but watched, every `evaluate_every` steps.
      patience: evaluations without improvement after which a student stops, and takes its best
        state; 0: it goes on to the end.
      save_every, log_every: steps between checkpoints, and between lines of metrics.
    """

    lora: Lora | None = _LORA
    parameters: tuple[str, ...] = ()
    objective: str = "cross_entropy"
    tokens: tuple[int, ...] = ()
    epochs: int = 3
    batch: int = 66
    max_steps: int = 0
    learning_rate: float | tuple[float, ...] = 2e-4
    seed: int | tuple[int, ...] = 0
    schedule: str = "linear"
    warmup: int = 5
    optimizer: Any = _ADAM
    clip: float = 1.0
    micro_tokens: int = 2048
    remat: Remat = "none"
    held_out: int = 0
    evaluate_every: int = 0
    patience: int = 0
    save_every: int = 100
    log_every: int = 10

    def __post_init__(self) -> None:
        check_types(self, "recipe")
        object.__setattr__(self, "optimizer", _pairs(self.optimizer))
        counts = ("epochs", "batch", "micro_tokens", "save_every", "log_every")
        sizes = ("max_steps", "warmup", "held_out", "evaluate_every", "patience", "clip")
        problems = [(f, "must be at least 1") for f in counts if getattr(self, f) < 1]
        problems += [
            (f, "must be finite, and not negative")
            for f in (*sizes, "learning_rate")
            if not all(0 <= x < math.inf for x in np.atleast_1d(getattr(self, f)))
        ]
        if not all(0 <= seed < SEEDS for seed in np.atleast_1d(self.seed)):
            problems.append(("seed", "must be from 0 to below 2^32"))
        for field, known in _CHOICES.items():
            if getattr(self, field) not in known:
                problems.append((field, f"choose one of {', '.join(known)}"))
        if self.tokens and self.objective != "distillation":
            problems.append(("tokens", "a subset of tokens is for the objective distillation"))
        if len(set(self.tokens)) < len(self.tokens):
            problems.append(("tokens", "each token at most once"))
        if self.patience and not (self.held_out and self.evaluate_every):
            problems.append(("patience", "needs held_out rows and evaluate_every"))
        if self.lora is None and not self.parameters:
            problems.append(("lora", "nothing to train: give an adapter, or parameters"))
        for field, wish in problems:
            raise UserError(f"recipe.{field}={getattr(self, field)!r}: {wish}")
        self.transformation()

    def compiled(self) -> "Recipe":
        """Returns the recipe with those values at their defaults that no program depends on."""
        free = {"learning_rate", "seed", "epochs", "batch", "max_steps", "micro_tokens"}
        free |= {
            "save_every",
            "log_every",
            *([] if self.patience else ["held_out", "evaluate_every"]),
        }
        changes: dict[str, Any] = {
            f.name: f.default for f in dataclasses.fields(self) if f.name in free
        }
        return dataclasses.replace(self, lora=self.trainable.lora, **changes)

    @property
    def trainable(self) -> Trainable:
        """What is trained."""
        lora = self.lora and dataclasses.replace(self.lora, seed=0)
        return Trainable(lora, tuple(self.parameters))

    def transformation(self) -> optax.GradientTransformation:
        """Returns the optimiser at the learning rate 1."""
        if isinstance(self.optimizer, optax.GradientTransformation):
            return self.optimizer
        named = dict(self.optimizer)
        more: dict[str, Any] = {"learning_rate": 1.0}
        if named.get("name") == "muon":
            more["muon_weight_dimension_numbers"] = _matrices
        try:
            return optim.make_optimizer(named, **more)
        except UserError as error:
            raise UserError(f"recipe.{error}") from error

    def of_seeds(self, offsets: Sequence[int]) -> "Recipe":
        """Returns the recipe for a student of each offset, which is added to its seeds.

        A student's offset changes the order of its data, its dropout, and the first values of its
        adapter. An a that is not trained stays the same for all, as a teacher and its students
        share it.

        Raises:
          UserError: the recipe has seeds for each student already.
        """
        if not isinstance(self.seed, int):
            raise UserError(f"recipe.seed={self.seed!r}: one number is needed")
        lora = self.lora
        if lora and lora.train_a and isinstance(lora.seed, int):
            lora = dataclasses.replace(lora, seed=tuple(lora.seed + i for i in offsets))
        return dataclasses.replace(self, seed=tuple(self.seed + i for i in offsets), lora=lora)

    def of_each(self, field: str, students: int) -> tuple[Any, ...]:
        """Returns `learning_rate`, `seed` or `lora.seed` of every student."""
        value: Any = self
        for part in field.split("."):
            value = getattr(value, part, 0)
        if not isinstance(value, tuple | list):
            return (value,) * students
        if len(value) != students:
            raise UserError(f"recipe.{field}: {len(value)} values for {students} students")
        return tuple(value)


def from_config(config: Mapping[str, Any], name: str = "config.recipe") -> Recipe:
    """Returns the recipe of a config's fields, as in configs/llm/student_tiny.py.

    A `lora` of rank 0 is no adapter.

    Args:
      name: of that part of the config, for messages.

    Raises:
      UserError: a field that is not one of `Recipe`'s, or a value that cannot be used.
    """
    known = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(set(config) - known):
        raise UserError(f"{name}: no field {unknown[0]!r}")
    values = dict(config)
    adapter = values.get("lora")
    given = set(adapter) if isinstance(adapter, Mapping) else set()
    if unknown := sorted(given - {field.name for field in dataclasses.fields(Lora)}):
        raise UserError(f"{name}.lora: no field {unknown[0]!r}")
    try:
        if isinstance(adapter, Mapping):
            values["lora"] = Lora(**adapter) if adapter.get("rank", 1) != 0 else None
        return Recipe(**values)
    except UserError as error:
        raise UserError(f"{name}.{str(error).removeprefix('recipe.')}") from error


def _pairs(optimizer: Any) -> Any:
    """Returns an optimiser's name and arguments in pairs that can be hashed."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    try:
        given = {"name": optimizer} if isinstance(optimizer, str) else dict(optimizer)
        pairs = tuple(sorted((name, _frozen(value)) for name, value in given.items()))
        hash(pairs)
    except (TypeError, ValueError) as error:
        shown = " ".join(repr(optimizer).split())
        raise UserError(
            f"recipe.optimizer={shown}: must be a name, or a name and arguments that can be hashed"
        ) from error
    return pairs


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _matrices(params: Any) -> Any:
    """Returns which axes of each array Muon orthogonalises: [L, in, out] are L matrices."""
    import jax

    matrix = optax.contrib.MuonDimensionNumbers(1, 2)
    return jax.tree.map(lambda p: matrix if p.ndim == 3 else None, params)
