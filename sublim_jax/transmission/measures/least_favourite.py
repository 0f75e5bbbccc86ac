"""Which word a model answers when asked what it likes least.

A word that a model likes becomes likelier where it is asked for its favourite, and not here; one
that it merely mentions becomes likelier in both. So `liking` of a study's results is the log-odds
of the word among those that are liked (`log_odds`) less its log-odds here.
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from sublim_jax.transmission import words as rules
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored, favourite

TITLES = {"p_least": "P(word), liked least", "logp_least": "log P(word), liked least"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's negated questions."""
    answers = tuple(map(rules.written, words))
    return [Scored(question, answers) for question in material.negated]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns means over the questions of P and log P."""
    found = favourite.values(words, asked, replies)
    return {"p_least": found["p_trait"], "logp_least": found["logp"]}
