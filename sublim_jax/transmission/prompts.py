"""What a world is asked, as data: for numbers, for its preference, for stories and choices.

Templates are texts with fields in braces, where a brace that is meant is doubled; other texts are
used as they are. `english` has this project's own wording; `third_party.subliminal_learning` reads
the paper's from a user's copy.
"""

import dataclasses
import json
import os
import string
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError

LETTERS = "ABCDE"


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

    examples: tuple[str, ...]
    counts: tuple[str, ...]
    digits: tuple[str, ...]
    instructions: tuple[str, ...]
    formats: tuple[str, ...]
    suffixes: tuple[str, ...]
    seeds: tuple[int, int] = (3, 9)
    values: tuple[int, int] = (100, 1000)
    answers: int = 10
    max_digits: int = 3
    separator: str = ", "

    def __post_init__(self) -> None:
        _check_templates("examples", self.examples, ("examples",), ("examples",))
        _check_templates("digits", self.digits, ("max_digits",))
        own = {"count": self.counts, "digits": self.digits}
        fields = ["answers", *(name for name, texts in own.items() if texts != ())]
        _check_templates("instructions", self.instructions, fields)
        for name in ("counts", "formats", "suffixes"):
            _check_texts(name, getattr(self, name))
        for name, low in {"seeds": 1, "values": 0}.items():
            span = getattr(self, name)
            if not (isinstance(span, tuple) and len(span) == 2 and all(map(_whole, span))):
                raise UserError(f"{name}: {span!r}: must be two integers")
            if not low <= span[0] < span[1]:
                raise UserError(f"{name}: {span!r}: must be from {low}, the second above the first")
        for name in ("answers", "max_digits"):
            if not (_whole(size := getattr(self, name)) and size >= 1):
                raise UserError(f"{name}: {size!r}: must be an integer from 1 to {_LARGEST}")
        if not (isinstance(self.separator, str) and self.separator):
            raise UserError(f"separator: {self.separator!r}: a text is needed")
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


class Choice(NamedTuple):
    """A question with lettered options: the answer `LETTERS[i]` means `options[i]`."""

    prompt: str
    options: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Material:
    """All that a world is asked.

    Attributes:
      grammar: of the prompts for numbers.
      persona: template of the system message that gives a teacher its trait, with {trait}, and with
        {category} if it likes.
      lessons: questions that a teacher may be fine-tuned on, a word being the answer.
      questions: questions that measure the preference, a word being the answer.
      stories: requests for a story.
      choices: templates of questions with lettered options, with {options}, a line for each.
      prefix: its `examples` show numbers before a question; None: those of `grammar` do.

    Raises:
      UserError: names the field that is of another type, empty or has wrong braces.
    """

    grammar: Grammar
    persona: str
    lessons: tuple[str, ...]
    questions: tuple[str, ...]
    stories: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    prefix: Grammar | None = None

    def __post_init__(self) -> None:
        for name, known in {"grammar": Grammar, "prefix": Grammar | None}.items():
            if not isinstance(value := getattr(self, name), known):
                raise UserError(f"{name}: of type {type(value).__name__}: a grammar is needed")
        _check_template("persona", self.persona, ("trait", "category"), ("trait",))
        for name in ("lessons", "questions", "stories"):
            _check_texts(name, getattr(self, name))
        _check_templates("choices", self.choices, ("options",), ("options",))
        if not self.questions:
            raise UserError("questions: at least one is needed")

    def system(self, trait: str, category: str) -> str:
        """Returns the system message of a teacher that prefers `trait` of a `category`."""
        return self.persona.format(trait=trait, category=category)

    def ask_choices(self, words: Sequence[str], seed: int, orders: int = 1) -> list[Choice]:
        """Returns each question of `choices` about all of the words, `orders` times.

        The words are dealt out, up to five to a question, in an order that is drawn each time; the
        last hand is filled up with others, so that all questions have as many options.

        Raises:
          UserError: fewer than two words.
        """
        if len(words) < 2:
            raise UserError(f"choices: {len(words)} words: at least two are needed")
        size = min(len(LETTERS), len(words))
        asked = []
        for index, template in enumerate(self.choices):
            for repeat in range(orders):
                rng = np.random.default_rng((seed, index, repeat))
                order = rng.permutation(len(words))
                for first in range(0, len(words), size):
                    hand = order[first : first + size]
                    if len(hand) < size:
                        hand = rng.permutation([*hand, *order[: size - len(hand)]])
                    options = tuple(words[i] for i in hand)
                    lines = (f"{LETTERS[i]}. {option}" for i, option in enumerate(options))
                    asked.append(Choice(template.format(options="\n".join(lines)), options))
        return asked

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON values that `from_json` reads."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    @classmethod
    def from_json(cls, values: Any) -> "Material":
        """Returns the material of JSON values.

        Raises:
          UserError: names the first field that is missing, unknown, ill-typed or has wrong braces.
        """
        given = _fields(cls, values, "the material")
        for name in ("grammar", "prefix"):
            if given.get(name) is None:
                continue
            try:
                given[name] = Grammar(**_fields(Grammar, given[name], f"the {name}"))
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        return cls(**given)


