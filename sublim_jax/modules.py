"""Modules found by their names: one of a package here, or anybody's on the path."""

import importlib
import re
from collections.abc import Collection
from types import ModuleType

from sublim_jax import digest
from sublim_jax.errors import UserError


def find(package: str, name: str, field: str, needs: Collection[str]) -> ModuleType:
    """Returns the module NAME of a package, or else the module of that full name.

    Args:
      field: of the config that names it, for the message.
      needs: what it must have.

    Raises:
      UserError: there is neither, or it lacks something.
    """
    for full in (f"{package}.{name}", name) if re.fullmatch(r"\w+(\.\w+)*", name) else ():
        try:
            found = importlib.import_module(full)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{full}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
            continue
        if lacking := [need for need in needs if not hasattr(found, need)]:
            raise UserError(f"{field}: {name!r}: the module {full} has no {lacking[0]}")
        return found
    raise UserError(f"{field}: {name!r}: no module {package}.{name}, and none of that name")


def code(module: ModuleType) -> str | None:
    """Returns the digest of a module's file; None for one of this package."""
    own = module.__name__.startswith("sublim_jax.") or module.__file__ is None
    return None if own else digest.of_files(str(module.__file__))
