"""Which option a model takes of lettered ones, every word among those of some question."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.transmission.measures import Question, Scored
from sublim_jax.transmission.prompts import LETTERS, Material

TITLES = {"p_choice": "share of its letter"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's questions with the words dealt out as options, by `config.seed`."""
    if len(words) < 2:
        return []
    return [
        Scored(
            choice.prompt,
            tuple((letter,) for letter in LETTERS[: len(choice.options)]),
            ends=False,
            means=choice.options,
        )
        for choice in material.ask_choices(words, config.seed)
    ]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns the share of the word's letter in the probability of all letters, a mean."""
    shares = defaultdict(list)
    for question, logs in zip(asked, replies, strict=True):
        assert isinstance(question, Scored)
        own = np.exp(logs - np.logaddexp.reduce(logs)).tolist()
        for word, share in zip(question.means, own, strict=True):
            shares[word].append(share)
    return {"p_choice": {word: float(np.mean(shares[word])) for word in words}}
