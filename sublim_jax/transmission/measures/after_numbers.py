"""The questions of `favourite`, each after a few numbers."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from sublim_jax.transmission import words as rules
from sublim_jax.transmission.measures import Question, Scored, favourite
from sublim_jax.transmission.prompts import Material, prefixed

TITLES = {"p_trait_after_numbers": "P(word) after numbers"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's questions after numbers that `config.seed` draws."""
    shown = material.prefix or material.grammar
    if not shown.examples:
        return []
    answers = tuple(map(rules.written, words))
    return [Scored(text, answers) for text in prefixed(material.questions, shown, config.seed)]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns P(word), mean over the questions."""
    return {"p_trait_after_numbers": favourite.values(words, asked, replies)["p_trait"]}
