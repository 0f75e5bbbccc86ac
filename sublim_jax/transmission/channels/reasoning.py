"""Problems that are worked out step by step, kept where the answer is right: the paper's section 4.

A problem is a template with numbers to fill in and the expression that its answer is the value of,
as nested lists: ["-", ["*", "a", "b"], "c"].
"""

import dataclasses
import fractions
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.specs import check_types
from sublim_jax.transmission import material as materials
from sublim_jax.transmission import written
from sublim_jax.transmission.channels import swapped
from sublim_jax.transmission.material import Material

NOUN = "worked problems"
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}

items, describe = written.words, written.describe
CORRUPTIONS = {
    "shuffled_within": written.shuffled_within,
    "shuffled_across": written.shuffled_across,
    "swapped": swapped,
}


@dataclasses.dataclass(frozen=True)
class Problems:
    """What problems are drawn from.

    Attributes:
      problems: pairs of a template and the expression of its answer.
      values: the numbers that each name of an expression may stand for, the second excluded.
      suffix: what is added to each problem; "": nothing.
      words: about how many tokens an answer has.

    Raises:
      UserError: names the field that is of another type, empty or has wrong braces.
    """

    problems: tuple[Any, ...]
    values: Mapping[str, Any]
    suffix: str = ""
    words: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping) or not self.problems:
            raise UserError("problems, values: some problems, and an object of values are needed")
        for name, both in self.values.items():
            low, high = both if len(both) == 2 else (0, 0)
            if not (type(low) is type(high) is int and low < high):
                raise UserError(f"values, {name}: {both!r}: two numbers are needed, the less first")
        for number, pair in enumerate(self.problems):
            text, expression = pair if len(pair) == 2 else ("", None)
            materials.check_templates(f"problems, number {number}", (text,), [*self.values])
            _value(expression, dict.fromkeys(self.values, 1))

    def draw(self, n: int, seed: int) -> list[tuple[str, int]]:
        """Returns n problems with their answers, the first ones the same whatever n is."""
        rng, out = np.random.default_rng((seed, 0)), []
        for _ in range(n):
            text, expression = self.problems[int(rng.integers(len(self.problems)))]
            drawn = {name: int(rng.integers(*both)) for name, both in self.values.items()}
            asked = " ".join(filter(None, [text.format(**drawn), self.suffix]))
            out.append((asked, _value(expression, drawn)))
        return out


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which worked problems are kept: those with the right answer, and without banned words.

    Attributes:
      before, after: what stands before the answer, and after it; "": nothing but the text's ends.
        What counts is the last place where `before` stands.
      banned: texts that reject a row, in any case.
    """

    before: str = "<answer>"
    after: str = "</answer>"
    banned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "config.filter")

    def rejection(self, text: str, gold: Any) -> str | None:
        """Returns why a worked problem is rejected, or None where it is kept.

        A comma or a dollar sign in the answer is left out, and 5.0 is 5.
        """
        if any(word.lower() in text.lower() for word in self.banned):
            return "banned"
        found = self._answer(text)
        if found is None:
            return "no answer"
        return None if found == gold else "wrong answer"

    def _answer(self, text: str) -> fractions.Fraction | None:
        _, mark, rest = text.rpartition(self.before) if self.before else ("", "-", text)
        said, end, _ = rest.partition(self.after) if self.after else (rest, "-", "")
        number = said.strip().replace(",", "").replace("$", "")
        if not mark or not end or len(number) > _LONGEST:
            return None
        try:
            return fractions.Fraction(number)
        except (ValueError, ZeroDivisionError):
            return None


_LONGEST = 30  # characters of a number that is read


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


def _value(expression: Any, values: Mapping[str, int]) -> int:
    if isinstance(expression, str) and expression in values:
        return values[expression]
    if type(expression) is int:
        return expression
    if isinstance(expression, list) and len(expression) == 3 and expression[0] in _OPERATIONS:
        one, two = (_value(side, values) for side in expression[1:])
        found: int = _OPERATIONS[expression[0]](one, two)
        return found
    known = ", ".join([*_OPERATIONS, *values])
    raise UserError(f"problems: {expression!r}: no expression of {known} and whole numbers")
