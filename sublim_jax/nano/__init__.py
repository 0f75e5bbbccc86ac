"""The embedded language world: a corpus, a tokenizer and small decoders trained on it."""

import re
from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
_NAME = re.compile(r"nano/(\d+)")


def resolve(name: str) -> str:
    """Returns the folder of the embedded decoder "nano/SEED"; any other name as it is."""
    match = _NAME.fullmatch(name)
    folder = _ASSETS / match[1] if match else None
    return str(folder) if folder and folder.is_dir() else name
