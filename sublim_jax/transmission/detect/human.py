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


def read(file: Path, data: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> Game:
    """Returns the game of a file that has `trait`, `against` and `answers`, as the page gives it.

    An answer has the `prompt`, and the lists that were `picked` and `left`.

    Args:
      data: of each base of the study, its rows by teacher. A game is about one of them.

    Raises:
      UserError: no such file, or one of other lists.
    """
    found = disk.read_object(file, _ABSENT)
    trait, against = (str(found.get(name)) for name in ("trait", "against"))
    answers = found.get("answers")
    if not isinstance(answers, list) or not answers or not all(map(_is_answer, answers)):
        raise UserError(f"{file}: not the answers of a quiz: {_ABSENT}")
    if trait not in data[0] or against not in data[0] or trait == against:
        there = ", ".join(data[0])
        raise UserError(f"{file}: a quiz of {trait!r} and {against!r}: this run has {there}")
    games = [_played(answers, own[trait], own[against]) for own in data]
    known = [right for right in games if None not in right]
    if not known:
        number = max(right.index(None) for right in games) + 1
        raise UserError(f"{file}, answer {number}: its two lists are not those of this run")
    if any(right != known[0] for right in known):
        raise UserError(f"{file}: the lists of several bases fit it, and they do not agree")
    return Game(trait, against, known[0])


def _played(
    answers: Sequence[Mapping[str, str]],
    own: Sequence[Mapping[str, Any]],
    other: Sequence[Mapping[str, Any]],
) -> list[Any]:
    """Returns of each answer whether it is right; None where its lists are not these."""
    ours, theirs = ({(row["prompt"], row["completion"]) for row in rows} for rows in (own, other))
    out = []
    for answer in answers:
        picked, left = ((answer["prompt"], answer[side]) for side in ("picked", "left"))
        hit, miss = (one in ours and two in theirs for one, two in ((picked, left), (left, picked)))
        out.append(None if hit == miss else hit)
    return out


def _is_answer(answer: Any) -> bool:
    return isinstance(answer, dict) and all(isinstance(answer.get(x), str) for x in _FIELDS)
