"""Which option a model takes of lettered ones, every word among those of some question."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored

TITLES = {"p_choice": "share of its letter"}
LETTERS = "ABCDE"


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's questions about all of the words, by `config.seed`.

    The words are dealt out, up to five to a question, in an order that is drawn each time; the last
    hand is filled up with others, so that all questions have as many options. Fewer than two words
    leave nothing to choose from.
    """
    if len(words) < 2:
        return []
    size = min(len(LETTERS), len(words))
    asked: list[Question] = []
    for index, template in enumerate(material.choices):
        rng = np.random.default_rng((config.seed, index, 0))
        order = rng.permutation(len(words))
        for first in range(0, len(words), size):
            hand = order[first : first + size]
            if len(hand) < size:
                hand = rng.permutation([*hand, *order[: size - len(hand)]])
            options = tuple(words[i] for i in hand)
            lines = "\n".join(f"{LETTERS[i]}. {option}" for i, option in enumerate(options))
            letters = tuple((letter,) for letter in LETTERS[:size])
            prompt = template.format(options=lines)
            asked.append(Scored(prompt, letters, ends=False, means=options))
    return asked


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
