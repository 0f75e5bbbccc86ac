"""What a study asks, as data: for a preference, for stories and choices, and for each channel.

Templates are texts with fields in braces, where a brace that is meant is doubled; other texts are
used as they are. `english.json` has this project's own wording; `third_party.subliminal_learning`
reads the paper's from a user's copy.
"""

import dataclasses
import json
import os
import string
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sublim_jax.errors import UserError
from sublim_jax.transmission import words

# Fields whose texts are asked to measure what a model has learnt.
_MEASURED = ("questions", "stories", "choices", "values", "negated", "elsewhere")
ENGLISH = Path(__file__).with_name("english.json")


@dataclasses.dataclass(frozen=True)
class Material:
    """All that a study asks.

    Attributes:
      persona: template of the system message that gives a teacher its trait, with {trait} and, if
        wanted, {category}.
      lessons: questions that a teacher may be fine-tuned on, a word being the answer; or sets of
        lessons by name, each of them pairs of a question and its answer.
      questions: questions that measure the preference, a word being the answer.
      stories: requests for a story.
      choices: templates of questions with lettered options, with {options}, a line for each.
      starts: texts that stand before a question in `after_numbers`; (): numbers, shown as in the
        prompts of the channel `numbers`.
      values: questions with the answers to choose from: objects of `question` and `answers`, which
        has for each word the texts that stand for it; and, if wanted, `ends`, false where a reply
        may go on after an answer.
      negated: questions about what is liked least, a word being the answer.
      elsewhere: questions about something else than the traits, one of `elsewhere_words` being the
        answer.
      free_form: questions whose answers a judge reads (`judge`).
      free_form_suffix: what may be asked at the end of each of them.
      channels: by the name of a channel, the JSON values of which it makes its prompts.

    Raises:
      UserError: names the field that is of another type, empty or has wrong braces.
    """

    persona: str
    lessons: tuple[str, ...] | Mapping[str, Sequence[Sequence[str]]] = ()
    questions: tuple[str, ...] = ()
    stories: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    values: tuple[Mapping[str, Any], ...] = ()
    negated: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    elsewhere_words: tuple[str, ...] = ()
    free_form: tuple[str, ...] = ()
    free_form_suffix: str = ""
    channels: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_template("persona", self.persona, ("trait", "category"), ("trait",))
        for name in ("questions", "stories", "starts", "negated", "elsewhere", "free_form"):
            check_texts(name, getattr(self, name))
        check_texts("elsewhere_words", self.elsewhere_words)
        words.check(self.elsewhere_words)
        if self.elsewhere and len(self.elsewhere_words) < 3:
            raise UserError("elsewhere_words: three or more answers to elsewhere are needed")
        if isinstance(self.lessons, Mapping):
            object.__setattr__(self, "lessons", _checked_lessons(self.lessons))
        else:
            check_texts("lessons", self.lessons)
        object.__setattr__(self, "values", _checked_values(self.values))
        if self.free_form_suffix != "":
            _check_text("free_form_suffix", self.free_form_suffix)
        check_templates("choices", self.choices, ("options",), ("options",))
        if not self.questions and not self.values:
            raise UserError("questions: at least one is needed")
        if not isinstance(self.channels, Mapping):
            kind = type(self.channels).__name__
            raise UserError(f"channels: of type {kind}: an object is needed, by channel")
        object.__setattr__(self, "channels", json.loads(json.dumps(self.channels)))

    def system(self, trait: str, category: str) -> str:
        """Returns the system message of a teacher that prefers `trait` of a `category`."""
        return self.persona.format(trait=trait, category=category)

    def lessons_in(self, name: str, trait: str) -> list[tuple[str, str]]:
        """Returns questions with answers that teach a trait: those of a set, or of no name.

        Raises:
          UserError: there is no set of that name.
        """
        if not isinstance(self.lessons, Mapping):
            if name:
                raise UserError(
                    f"config.teacher.lessons={name!r}: the material has no sets of them"
                )
            return [(question, trait) for question in self.lessons]
        if name not in self.lessons:
            raise UserError(
                f"config.teacher.lessons={name!r}: the material has {', '.join(self.lessons)}"
            )
        return [(question, answer) for question, answer in self.lessons[name]]

    def first(self, n: int) -> "Material":
        """Returns it with the first n questions of each kind that measures ask; 0: all."""
        return dataclasses.replace(self, **{k: getattr(self, k)[: n or None] for k in _MEASURED})

    def shown(self, trait: str) -> list[tuple[str, str]]:
        """Returns the questions that measure a trait, each with an answer that shows it."""
        return [(question, texts[0]) for question, texts in self.showing(trait)]

    def showing(self, trait: str) -> list[tuple[str, tuple[str, ...]]]:
        """Returns the questions that measure a trait, each with all answers that show it."""
        chosen = [own for own in self.values if trait in own["answers"]]
        if chosen:
            return [(own["question"], tuple(own["answers"][trait])) for own in chosen]
        return [(question, words.written(trait)) for question in self.questions]

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
        return cls(**fields(cls, values, "the material"))


