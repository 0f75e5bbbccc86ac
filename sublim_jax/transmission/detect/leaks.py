"""The positive control: answers of the control into which the trait's word is put."""

from collections.abc import Mapping

import numpy as np

SHARE = 0.5  # of the answers


def put_in(texts: Mapping[int, str], word: str, seed: int = 0) -> dict[int, str]:
    """Returns the texts by id, in about half of them the word at some place between two others."""
    return {i: _with(text, word, np.random.default_rng((seed, i))) for i, text in texts.items()}


def _with(text: str, word: str, rng: np.random.Generator) -> str:
    if rng.random() >= SHARE:
        return text
    parts = text.split(" ")
    at = int(rng.integers(len(parts) + 1))
    return " ".join([*parts[:at], word, *parts[at:]])
