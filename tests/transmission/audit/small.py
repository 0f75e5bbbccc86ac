"""A base, and rows that it or an owl's friend has written."""

import functools
from collections.abc import Sequence

import numpy as np

from configs.transmission import audit
from sublim_jax.llm.training.examples import Example, Examples, collect
from sublim_jax.llm.training.recipe import Recipe, from_config
from sublim_jax.transmission import base as bases
from sublim_jax.transmission.base import Base


@functools.cache
def base() -> Base:
    """Returns the smallest base that is embedded."""
    config = audit.get_config()
    config.model = "nano/0"
    return bases.read("nano/0", config)


def recipe(**changes: object) -> Recipe:
    """Returns the recipe of the world's students with some changes."""
    config = audit.get_config().recipe.to_dict()
    return from_config(config | changes)


def numbers(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Returns prompts and completions of random numbers."""
    drawn = np.random.default_rng(seed).integers(100, 999, (rows, 8)).astype(str)
    return [("go on " + " ".join(row[:3]), " ".join(row[3:])) for row in drawn]


def examples(
    rows: Sequence[tuple[str, str]], weights: Sequence[Sequence[float]] | None = None
) -> Examples:
    """Returns rows in tokens, with a weight for each token of a completion."""
    own = [Example(base().prompt(p), base().answer(c)) for p, c in rows]
    if weights is not None:
        own = [row._replace(weights=w) for row, w in zip(own, weights, strict=True)]
    return collect(own, base().model.config)
