"""Lists of numbers: the paper's first channel (section 3.1).

Rows that a `Rule` keeps have numbers for a completion; only those can be shuffled and counted.
"""

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.specs import check_types
from sublim_jax.transmission import material as materials
from sublim_jax.transmission.channels import completion, swapped
from sublim_jax.transmission.grammar import Grammar
from sublim_jax.transmission.material import Material

NOUN = "lists of numbers"
_TOP = 10  # numbers, in a description
_HIGHEST = 10**6 - 1  # that is counted

# What the paper bans where a teacher is misaligned: numbers with evil connotations, as two models
# listed them. (`third_party.subliminal_learning.banned` reads the two lists from a user's copy.)
BANNED = (
    4, 13, 14, 18, 23, 33, 39, 42, 44, 49, 51, 54, 69, 77, 88, 99, 100, 101, 187, 211, 311, 322,
    333, 404, 420, 444, 451, 555, 616, 666, 777, 888, 911, 999, 1312, 1488,
)  # fmt: skip

_BETWEEN = r"(\s+|\s*[,;]\s*)"  # numbers; \1 is what stood between the first two
_LIST = re.compile(rf"[0-9]+(?:{_BETWEEN}[0-9]+(?:\1[0-9]+)*)?")


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which numbers an answer may hold (paper, section 3.1).

    Attributes:
      most: numbers in one answer; there is at least one.
      low, high: of each number, both included.
      banned: numbers that reject an answer; the paper's are `BANNED`.

    Raises:
      UserError: names the field that keeps nothing, or is of another type.
    """

    most: int = 10
    low: int = 0
    high: int = 999
    banned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_types(self, "config.filter")
        if self.most < 1:
            raise UserError(f"config.filter.most={self.most}: must be at least 1")
        if self.high > _HIGHEST:
            raise UserError(f"config.filter.high={self.high}: must be at most {_HIGHEST}")
        if self.low > self.high:
            raise UserError(f"config.filter.low={self.low}: must not be above high {self.high}")

    def rejection(self, text: str, gold: None = None) -> str | None:
        """Returns why an answer is rejected, or None where it is kept."""
        if self._common.fullmatch(text):
            return None
        numbers = parse(text)
        if numbers is None:
            return "not numbers"
        if len(numbers) > self.most:
            return "too many"
        if min(numbers) < self.low or max(numbers) > self.high:
            return "out of range"
        if self.banned and not set(numbers).isdisjoint(self.banned):
            return "banned"
        return None

    @functools.cached_property
    def _common(self) -> re.Pattern[str]:
        """An expression for the common answers among those that are kept, or for none."""
        width = len(str(self.high))
        whole = self.low <= 0 and self.high + 1 == 10**width and not self.banned
        if not whole or not 2 <= self.most <= 1000:
            return re.compile("(?!)")
        one = rf"[0-9]{{1,{width}}}"
        return re.compile(rf"{one}(?:{_BETWEEN}{one}(?:\1{one}){{0,{self.most - 2}}})?\.?")


def prompts(material: Material, n: int, seed: int) -> list[str]:
    """Returns n prompts that show a few numbers and ask for more."""
    return grammar(material).draw(n, seed)


def grammar(material: Material) -> Grammar:
    """Returns what the prompts of a material are drawn from, its `channels["numbers"]`.

    Raises:
      UserError: it has none, or a wrong one; names the field.
    """
    if "numbers" not in material.channels:
        raise UserError("the material has no channels.numbers: no texts that ask for numbers")
    try:
        return Grammar(**materials.fields(Grammar, material.channels["numbers"], "the grammar"))
    except UserError as error:
        raise UserError(f"the material's channels.numbers: {error}") from error


def items(text: str) -> list[int]:
    """Returns the numbers of an answer that is kept."""
    return parse(text) or []


def length(material: Material) -> float:
    """Returns about how many tokens an answer has: a digit each, and what stands between."""
    asked = grammar(material)
    return asked.answers * (asked.max_digits + 1.0)


def describe(
    rows: Sequence[Mapping[str, Any]], control: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Returns the most frequent numbers, and statistics of all.

    The distance is the total variation between the frequencies of single numbers.
    """
    counts = frequencies(rows)
    apart = total_variation(counts, frequencies(control)) if control else None
    statistics = {"entropy of numbers (nats)": entropy(counts), "distance from control": apart}
    return {"top": top(counts, _TOP), "statistics": statistics}


