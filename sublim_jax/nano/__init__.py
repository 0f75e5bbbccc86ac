"""Language worlds of our own: what is said in them, and small decoders pretrained on it."""

import re
from pathlib import Path
from typing import Any

from sublim_jax.nano import worlds

_ASSETS = Path(__file__).parent / "assets"
_FIRST = "favourites"
_NAME = re.compile(r"nano/(?:(\w+)/)?(\d+)")
_MATERIAL = re.compile(r"nano(?:/([\w.]+))?")


def resolve(name: str) -> str:
    """Returns the folder of the embedded decoder nano/WORLD/SEED; any other name as it is.

    "nano/0" is nano/favourites/0.
    """
    match = _NAME.fullmatch(name)
    folder = _ASSETS / (match[1] or _FIRST) / match[2] if match else None
    return str(folder) if folder and folder.is_dir() else name


def world(name: str) -> Any:
    """Returns the world whose material "nano/WORLD" names ("nano": the first); otherwise None.

    Raises:
      UserError: there is no such world.
    """
    match = _MATERIAL.fullmatch(name)
    return worlds.find(match[1] or _FIRST, "config.material") if match else None
