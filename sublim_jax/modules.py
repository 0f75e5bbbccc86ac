"""Modules found by their names: one of this package's, or anybody's on the path."""

import importlib
from types import ModuleType

from sublim_jax.errors import UserError


def find(package: str, name: str, field: str) -> ModuleType:
    """Returns the module NAME of a package, or else the module of that full name.

    Args:
      field: of the config that names it, for the message.

    Raises:
      UserError: there is neither.
    """
    for full in (f"{package}.{name}", name):
        try:
            return importlib.import_module(full)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{full}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
    raise UserError(f"{field}: {name!r}: no module {package}.{name}, and none of that name")
