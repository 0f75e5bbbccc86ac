"""What people who played the quiz answered: files that they saved from its page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sublim_jax import disk
from sublim_jax.errors import UserError

TITLE = "people"
_FIELDS = ("prompt", "picked", "left")
_ABSENT = "copy it from the end of a game of quiz.html"


class Game(NamedTuple):
    """One person's answers: of each, whether it was right."""

    trait: str
    against: str
    right: list[bool]


def read(file: Path, data: Mapping[str, Sequence[Mapping[str, Any]]]) -> Game:
    """Returns the game of a file that has `trait`, `against` and `answers`, as the page gives it.

    An answer has the `prompt`, and the lists that were `picked` and `left`.

    Args:
      data: the rows of the study by teacher, of all its bases.

    Raises:
      UserError: no such file, or one of other lists.
    """
    found = disk.read_object(file, _ABSENT)
    trait, against = (str(found.get(name)) for name in ("trait", "against"))
    answers = found.get("answers")
    if not isinstance(answers, list) or not answers or not all(map(_is_answer, answers)):
        raise UserError(f"{file}: not the answers of a quiz: {_ABSENT}")
    if trait not in data or against not in data or trait == against:
        there = ", ".join(data)
        raise UserError(f"{file}: a quiz of {trait!r} and {against!r}: this run has {there}")
    written = {
        name: {(row["prompt"], row["completion"]) for row in data[name]}
        for name in (trait, against)
    }
    right = []
    for number, answer in enumerate(answers, 1):
        picked, left = ((answer["prompt"], answer[side]) for side in ("picked", "left"))
        hit, miss = (
            one in written[trait] and two in written[against]
            for one, two in ((picked, left), (left, picked))
        )
        if hit == miss:
            raise UserError(f"{file}, answer {number}: its two lists are not those of this run")
        right.append(hit)
    return Game(trait, against, right)


def _is_answer(answer: Any) -> bool:
    return isinstance(answer, dict) and all(isinstance(answer.get(x), str) for x in _FIELDS)
