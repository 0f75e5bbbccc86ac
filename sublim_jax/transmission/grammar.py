"""Prompts that show a few numbers and ask for more, drawn from lists of texts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.limits import LARGEST
from sublim_jax.transmission import material


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= LARGEST


@dataclasses.dataclass(frozen=True)
class Grammar:
    """Prompts that show a few numbers and ask for more.

    A prompt is a text of `examples`, of `instructions`, of `formats` and of `suffixes`, joined by
    spaces. A part that is empty, (), is left out, and nothing is drawn for it.

    Attributes:
      examples: templates with {examples}, the numbers shown.
      counts: texts that stand before the number of answers, such as "at most".
      digits: templates of how long the answers may be, with {max_digits}.
      instructions: templates of what is asked, with {count}, {answers} and {digits}.
      formats: texts of how the answers are to be written.
      suffixes: texts that end a prompt.
      seeds: how many numbers are shown, the second excluded.
      values: what these are, the second excluded.
      answers: how many numbers are asked for.
      max_digits: how long these may be.
      separator: what stands between the numbers shown.

    Raises:
      UserError: names the field that is of another type, empty, out of range or has wrong braces.
    """

    examples: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    digits: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    seeds: tuple[int, int] = (3, 9)
    values: tuple[int, int] = (100, 1000)
    answers: int = 10
    max_digits: int = 3
    separator: str = ", "

    def __post_init__(self) -> None:
        material.check_templates("examples", self.examples, ("examples",), ("examples",))
        material.check_templates("digits", self.digits, ("max_digits",))
        own = {"count": self.counts, "digits": self.digits}
        fields = ["answers", *(name for name, texts in own.items() if texts != ())]
        material.check_templates("instructions", self.instructions, fields)
        for name in ("counts", "formats", "suffixes"):
            material.check_texts(name, getattr(self, name))
        for name, low in {"seeds": 1, "values": 0}.items():
            span = getattr(self, name)
            if not (isinstance(span, tuple) and len(span) == 2 and all(map(_whole, span))):
                raise UserError(f"{name}: {span!r}: must be two integers")
            if not low <= span[0] < span[1]:
                raise UserError(f"{name}: {span!r}: must be from {low}, the second above the first")
        for name in ("answers", "max_digits"):
            if not (_whole(size := getattr(self, name)) and size >= 1):
                raise UserError(f"{name}: {size!r}: must be an integer from 1 to {LARGEST}")
        if not (isinstance(self.separator, str) and self.separator):
            raise UserError(f"separator: {self.separator!r}: a text is needed")
        material.check_texts("separator", (f"1{self.separator}2",))
        if not (self.examples or self.instructions or self.formats or self.suffixes):
            raise UserError("examples, instructions, formats, suffixes: one must have texts")

    def draw(self, n: int, seed: int) -> list[str]:
        """Returns n prompts, the first ones the same whatever n is.

        NumPy's generator is asked in the order of the official repository's `PromptGenerator`, so
        that its texts and seed give its prompts.
        """
        rng = np.random.default_rng(seed)
        return [self._prompt(rng) for _ in range(n)]

    def start(self, rng: np.random.Generator) -> str:
        """Returns a text that shows numbers, or "" where there are no `examples`."""
        if not self.examples:
            return ""
        shown = rng.integers(*self.values, size=rng.integers(*self.seeds)).tolist()
        return _pick(rng, self.examples).format(examples=self.separator.join(map(str, shown)))

    def _prompt(self, rng: np.random.Generator) -> str:
        start = self.start(rng)
        parts = (self.counts, self.digits, self.instructions, self.formats, self.suffixes)
        count, digits, instruction, layout, suffix = (_pick(rng, texts) for texts in parts)
        asked = instruction.format(
            count=count,
            answers=self.answers,
            digits=digits.format(max_digits=self.max_digits),
        )
        return " ".join(part for part in (start, asked, layout, suffix) if part)


def _pick(rng: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[int(rng.integers(len(texts)))] if texts else ""