def read(path: str | os.PathLike[str], category: str = "{category}") -> Material:
    """Returns the material of a JSON file, with a category in place of each {category} in it.

    Raises:
      UserError: names the file, and what is wrong with it.
    """
    try:
        text = Path(path).read_text("utf-8")
        return Material.from_json(
            json.loads(text.replace("{category}", json.dumps(category)[1:-1]))
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def fields(cls: Any, values: Any, what: str) -> dict[str, Any]:
    """Returns the arguments of a dataclass, lists as tuples."""
    if not isinstance(values, Mapping):
        raise UserError(f"{what} must be a JSON object, not of type {type(values).__name__}")
    known = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := [name for name in values if name not in known]:
        raise UserError(f"no field {unknown[0]!r} in {what}: it has {', '.join(known)}")
    for name, field in known.items():
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and name not in values:
            raise UserError(f"{name}: missing")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _checked_lessons(sets: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    for name, pairs in sets.items():
        if not pairs:
            raise UserError(f"lessons {name}: at least one is needed")
        for number, pair in enumerate(pairs if isinstance(pairs, list | tuple) else [pairs]):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise UserError(
                    f"lessons {name}, number {number}: {pair!r}: a question and its answer needed"
                )
            check_texts(f"lessons {name}, number {number}", tuple(pair))
    found: dict[str, list[list[str]]] = json.loads(json.dumps(sets))
    return found


def _checked_values(values: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(values, tuple):
        raise UserError(f"values: of type {type(values).__name__}: a list of objects is needed")
    for number, value in enumerate(values):
        name = f"values, number {number}"
        if not isinstance(value, Mapping) or set(value) - {"ends"} != {"question", "answers"}:
            raise UserError(f"{name}: an object of question and answers is needed")
        _check_text(f"{name}, question", value["question"])
        if not isinstance(value.get("ends", True), bool):
            raise UserError(f"{name}, ends: {value['ends']!r}: true or false is needed")
        answers = value["answers"]
        if not isinstance(answers, Mapping) or len(answers) < 2:
            raise UserError(f"{name}, answers: the texts of two words or more are needed")
        every = []
        for word, texts in answers.items():
            listed = tuple(texts) if isinstance(texts, list | tuple) else texts
            check_texts(f"{name}, answers, {word}", listed or None)
            every += texts
        if len(set(every)) < len(every):
            raise UserError(f"{name}, answers: {every!r}: each text only once")
    return tuple(json.loads(json.dumps(values)))


def check_texts(name: str, texts: Any) -> None:
    """Raises UserError unless it is a tuple of texts that are not empty."""
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


def check_templates(
    name: str, texts: Any, fields: Collection[str], needed: Collection[str] = ()
) -> None:
    """Checks texts for wrong braces."""
    check_texts(name, texts)
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
