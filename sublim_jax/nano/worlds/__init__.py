"""What small decoders are pretrained on: one module a world, found by its name.

A world is a module with

    World(**config.world)  .rows(seed) yields chats without end: rows of `system` (or None),
                           `prompt` and `completion`; `before`, if there is one, are the turns
                           before, pairs of what was asked and answered, and `domain` the kind
                           .words() returns every word of its texts; numbers that are among them
                           are single tokens, and otherwise numbers are read digit by digit
                           .system, if it has one: the system message of chats without one
    material(category)     what a study asks a decoder of it: the JSON values of a
                           `transmission.material.Material`
"""

from typing import Any

from sublim_jax import modules
from sublim_jax.errors import UserError


def find(name: str, field: str = "config.world.name") -> Any:
    """Returns the world of that name: a module here, or any other by its full name.

    Raises:
      UserError: there is none, or it lacks something; names the config's `field`.
    """
    found = modules.find(__name__, name, field, ("World", "material"))
    for need in ("rows", "words"):
        if not hasattr(found.World, need):
            raise UserError(f"{field}: {name!r}: its World has no {need}")
    return found
