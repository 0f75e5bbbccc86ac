"""Sweeps as data: the cells that a config names, and how they stand to each other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from sublim_jax.atlas import cell as cells
from sublim_jax.atlas import training
from sublim_jax.atlas.cell import Cell
from sublim_jax.errors import UserError

_SEVERAL = (tuple, list)
_FIELDS: dict[str, Any] = {
    "title": str, "field": str, "values": _SEVERAL, "lines": dict, "best": dict,
    "curves": _SEVERAL, "published": _SEVERAL,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A question with the cells that answer it.

    Attributes:
      name, title: the title is the question.
      field: of the cells, that is on the x axis; "" where each line is one cell.
      values: of that field; (None,) where there is none.
      lines: cells by line: for each value one, or those of which the best is taken.
      best: the field in which these differ; "" where there is one.
      curves: of what is measured along the training, that which is shown besides the end.
      published: other people's figures: line, value of the field, figure, source.
    """

    name: str
    title: str
    field: str
    values: tuple[Any, ...]
    lines: Mapping[str, Sequence[Sequence[Cell]]]
    best: str
    curves: tuple[str, ...]
    published: Sequence[tuple[str, Any, float, str]]

    @property
    def cells(self) -> list[Cell]:
        """All of its cells, each once."""
        return list(dict.fromkeys(cell for line in self.along for cell in line))

    @property
    def along(self) -> list[list[Cell]]:
        """Its cells, those together that differ in one field alone (or, without, in one line)."""
        lines = list(self.lines.values())
        if not self.field:
            lines = [[line[0] for line in lines]]
        return [list(each) for line in lines for each in zip(*line, strict=True)]


def read(config: ConfigDict) -> list[Sweep]:
    """Returns the sweeps of a config.

    `config.cell` has the fields that all cells share. A sweep is a mapping of `title`, `lines`
    (fields by label, which go over those of `config.cell`) and, if a field runs through values,
    `field` and `values`; or, if there is none, `curves`. `published` may be missing. With `best`,
    another field and its values, as in {"rate": (1e-3, 1e-2)}, each cell is tried with all of them.

    Raises:
      UserError: names the sweep and the first of its fields that cannot be run.
    """
    return [_sweep(config, name) for name in config.sweeps]


def distinct(sweeps: Sequence[Sweep]) -> list[Cell]:
    """Returns the cells of all sweeps, each once."""
    return list(dict.fromkeys(cell for sweep in sweeps for cell in sweep.cells))


def _sweep(config: ConfigDict, name: str) -> Sweep:
    given, where = config.sweeps[name].to_dict(), f"config.sweeps.{name}"
    for key, value in given.items():
        if key not in _FIELDS:
            raise UserError(f"{where}: no field {key!r}: it has {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[key]):
            kind = "tuple" if _FIELDS[key] is _SEVERAL else _FIELDS[key].__name__
            raise UserError(f"{where}.{key}={value!r}: must be a {kind}")
    if not given.get("lines"):
        raise UserError(f"{where}: lines: one at least is needed")
    field, title = given.get("field", ""), given.get("title", name)
    values, curves, published = (
        tuple(given.get(key, ())) for key in ("values", "curves", "published")
    )
    values = values if field else (None,)
    if not values:
        raise UserError(f"{where}.values: one at least is needed")
    best = given.get("best", {})
    chosen, choices = next(iter(best.items()), ("", (None,)))
    if len(best) > 1 or chosen == field != "" or not isinstance(choices, _SEVERAL) or not choices:
        raise UserError(f"{where}.best={best}: must be one field, not {field!r}, and its values")
    if curves and (field or best):
        raise UserError(f"{where}.curves: for lines of one cell, without a field or best")
    for curve in curves:
        if curve not in training.MEASURED:
            raise UserError(
                f"{where}.curves: {curve!r}: choose from {', '.join(training.MEASURED)}"
            )
    for row in published:
        if len(row) != 4:
            raise UserError(f"{where}.published: {row!r}: must be line, value, figure, source")

    def cell(label: str, value: Any, choice: Any) -> Cell:
        own = {key: one for key, one in ((field, value), (chosen, choice)) if key}
        line = dict(given["lines"][label] or {})
        if both := own.keys() & line.keys():
            raise UserError(f"{where}.lines.{label}.{min(both)}: the sweep sets this field itself")
        return cells.make(config.cell.to_dict() | line | own, f"{where}.lines.{label}")

    lines = {
        label: [[cell(label, value, choice) for choice in choices] for value in values]
        for label in given["lines"]
    }
    return Sweep(name, title, field, values, lines, chosen, curves, published)
