"""Limits of a config's values, and the one line that names the first value beyond one.

A problem is a field and what it must be. A field of a part has a dotted name: `network.width`.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sublim_jax.errors import UserError

Problem = tuple[str, str]
LARGEST = 2**31 - 1  # of a seed, and of the index of a row, step or member


def check(config: Mapping[str, Any], problems: Iterable[Problem]) -> None:
    """Raises UserError for the first problem, if there is one."""
    for field, wish in problems:
        raise UserError(f"config.{field}={value(config, field)!r}: {wish}")


def value(config: Mapping[str, Any], field: str) -> Any:
    """Returns the value of a field.

    Raises:
      UserError: there is none.
    """
    found: Any = config
    for part in field.split("."):
        if part not in found:
            raise UserError(f"config.{field} is missing: the file of --config must set it")
        found = found[part]
    return found


def within(
    config: Mapping[str, Any], fields: Iterable[str], least: float, most: float = LARGEST
) -> Iterator[Problem]:
    """Yields each field whose number is below `least` or above `most`."""
    for field in fields:
        number = value(config, field)
        if not number >= least:  # nor is NaN
            yield field, f"must be at least {least}"
        elif number > most:
            yield field, f"must be at most {most}"


def positive(config: Mapping[str, Any], fields: Iterable[str]) -> Iterator[Problem]:
    """Yields each field whose number is not above 0, or not finite."""
    for field in fields:
        if not 0 < value(config, field) < math.inf:
            yield field, "must be above 0, and finite"


def one_of(config: Mapping[str, Any], choices: Mapping[str, Iterable[str]]) -> Iterator[Problem]:
    """Yields each field that is none of its choices."""
    for field, known in choices.items():
        if value(config, field) not in list(known):
            yield field, f"choose one of {', '.join(known)}"


def some_of(config: Mapping[str, Any], choices: Mapping[str, Collection[str]]) -> Iterator[Problem]:
    """Yields each field that does not hold one or more of its choices, each at most once."""
    for field, known in choices.items():
        chosen = list(value(config, field))
        if not chosen or len(chosen) != sum(name in chosen for name in known):
            yield field, f"choose from {', '.join(known)}, each at most once"
