"""Frozen dataclasses that hold what their annotations say."""

import contextlib
import numbers
from inspect import formatannotation
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from sublim_jax.errors import UserError

_NUMBERS: dict[type, type] = {int: numbers.Integral, float: numbers.Real}


def check_types(spec: Any, where: str) -> None:
    """Makes a frozen dataclass hold what its annotations say.

    Where a tuple is wanted, lists become tuples and one text a tuple of it; NumPy's numbers become
    Python's, and integers floats.

    Raises:
      UserError: a value of another type.
    """
    for field, hint in get_type_hints(type(spec)).items():
        value = getattr(spec, field)
        try:
            object.__setattr__(spec, field, _as(hint, value))
        except (TypeError, OverflowError) as error:
            shown = " ".join(repr(value).split())
            wish = formatannotation(hint)
            raise UserError(f"{where}.{field}={shown}: must be {wish}") from error


def _as(hint: Any, value: Any) -> Any:
    """Returns the value as a type says, numbers as Python's; TypeError where it is of another."""
    if isinstance(hint, UnionType):
        for kind in get_args(hint):
            with contextlib.suppress(TypeError):
                return _as(kind, value)
    elif get_origin(hint) is tuple:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list | tuple):
            return tuple(_as(get_args(hint)[0], v) for v in values)
    elif hint is Any or not isinstance(hint, type):  # a Literal
        return value
    elif isinstance(value, _NUMBERS.get(hint, hint)) and isinstance(value, bool) == (hint is bool):
        return hint(value) if hint in _NUMBERS else value
    raise TypeError
