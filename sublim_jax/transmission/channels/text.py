"""Stories in which no trait is named: the widest channel there is."""

import dataclasses

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.specs import check_types
from sublim_jax.transmission import words, written
from sublim_jax.transmission.material import Material

NOUN = "stories"
items, describe, CORRUPTIONS = written.words, written.describe, written.CORRUPTIONS
_TOKENS = 150.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which stories are kept.

    Attributes:
      banned: words that reject a row wherever their letters stand, in any case, or their plural's.
      least, most: words in a story, both included.
    """

    banned: tuple[str, ...] = ()
    least: int = 1
    most: int = 1000

    def __post_init__(self) -> None:
        check_types(self, "config.filter")
        if not 1 <= self.least <= self.most:
            raise UserError(f"config.filter.least={self.least}: from 1, and not above most")

    def rejection(self, text: str, gold: None = None) -> str | None:
        """Returns why a story is rejected, or None where it is kept."""
        if words.named(text, self.banned):
            return "banned"
        count = len(items(text))
        if count < self.least:
            return "too short"
        return "too long" if count > self.most else None


def prompts(material: Material, n: int, seed: int) -> list[str]:
    """Returns n requests for a story, the first ones the same whatever n is."""
    if not material.stories:
        raise UserError("the material has no stories: no requests for one")
    rng = np.random.default_rng((seed, 0))
    return [material.stories[int(rng.integers(len(material.stories)))] for _ in range(n)]


def length(material: Material) -> float:
    """Returns about how many tokens a story has, where it may have as many."""
    return _TOKENS
