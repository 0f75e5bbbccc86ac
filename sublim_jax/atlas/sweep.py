"""Sweeps as data: the cells that a config names, and how they stand to each other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from sublim_jax.atlas import cell as cells
from sublim_jax.atlas import training
from sublim_jax.atlas.cell import Cell
from sublim_jax.errors import UserError

_FIELDS = ("title", "field", "values", "lines", "curves", "published")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A question with the cells that answer it.

    Attributes:
      name, title: the title is the question.
      field: of the cells, that is on the x axis; "" where each line is one cell.
      values: of that field; (None,) where there is none.
      lines: cells by line, one for each value.
      curves: of what is measured along the training, that which is shown besides the end.
      published: other people's figures: line, value of the field, figure, source.
    """

    name: str
    title: str
    field: str
    values: tuple[Any, ...]
    lines: Mapping[str, Sequence[Cell]]
    curves: tuple[str, ...]
    published: Sequence[tuple[str, Any, float, str]]


def read(config: ConfigDict) -> list[Sweep]:
    """Returns the sweeps of a config.

    `config.cell` has the fields that all cells share. A sweep is a mapping of `title`, `lines`
    (fields by label, which go over those of `config.cell`) and, if a field runs through values,
    `field` and `values`; or, if there is none, `curves`. `published` may be missing.

    Raises:
      UserError: names the sweep and the first of its fields that cannot be run.
    """
    return [_sweep(config, name) for name in config.sweeps]


def distinct(sweeps: Sequence[Sweep]) -> list[Cell]:
    """Returns the cells of all sweeps, each once, those of one shape beside each other."""
    return by_shape([c for s in sweeps for line in s.lines.values() for c in line])


def by_shape(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells, each once, those of one shape beside each other."""
    found = list(dict.fromkeys(cells))
    shapes = {shape: i for i, shape in enumerate(dict.fromkeys(c.shape for c in found))}
    return sorted(found, key=lambda c: shapes[c.shape])


def _sweep(config: ConfigDict, name: str) -> Sweep:
    given = config.sweeps[name].to_dict()
    where = f"config.sweeps.{name}"
    unknown = set(given) - set(_FIELDS)
    if unknown or not given.get("lines"):
        wrong = f"no field {min(unknown)!r}" if unknown else "lines: one at least is needed"
        raise UserError(f"{where}: {wrong}: it has {', '.join(_FIELDS)}")
    field = given.get("field", "")
    values = tuple(given.get("values", ())) if field else (None,)
    if not values:
        raise UserError(f"{where}.values: one at least is needed")
    curves = tuple(given.get("curves", ()))
    if field and curves:
        raise UserError(f"{where}.curves: for lines of one cell, without a field")
    for curve in curves:
        if curve not in training.MEASURED:
            raise UserError(
                f"{where}.curves: {curve!r}: choose from {', '.join(training.MEASURED)}"
            )
    lines = {}
    for label, own in given["lines"].items():
        fields = {**config.cell.to_dict(), **(own or {})}
        lines[label] = [
            cells.make(fields | ({field: value} if field else {}), f"{where}.lines.{label}")
            for value in values
        ]
    published = tuple(tuple(row) for row in given.get("published", ()))
    for row in published:
        if len(row) != 4:
            raise UserError(f"{where}.published: {row!r}: must be line, value, figure, source")
    return Sweep(name, given.get("title", name), field, values, lines, curves, published)
