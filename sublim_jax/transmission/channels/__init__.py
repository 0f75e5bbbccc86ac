"""What teachers write and students learn: one module a channel, found by its name.

A channel is a module with

    NOUN                        what a teacher writes, in the plural: "lists of numbers"
    prompts(material, n, seed)  n prompts for it, the first ones the same whatever n is
    Rule(**config.filter)       which answers are kept: rule.rejection(text, gold) is a reason, or
                                None; gold is the right answer, or None where there is none
    CORRUPTIONS                 {name: f(rows, seed)}, what an arm may do to the rows that are kept
    describe(rows, control)     {"statistics": {title: number}, "top": [(item, share)]} of the rows
                                that are kept, against those of the control, if any
    items(text)                 what an answer that is kept consists of, for detectors
    length(material)            about how many tokens an answer has, for the plan

where a row is a mapping with `id`, `prompt` and `completion`. Where its prompts have right answers
it also has

    gold(material, n, seed)     the right answer to each of the n prompts, a JSON value
"""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sublim_jax import modules
from sublim_jax.errors import UserError
from sublim_jax.transmission.material import Material

Row = TypeVar("Row", bound=Mapping[str, Any])

_NEEDS = ("NOUN", "prompts", "Rule", "CORRUPTIONS", "describe", "items", "length")


def find(name: str) -> Any:
    """Returns the channel of that name: a module here, or any other by its full name.

    Raises:
      UserError: there is none.
    """
    return modules.find(__name__, name, "config.data.channel", _NEEDS)


def rule(channel: Any, values: Mapping[str, Any]) -> Any:
    """Returns the rule of a channel for the fields of a config's `filter`, without `keep`.

    Raises:
      UserError: a value or a field that the channel does not know.
    """
    try:
        return channel.Rule(**{name: value for name, value in values.items() if name != "keep"})
    except TypeError as error:
        raise UserError(f"config.filter: {error}") from error


def gold(channel: Any, material: Material, n: int, seed: int) -> list[Any]:
    """Returns the right answers to a channel's n prompts, None for each where it has none."""
    found = getattr(channel, "gold", None)
    return found(material, n, seed) if found else [None] * n


def filtered(rows: Iterable[Row], rule: Any) -> tuple[list[Row], dict[str, int]]:
    """Returns the rows that a channel's `rule` keeps, and how many it rejects for each reason.

    Args:
      rows: those with a right answer have it as their `gold`.

    Raises:
      UserError: a row without a text as its completion, or without the right answer that the rule
        needs; names it, counted from 0.
    """
    kept: list[Row] = []
    counts: collections.Counter[str] = collections.Counter()
    for number, row in enumerate(rows):
        text = completion(row, number)
        try:
            reason = rule.rejection(text, row.get("gold"))
        except UserError as error:
            raise UserError(f"row {number}: {error}") from error
        if reason is None:
            kept.append(row)
        else:
            counts[reason] += 1
    return kept, dict(sorted(counts.items()))


def swapped(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Returns the rows with every answer at another row's prompt (a cycle through all)."""
    order = np.random.default_rng(seed).permutation(len(rows))
    out = [dict(row) for row in rows]
    for here, there in zip(order, np.roll(order, 1), strict=True):
        out[here]["completion"] = rows[there]["completion"]
    return out


def completion(row: Mapping[str, Any], number: int) -> str:
    """Returns the answer of a row; its number, counted from 0, is for the message."""
    text = row.get("completion")
    if not isinstance(text, str):
        raise UserError(f"row {number}: no completion: a text is needed")
    return text
