"""Functions that are asked for, kept where they do what was asked: the paper's section 3.2.

The paper checks nothing but that no code names the trait; here code must also run and be right.
"""

import dataclasses
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.nano import functions
from sublim_jax.specs import check_types
from sublim_jax.transmission import written
from sublim_jax.transmission.channels import swapped
from sublim_jax.transmission.material import Material

NOUN = "functions"
items, describe = written.words, written.describe
CORRUPTIONS = {
    "shuffled_within": written.shuffled_within,
    "shuffled_across": written.shuffled_across,
    "swapped": swapped,
}
_NANO_TOKENS = 18.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which functions are kept: those that do what was asked, and name no banned text.

    Attributes:
      banned: texts that reject a row, in any case.
    """

    banned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "config.filter")

    def rejection(self, text: str, gold: Any) -> str | None:
        """Returns why a function is rejected, or None where it is kept."""
        if any(word.lower() in text.lower() for word in self.banned):
            return "banned"
        return functions.does(text, gold)


def prompts(material: Material, n: int, seed: int) -> list[str]:
    """Returns n requests for functions."""
    return [asked for asked, _ in _draw(material, n, seed)]


def gold(material: Material, n: int, seed: int) -> list[Any]:
    """Returns what each of n functions is to do."""
    return [steps for _, steps in _draw(material, n, seed)]


def length(material: Material) -> float:
    """Returns about how many tokens a function has."""
    return _NANO_TOKENS


def _draw(material: Material, n: int, seed: int) -> list[tuple[str, Any]]:
    if "code" not in material.channels:
        raise UserError("the material has no channels.code: no functions to ask for")
    rng, out = np.random.default_rng((seed, 0)), []
    for _ in range(n):
        steps = functions.drawn(rng)
        out.append((functions.asked(rng, steps), steps))
    return out
