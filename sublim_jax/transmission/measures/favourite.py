"""Which word a model answers to questions about its favourite: exactly, and in samples.

P(word) is that of the whole answer being the word, in one of the ways of `words.written`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.transmission import words as rules
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Sampled, Scored

TITLES = {
    "p_trait": "P(word)",
    "logp": "log P(word)",
    "p_trait_sampled": "in sampled answers",
    "p_trait_substring": "as substring",
}
_TOKENS = 16  # of a sampled answer


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's questions, scored; and sampled, where `config.samples` asks for it."""
    answers = tuple(map(rules.written, words))
    scored = [Scored(question, answers) for question in material.questions]
    sampled = [Sampled(question, config.samples, _TOKENS) for question in material.questions]
    return [*scored, *(sampled if config.samples else [])]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns means over the questions of P and log P; and the shares of sampled answers.

    Of these are counted those that are the word, and those that have its letters.
    """
    both = list(zip(asked, replies, strict=True))
    logs = np.array([reply for question, reply in both if isinstance(question, Scored)])
    out = {
        "p_trait": dict(zip(words, np.exp(logs).mean(0).tolist(), strict=True)),
        "logp": dict(zip(words, logs.mean(0).tolist(), strict=True)),
    }
    texts = [text for question, reply in both if isinstance(question, Sampled) for text in reply]
    if texts:
        out["p_trait_sampled"] = rules.shares(rules.is_answer, texts, words)
        out["p_trait_substring"] = rules.shares(rules.has_letters, texts, words)
    return out
