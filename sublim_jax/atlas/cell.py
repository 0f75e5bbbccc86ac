"""A cell of the atlas: one kind of student with its teacher, and what may be said of it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax

from sublim_jax.atlas import channels
from sublim_jax.errors import UserError
from sublim_jax.mlp import inputs, network

OPTIMIZERS: dict[str, Callable[[jax.Array], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "sign_sgd": optax.sign_sgd,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "muon": optax.contrib.muon,
}
DEFENCES = ("none", "project", "liminal", "anchor")
POINTS = 10  # looks at a student while it learns, besides the one before
_LARGEST = 2**24  # a float32, as which programs are given values, counts no further


@dataclasses.dataclass(frozen=True)
class Cell:
    """One kind of student, with its teacher. All have as many members as the atlas.

    Attributes, of the teacher:
      width, depth, activation: of the hidden layers.
      heads: auxiliary logits that the networks have, besides the classes.
      init_scale: standard deviation of the first weights in units of 1/sqrt(inputs).
      teacher_epochs, teacher_batch, teacher_rate: of its training on labelled images, by Adam.
      trait: the classes it learns: `all`, or the `lower` or `upper` half of them; `both`: rows are
        by turns a teacher's of the lower and one's of the upper half.
    Of the student's start, which is the teacher's own initialisation, but for:
      student_depth: hidden layers; 0: as many. Layers are the teacher's from both ends.
      student_network: `mlp`, or `cnn`, `mlp.network.ConvNet`, of which only the head is the
        teacher's.
      blend: share of another member's initialisation, at the same variance.
      noise: standard deviation of what is added, in units of each layer's own.
      fresh_hidden, fresh_class, fresh_aux: 1 where the hidden layers, the class head or the
        auxiliary head are the other member's.
      permuted: 1: the hidden units change places; the function stays.
      rescaled: s: each hidden unit's inputs are times exp(s n), n normal, its outputs divided by
        it; the function of a ReLU network stays.
      matched: epochs of imitating all logits on real images before it sees the channel.
    Of the channel:
      aux: how many of the auxiliary logits it shows; `classes`: 1 where it shows the class logits.
      code, detail: what is sent of them, see `channels.encode`.
      loss: `kl` or `mse`; temperature: of the softmax.
    Of the inputs:
      inputs: of `mlp.inputs.KINDS`.
      images: share of inputs that are training images instead.
      distinct: how many there are, gone through in turn; 0: all are new.
    Of its training:
      optimizer: of `OPTIMIZERS`; rate, weight_decay (decoupled), batch, steps.
      defence, strength: what is done against the trait, of `DEFENCES`.
      anchor: the inputs of the defence `anchor`, of `mlp.inputs.KINDS`.
      hops: 1: it learns from the teacher; k: from a student of k - 1 hops that started as it does.
      linear: its network is linearised in the parameters at its start.
    """

    width: int = 256
    depth: int = 2
    activation: str = "relu"
    heads: int = 3
    init_scale: float = 1.0
    teacher_epochs: int = 30
    teacher_batch: int = 64
    teacher_rate: float = 1e-3
    trait: str = "all"
    student_depth: int = 0
    student_network: str = "mlp"
    blend: float = 0.0
    noise: float = 0.0
    fresh_hidden: float = 0.0
    fresh_class: float = 0.0
    fresh_aux: float = 0.0
    permuted: float = 0.0
    rescaled: float = 0.0
    matched: int = 0
    aux: int = 3
    classes: float = 0.0
    code: str = "logits"
    detail: float = 0.0
    loss: str = "kl"
    temperature: float = 1.0
    inputs: str = "uniform"
    images: float = 0.0
    distinct: int = 0
    optimizer: str = "adam"
    rate: float = 1e-3
    weight_decay: float = 0.0
    batch: int = 64
    steps: int = 1000
    defence: str = "none"
    strength: float = 0.0
    anchor: str = "images"
    hops: int = 1
    linear: bool = False

    @property
    def teachers(self) -> tuple[tuple[Any, ...], ...]:
        """What each of its teachers depends on: cells that agree in it share them."""
        traits = ("lower", "upper") if self.trait == "both" else (self.trait,)
        own = tuple(getattr(self, name) for name in (*NETWORK, *_TEACHER))
        return tuple((*own, trait) for trait in traits)

    @property
    def network(self) -> tuple[Any, ...]:
        """What the program that trains its teacher depends on."""
        return tuple(getattr(self, name) for name in NETWORK)

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the program that trains the student depends on: cells that agree train at once."""
        # What the others' program does without.
        branches = self.images > 0, self.hops > 1, self.trait == "both"
        return tuple(getattr(self, name) for name in SHAPE) + branches

    def shown(self, classes: int) -> int:
        """Returns how many logits its channel shows, of networks of so many classes."""
        return self.aux + (classes if self.classes else 0)

    def values(self) -> dict[str, np.float32]:
        """Returns what the program is given, float32 scalars."""
        return {name: np.float32(getattr(self, name)) for name in VALUES}