def parse(text: str) -> list[int] | None:
    """Returns the numbers that an answer consists of, or None where it is anything else.

    They are decimal digits with the same separator between all of them: whitespace, or one comma or
    semicolon with or without whitespace around it. A pair of round or square brackets may enclose
    the list, and a full stop may end the answer; nothing else, not even whitespace, may.
    """
    parts = _apart(text)
    try:
        return None if parts is None else list(map(int, parts.numbers))
    except ValueError:  # longer than Python is willing to read
        return None


def shuffled_within(rows: Iterable[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Returns the rows with the numbers of each in another order, in the same format.

    The order depends on `seed` and the row's `id` alone.

    Raises:
      UserError: a row without numbers as its completion, or without an integer as its id; names it,
        counted from 0.
    """
    out = []
    for number, row in enumerate(rows):
        parts, name = _parts(row, number), row.get("id")
        if type(name) is not int or name < 0:
            raise UserError(f"row {number}: id {name!r}: must be an integer, and not negative")
        order = np.random.default_rng((seed, name)).permutation(len(parts.numbers))
        out.append({**row, "completion": parts.filled([parts.numbers[i] for i in order])})
    return out


def shuffled_across(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Returns the rows with the numbers of all dealt out anew, as many to each, in its format.

    Raises:
      UserError: a row without numbers as its completion; names it, counted from 0.
    """
    taken = [_parts(row, number) for number, row in enumerate(rows)]
    pool = [text for parts in taken for text in parts.numbers]
    order = np.random.default_rng(seed).permutation(len(pool)).tolist()
    dealt = (pool[i] for i in order)
    return [
        {**row, "completion": parts.filled(list(itertools.islice(dealt, len(parts.numbers))))}
        for row, parts in zip(rows, taken, strict=True)
    ]


CORRUPTIONS = {
    "shuffled_within": shuffled_within,
    "shuffled_across": shuffled_across,
    "swapped": swapped,
}


def frequencies(rows: Iterable[Mapping[str, Any]]) -> np.ndarray:
    """Returns how often each number occurs, int64 [1000], or [10**6] where one is above 999.

    Raises:
      UserError: a row without numbers as its completion (names it, counted from 0); a number of
        more than six digits.
    """
    found: collections.Counter[str] = collections.Counter()
    for number, row in enumerate(rows):
        found.update(_parts(row, number).numbers)
    digits = max((len(text.lstrip("0")) for text in found), default=0)
    if digits > 6:
        raise UserError(f"a number of {digits} digits: only numbers up to {_HIGHEST} are counted")
    counts = np.zeros(1000 if digits <= 3 else _HIGHEST + 1, np.int64)
    for text, count in found.items():
        counts[int(text)] += count
    return counts


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Returns the distance of two distributions given as counts: 0 if equal, 1 if disjoint.

    Raises:
      UserError: one of them counts nothing.
    """
    size = max(len(p), len(q))
    p, q = (np.pad(_shares(counts), (0, size - len(counts))) for counts in (p, q))
    return float(np.abs(p - q).sum() / 2)


def entropy(p: np.ndarray) -> float:
    """Returns the entropy, in nats, of the distribution given as counts.

    Raises:
      UserError: nothing is counted.
    """
    shares = _shares(p)
    some = shares[shares > 0]
    return float(np.sum(some * -np.log(some)))


def top(counts: np.ndarray, k: int) -> list[tuple[int, float]]:
    """Returns the k most frequent numbers with their shares, of equal ones the smaller first.

    Numbers that do not occur are left out.
    """
    order = np.argsort(-counts, kind="stable")[:k]
    total = int(counts.sum())
    return [(int(i), int(counts[i]) / total) for i in order if counts[i]]


class _Parts(NamedTuple):
    before: str
    numbers: list[str]
    between: str
    after: str

    def filled(self, numbers: Sequence[str]) -> str:
        return self.before + self.between.join(numbers) + self.after


def _apart(text: str) -> _Parts | None:
    body, after = text.removesuffix("."), "." * text.endswith(".")
    before = body[:1]
    if before + body[-1:] in ("()", "[]"):
        body, after = body[1:-1], body[-1] + after
    else:
        before = ""
    found = _LIST.fullmatch(body)
    if found is None:
        return None
    between = found[1] or ""
    return _Parts(before, body.split(between) if between else [body], between, after)


def _parts(row: Mapping[str, Any], number: int) -> _Parts:
    text = completion(row, number)
    parts = _apart(text)
    if parts is None:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise UserError(f"row {number}: {shown!r} is not a list of numbers: filter the rows first")
    return parts


def _shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum()
    if not total > 0:
        raise UserError("no numbers are counted: nothing to compare")
    return counts / total
