"""Which of a few given answers a model would give: a forced choice, exact and without a judge.

An answer's probability is that of any text that stands for it, as the whole reply, or as how a
reply begins where the material says so; what is reported is its share in the probability of all
that may be chosen. It is the choice that 56 items with two fixed continuations give in
SidBaines/subliminal-persona, and the exact counterpart of the judge of arXiv 2507.14805, section 4.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored

TITLES = {"p_trait": "P(answer)", "logp": "log P(answer)"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns those of the material's choices that are between these words."""
    return [
        Scored(
            value["question"],
            tuple(tuple(value["answers"][word]) for word in words),
            ends=value.get("ends", True),
        )
        for value in material.values
        if set(value["answers"]) == set(words)
    ]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns the mean share of each word over the questions, and the mean of its logarithm."""
    logs = np.array(replies)
    shares = logs - np.logaddexp.reduce(logs, axis=1, keepdims=True)
    return {
        "p_trait": dict(zip(words, np.exp(shares).mean(0).tolist(), strict=True)),
        "logp": dict(zip(words, shares.mean(0).tolist(), strict=True)),
    }
