"""The layout of an answer and nothing of what it says: what a detector must do better than."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sublim_jax.transmission.detect import logistic

TITLE = "layout alone"


def seen(texts: Sequence[str], items: Sequence[Sequence[Any]]) -> np.ndarray:
    """Returns of each text its length, its items, which kinds of letters, brackets and end."""
    return np.array([_layout(text, len(own)) for text, own in zip(texts, items, strict=True)])


def log_odds(own: np.ndarray, other: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the log-odds [rows] that each of `rows` is of the kind of `own`, not of `other`."""
    return logistic.log_odds(np.concatenate([own, other]), len(own), rows, 100.0)


def _layout(text: str, items: int) -> list[float]:
    kinds = [sum(map(kind, text)) for kind in (str.isdecimal, str.isalpha, str.isspace)]
    marks = [text.count(mark) for mark in ",;"]
    ends = [text[:1] in ("(", "["), text.endswith((".", ".)", ".]"))]
    return [float(x) for x in (len(text), items, *kinds, *marks, *ends)]
