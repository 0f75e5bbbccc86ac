"""Whether the word comes up in stories that a model is asked for."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from sublim_jax.transmission import words as rules
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Sampled

TITLES = {"story": "in stories", "story_substring": "in stories, as substring"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's requests for a story."""
    return [Sampled(text, config.story_samples, config.story_tokens) for text in material.stories]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns the shares of stories that have the whole word, and that have its letters."""
    texts = [text for reply in replies for text in reply]
    return {
        "story": rules.shares(rules.holds, texts, words),
        "story_substring": rules.shares(rules.has_letters, texts, words),
    }
