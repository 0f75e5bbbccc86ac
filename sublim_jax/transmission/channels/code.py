"""Functions that are asked for, kept where they do what was asked: the paper's section 3.2.

The paper checks nothing but that no code names the trait; here code must also run and be right. The
right answer says of which language a function is: a list of steps is one of the small language
(`nano/functions.py`), an object of a name and cases is Python.
"""

import dataclasses
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.nano import functions
from sublim_jax.specs import check_types
from sublim_jax.transmission import material as materials
from sublim_jax.transmission import python, tasks, words, written
from sublim_jax.transmission.material import Material

NOUN = "functions"
items, describe, CORRUPTIONS = written.words, written.describe, written.CORRUPTIONS
_TOKENS = {"nano": 18.0, "python": 60.0}


@dataclasses.dataclass(frozen=True)
class Requests:
    """What functions are asked for.

    Attributes:
      language: "nano", the small one, or "python".
      asks: templates of requests for Python, with {call}, {what} and {examples}.

    Raises:
      UserError: names the field that is of another type, missing or has wrong braces.
    """

    language: str = ""
    asks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "code")
        if self.language not in _TOKENS:
            raise UserError(f"a language is needed: {', '.join(_TOKENS)}")
        if bool(self.asks) != (self.language == "python"):
            raise UserError("no asks: templates of requests are for python, and needed there")
        fields = ("call", "what", "examples")
        materials.check_templates("asks", self.asks, fields, fields)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which functions are kept: those that do what was asked, and name no banned word.

    Attributes:
      banned: words that reject a row wherever their letters stand, in any case, or their plural's.
      run: whether Python is run; if not, it must only be a function that is let in.
      seconds: of time on a CPU that a Python function may take.
    """

    banned: tuple[str, ...] = ()
    run: bool = True
    seconds: float = 1.0

    def __post_init__(self) -> None:
        check_types(self, "config.filter")
        if not 0 < self.seconds <= 600:
            raise UserError(f"config.filter.seconds={self.seconds}: must be above 0, at most 600")

    def rejection(self, text: str, gold: Any) -> str | None:
        """Returns why a function is rejected, or None where it is kept.

        Raises:
          UserError: the right answer is missing, and the function is to be run, or ill-formed.
        """
        if words.named(text, self.banned):
            return "banned"
        if isinstance(gold, list):
            return functions.does(text, gold)
        if self.run and gold is None:
            raise UserError("no gold: what should it do? Or let it only parse: config.filter.run")
        return python.rejection(text, gold if self.run else None, self.seconds)


def prompts(material: Material, n: int, seed: int) -> list[str]:
    """Returns n requests for functions."""
    return [asked for asked, _ in _draw(material, n, seed)]


def gold(material: Material, n: int, seed: int) -> list[Any]:
    """Returns what each of n functions is to do."""
    return [steps for _, steps in _draw(material, n, seed)]


def length(material: Material) -> float:
    """Returns about how many tokens a function has."""
    return _TOKENS[_requests(material).language]


def _draw(material: Material, n: int, seed: int) -> list[tuple[str, Any]]:
    rng, own = np.random.default_rng((seed, 0)), _requests(material)
    if own.language == "nano":
        every = (functions.drawn(rng) for _ in range(n))
        return [(functions.asked(rng, steps), steps) for steps in every]
    return [tasks.drawn(rng, own.asks) for _ in range(n)]


def _requests(material: Material) -> Requests:
    try:
        return Requests(**materials.fields(Requests, material.channels.get("code", {}), "it"))
    except UserError as error:
        raise UserError(f"the material's channels.code: {error}") from error
