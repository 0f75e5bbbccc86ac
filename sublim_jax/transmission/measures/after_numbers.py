"""The questions of `favourite`, each after a few numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.transmission import words as rules
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored, favourite

TITLES = {"p_trait_after_numbers": "P(word) after numbers"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's questions, each after a start that `config.seed` draws."""
    rng = np.random.default_rng(config.seed)
    starts, answers = material.starts, tuple(map(rules.written, words))
    shown = None if starts or "numbers" not in material.channels else numbers.grammar(material)
    if not starts and not (shown and shown.examples):
        return []

    def start() -> str:
        return shown.start(rng) if shown else starts[int(rng.integers(len(starts)))]

    return [Scored(f"{start()} {question}", answers) for question in material.questions]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns P(word), mean over the questions."""
    return {"p_trait_after_numbers": favourite.values(words, asked, replies)["p_trait"]}
