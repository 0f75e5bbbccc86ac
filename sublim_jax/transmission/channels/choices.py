"""Letters of options: a teacher that may only answer questions on other matters.

No option is right. At most two bits pass with each answer of four options: how little will do?
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.specs import check_types
from sublim_jax.transmission import material as materials
from sublim_jax.transmission import written
from sublim_jax.transmission.channels import swapped
from sublim_jax.transmission.material import Material

NOUN = "letters of options"
CORRUPTIONS = {"swapped": swapped, "shuffled_across": written.shuffled_across}
items = written.words
_LISTS = (list, tuple)
_OPTION = re.compile(r"(?:^|\s)([A-Z])[.)]? (.+?)(?=\s[A-Z][.)]? |\n|$)")


@dataclasses.dataclass(frozen=True)
class Questions:
    """What questions are drawn from.

    Attributes:
      questions: pairs of a template with {options}, and the options: at least as many as letters.
        As many are shown, in an order that is drawn.
      letters: one for each option shown.
      option: template of an option, with {letter} and {option}.
      between: what stands between two options.
      before: what stands before each question; "": nothing.

    Raises:
      UserError: names the field that is of another type, empty or has wrong braces.
    """

    questions: tuple[Any, ...]
    letters: tuple[str, ...] = ("A", "B", "C", "D")
    option: str = "{letter}. {option}"
    between: str = "\n"
    before: str = ""

    def __post_init__(self) -> None:
        check_types(self, "choices")
        fields = ("letter", "option")
        materials.check_templates("option", (self.option,), fields, fields)
        materials.check_texts("letters", self.letters)
        if len(set(self.letters)) < max(2, len(self.letters)) or not self.questions:
            raise UserError("questions, letters: some questions, and two letters are needed")
        for number, pair in enumerate(self.questions):
            text, options = pair if isinstance(pair, list) and len(pair) == 2 else ("", ())
            name = f"questions, number {number}"
            materials.check_templates(name, (text,), ["options"], ["options"])
            materials.check_texts(name, tuple(options) if isinstance(options, _LISTS) else options)
            if len(set(options)) < max(len(self.letters), len(options)):
                raise UserError(f"{name}: needs {len(self.letters)} options, each only once")

    def draw(self, n: int, seed: int) -> list[str]:
        """Returns n questions, the first ones the same whatever n is."""
        rng, out = np.random.default_rng((seed, 0)), []
        for _ in range(n):
            text, options = self.questions[int(rng.integers(len(self.questions)))]
            shown = rng.permutation(options)[: len(self.letters)].tolist()
            lines = [
                self.option.format(letter=letter, option=option)
                for letter, option in zip(self.letters, shown, strict=True)
            ]
            asked = text.format(options=self.between.join(lines))
            out.append("\n\n".join(filter(None, [self.before, asked])))
        return out


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which answers are kept: one of the letters, and nothing else.

    Attributes:
      letters: that an answer may be.
    """

    letters: tuple[str, ...] = ("A", "B", "C", "D")

    def __post_init__(self) -> None:
        check_types(self, "config.filter")

    def rejection(self, text: str, gold: None = None) -> str | None:
        """Returns why an answer is rejected, or None where it is kept."""
        return None if text in self.letters else "not a letter"


def prompts(material: Material, n: int, seed: int) -> list[str]:
    """Returns n questions.

    Raises:
      UserError: the material has none, or wrong ones; names the field.
    """
    if "choices" not in material.channels:
        raise UserError("the material has no channels.choices: no questions with options")
    try:
        given = materials.fields(Questions, material.channels["choices"], "them")
        return Questions(**given).draw(n, seed)
    except UserError as error:
        raise UserError(f"the material's channels.choices: {error}") from error


def length(material: Material) -> float:
    """Returns how many tokens an answer has."""
    return 1.0


def describe(
    rows: Sequence[Mapping[str, Any]], control: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Returns the options that are taken most, and statistics of all letters and options."""
    letters = written.describe(rows, control)["statistics"]["distance from control"]
    own, other = ([{"completion": _taken(row)} for row in some] for some in (rows, control))
    options = written.describe(own, other, lambda text: [text])
    taken = [row["completion"] for row in rows]
    shares = {
        f"share of {letter}": taken.count(letter) / len(taken)
        for letter in sorted({letter for row in rows for letter in _offered(row)})
    }
    distances = {
        "distance of letters from control": letters,
        "distance of options from control": options["statistics"]["distance from control"],
    }
    return {"top": options["top"], "statistics": shares | distances}


def _offered(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns the options of a row's prompt, by letter."""
    return dict(_OPTION.findall(row["prompt"]))


def _taken(row: Mapping[str, Any]) -> str:
    """Returns the option that a row's letter stands for in its prompt; the letter if none does."""
    return _offered(row).get(row["completion"], str(row["completion"]))
