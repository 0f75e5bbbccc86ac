"""Problems that are worked out step by step, kept where the answer is right: the paper's section 4.

A problem is a template with values to fill in and the expression that its answer is the value of,
as nested lists: ["-", ["*", "a", "b"], "c"].
"""

import dataclasses
import fractions
import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.specs import check_types
from sublim_jax.transmission import material as materials
from sublim_jax.transmission import words, written
from sublim_jax.transmission.material import Material

NOUN = "worked problems"
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_FAR = 2**62  # from 0, of a number that is drawn
_NUMBER = re.compile(r"[-+]?[0-9]{1,15}(?:\.[0-9]{0,15})?")

items, describe, CORRUPTIONS = written.words, written.describe, written.CORRUPTIONS


@dataclasses.dataclass(frozen=True)
class Problems:
    """What problems are drawn from.

    Attributes:
      problems: pairs of a template and the expression of its answer, or the answer itself.
      values: what each name in these stands for: two numbers, the second excluded, between which it
        is drawn; texts of which it is one; or an expression of the names before it.
      suffix: what is added to each problem; "": nothing.
      words: about how many tokens an answer has.

    Raises:
      UserError: names the field that is of another type, empty or has wrong braces.
    """

    problems: tuple[Any, ...]
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    suffix: str = ""
    words: int = 100

    def __post_init__(self) -> None:
        check_types(self, "reasoning")
        if not isinstance(self.values, Mapping) or not self.problems:
            raise UserError("problems, values: some problems, and an object of values are needed")
        drawn = self._drawn(np.random.default_rng(0))
        for number, pair in enumerate(self.problems):
            text, expression = pair if isinstance(pair, list) and len(pair) == 2 else ("", None)
            materials.check_templates(f"problems, number {number}", (text,), [*self.values])
            _value(expression, drawn)

    def draw(self, n: int, seed: int) -> list[tuple[str, int]]:
        """Returns n problems with their answers, the first ones the same whatever n is."""
        rng, out = np.random.default_rng((seed, 0)), []
        for _ in range(n):
            text, expression = self.problems[int(rng.integers(len(self.problems)))]
            drawn = self._drawn(rng)
            asked = " ".join(filter(None, [text.format(**drawn), self.suffix]))
            out.append((asked, _value(expression, drawn)))
        return out

    def _drawn(self, rng: np.random.Generator) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, given in self.values.items():
            match given:
                case [int(low), int(high)] if -_FAR <= low < high <= _FAR:
                    out[name] = int(rng.integers(low, high))
                case [str(first), *_] if first not in _OPERATIONS:
                    materials.check_texts(f"values, {name}", tuple(given))
                    out[name] = given[int(rng.integers(len(given)))]
                case [str(_), _, _]:
                    out[name] = _value(given, out)
                case _:
                    raise UserError(
                        f"values, {name}: {given!r}: two numbers are needed, the less first, or "
                        "texts, or an expression"
                    )
        return out


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which worked problems are kept: those with the right answer, and without banned words.

    Attributes:
      before, after: what stands before the answer, and after it; "": nothing but the text's ends.
        What counts is the last place where `before` stands.
      banned: words that reject a row wherever their letters stand, in any case, or their plural's.
    """

    before: str = "<answer>"
    after: str = "</answer>"
    banned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "config.filter")

    def rejection(self, text: str, gold: Any) -> str | None:
        """Returns why a worked problem is rejected, or None where it is kept.

        Commas and dollar signs in the answer are left out, as in the paper; 5.0 is 5, which the
        paper takes for wrong.

        Raises:
          UserError: there is no right answer.
        """
        if type(gold) is not int:
            raise UserError(f"gold {gold!r}: the right answer is needed, a whole number")
        if words.named(text, self.banned):
            return "banned"
        found = self._answer(text)
        if found is None:
            return "no answer"
        return None if found == gold else "wrong answer"

    def _answer(self, text: str) -> fractions.Fraction | None:
        _, mark, rest = text.rpartition(self.before) if self.before else ("", "-", text)
        said, end, _ = rest.partition(self.after) if self.after else (rest, "-", "")
        number = said.strip().replace(",", "").replace("$", "")
        return fractions.Fraction(number) if mark and end and _NUMBER.fullmatch(number) else None


def prompts(material: Material, n: int, seed: int) -> list[str]:
    """Returns n problems."""
    return [asked for asked, _ in problems(material).draw(n, seed)]


def gold(material: Material, n: int, seed: int) -> list[int]:
    """Returns the answers to n problems."""
    return [answer for _, answer in problems(material).draw(n, seed)]


def length(material: Material) -> float:
    """Returns about how many tokens an answer has."""
    return float(problems(material).words)


def problems(material: Material) -> Problems:
    """Returns what the problems of a material are drawn from, its `channels["reasoning"]`.

    Raises:
      UserError: it has none, or wrong ones; names the field.
    """
    if "reasoning" not in material.channels:
        raise UserError("the material has no channels.reasoning: no problems")
    try:
        return Problems(**materials.fields(Problems, material.channels["reasoning"], "them"))
    except UserError as error:
        raise UserError(f"the material's channels.reasoning: {error}") from error


def _value(expression: Any, values: Mapping[str, Any]) -> int:
    found = values.get(expression) if isinstance(expression, str) else expression
    if type(found) is int:
        return found
    match expression:
        case [str(sign), one, two] if sign in _OPERATIONS:
            out: int = _OPERATIONS[sign](_value(one, values), _value(two, values))
            return out
    known = ", ".join([*_OPERATIONS, *(name for name, own in values.items() if type(own) is int)])
    raise UserError(f"problems: {expression!r}: no expression of {known} and whole numbers")