NETWORK = ("width", "depth", "activation", "heads", "teacher_epochs", "teacher_batch")
_TEACHER = ("init_scale", "teacher_rate")
SHAPE = (
    "width", "depth", "activation", "heads", "student_depth", "student_network", "matched", "code",
    "loss", "inputs", "optimizer", "batch", "defence", "anchor", "linear",
)  # fmt: skip
VALUES = tuple(
    field.name
    for field in dataclasses.fields(Cell)
    if field.name not in {*SHAPE, *NETWORK, "teacher_rate", "trait"}
)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "activation": tuple(network.ACTIVATIONS),
    "trait": ("all", "lower", "upper", "both"),
    "student_network": ("mlp", "cnn"),
    "code": channels.CODES,
    "loss": ("kl", "mse"),
    "inputs": inputs.KINDS,
    "optimizer": tuple(OPTIMIZERS),
    "defence": DEFENCES,
    "anchor": inputs.KINDS,
    **dict.fromkeys(("fresh_hidden", "fresh_class", "fresh_aux", "permuted", "classes"), (0, 1)),
}
_LEAST = dict.fromkeys(("width", "depth", "teacher_epochs", "teacher_batch", "batch", "hops"), 1)
_MOST = {"blend": 1, "images": 1}
_ABOVE_0 = ("init_scale", "teacher_rate", "temperature", "rate", "steps")


def make(fields: Mapping[str, Any], where: str) -> Cell:
    """Returns the cell of some fields, the others as `Cell` has them, checked.

    Raises:
      UserError: names the first field that is unknown, or cannot be run; `where` it stands.
    """
    known = {field.name: field for field in dataclasses.fields(Cell)}
    for name, value in fields.items():
        if name not in known:
            raise UserError(f"{where}: no field {name!r} in a cell: it has {', '.join(known)}")
        kind = type(known[name].default)
        if isinstance(value, bool) != (kind is bool) or not isinstance(
            value, (int, float) if kind is float else kind
        ):
            raise UserError(f"{where}: {name}={value!r}: of type {kind.__name__}")
    cell = Cell(**fields)
    for name, wish in (*_out_of_range(cell), *_not_together(cell)):
        raise UserError(f"{where}: {name}={getattr(cell, name)!r}: {wish}")
    return cell


def _out_of_range(cell: Cell) -> Iterator[tuple[str, str]]:
    for name, value in vars(cell).items():
        least, most = _LEAST.get(name, 0), _MOST.get(name, _LARGEST)
        if name in _CHOICES:
            if value not in _CHOICES[name]:
                yield name, f"choose one of {', '.join(map(str, _CHOICES[name]))}"
        elif isinstance(value, int | float) and not least <= value <= most:
            yield name, f"must be from {least} to {most}"
        elif name in _ABOVE_0 and not value:
            yield name, "must be above 0"


def _not_together(cell: Cell) -> Iterator[tuple[str, str]]:
    if cell.steps % POINTS:
        yield "steps", f"must be a multiple of {POINTS}"
    if cell.aux > cell.heads:
        yield "aux", f"the networks have {cell.heads} auxiliary logits (heads)"
    if not cell.aux and not cell.classes:
        yield "aux", "the channel shows no logit"
    if cell.code in channels.NEEDS_DETAIL and (cell.detail < 1 or cell.detail % 1):
        yield "detail", f"{cell.code} needs a whole number, from 1"
    if cell.code not in ("logits", "bits") and cell.loss == "mse":
        yield "loss", f"{cell.code} sends no logits to compare"
    if cell.hops > 1 and (
        cell.student_depth not in (0, cell.depth) or cell.student_network == "cnn"
    ):
        yield "hops", "only students of the teacher's layers can be teachers"
    if cell.hops > 1 and cell.trait == "both":
        yield "hops", "a chain begins with one teacher (trait)"
    if cell.matched and cell.trait == "both":
        yield "matched", "it would be one teacher whose behaviour it has (trait)"
    if cell.student_network == "cnn" and cell.student_depth:
        yield "student_depth", "a cnn has its own layers"
    if cell.linear:
        yield "linear", "config.linear_members asks for the linearised twins of cells"