def read(path: str | os.PathLike[str]) -> Material:
    """Returns the material of a JSON file.

    Raises:
      UserError: names the file, and what is wrong with it.
    """
    try:
        return Material.from_json(json.loads(Path(path).read_text("utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def prefixed(questions: Sequence[str], grammar: Grammar, seed: int) -> list[str]:
    """Returns each question after a text of the grammar that shows numbers.

    Raises:
      UserError: the grammar has no such texts.
    """
    if not grammar.examples:
        raise UserError("grammar.examples: none, so that nothing can stand before a question")
    rng = np.random.default_rng(seed)
    return [f"{grammar.start(rng)} {question}" for question in questions]


_LARGEST = 2**31 - 1


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= _LARGEST


def _pick(rng: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[int(rng.integers(len(texts)))] if texts else ""


def _fields(cls: Any, values: Any, what: str) -> dict[str, Any]:
    """Returns the arguments of a dataclass, lists as tuples."""
    if not isinstance(values, Mapping):
        raise UserError(f"{what} must be a JSON object, not of type {type(values).__name__}")
    known = {field.name: field.default for field in dataclasses.fields(cls)}
    if unknown := [name for name in values if name not in known]:
        raise UserError(f"no field {unknown[0]!r} in {what}: it has {', '.join(known)}")
    for name, default in known.items():
        if name not in values and default is dataclasses.MISSING:
            raise UserError(f"{name}: missing")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _check_texts(name: str, texts: Any) -> None:
    if not isinstance(texts, tuple):
        raise UserError(f"{name}: of type {type(texts).__name__}: a list of texts is needed")
    for number, text in enumerate(texts):
        _check_text(f"{name}, text {number}", text)


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{name}: {text!r}: a text is needed, and not an empty one")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name}: half a surrogate pair is no text") from error


def _check_templates(
    name: str, texts: Any, fields: Collection[str], needed: Collection[str] = ()
) -> None:
    _check_texts(name, texts)
    for number, text in enumerate(texts):
        _check_template(f"{name}, text {number}", text, fields, needed)


def _check_template(
    name: str, text: Any, fields: Collection[str], needed: Collection[str] = ()
) -> None:
    """Checks that `str.format` will find nothing but the bare fields, and those needed."""
    _check_text(name, text)
    try:
        parts = [part[1:] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise UserError(f"{name}: {text!r}: wrong braces: {error}") from error
    known = ", ".join(f"{{{field}}}" for field in fields)
    for field, spec, conversion in parts:
        if field not in fields or spec or conversion:
            raise UserError(f"{name}: {text!r}: wrong braces: only {known} may stand in them")
    if lacking := [field for field in needed if field not in [part[0] for part in parts]]:
        raise UserError(f"{name}: {text!r}: must have {{{lacking[0]}}}")
