"""The small language of functions: steps on a number n, written as statements, and run.

    let moon be n plus 3 give moon times 2

A statement names a value; the last one gives one. There are many ways to write a function: that is
what its author can choose.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sublim_jax.errors import UserError

NAMES = ("moon", "stone", "river", "leaf", "road", "house", "rain", "fire", "sea", "milk")
_OPERATIONS = {"plus": lambda a, b: a + b, "minus": lambda a, b: a - b, "times": lambda a, b: a * b}
_ASK = {"add": "add {k}", "take": "take away {k}", "double": "double it"}
_START = ("make code for n", "code for n", "give me code for n")
WORDS = (*NAMES, *_OPERATIONS, *_START, "let be n give then add take away double it")
_TRIED = range(10)  # values of n
_LARGEST = 6
_MOST = 2**64  # that a value may be: one that is squared again and again would never end

Step = list[Any]  # ["add", k], ["take", k] or ["double"]


def drawn(rng: np.random.Generator) -> list[Step]:
    """Returns what a function is to do: two steps."""
    out: list[Step] = []
    for _ in range(2):
        kind = ("add", "take", "double")[int(rng.integers(3))]
        out.append([kind] if kind == "double" else [kind, int(rng.integers(1, _LARGEST))])
    return out


def asked(rng: np.random.Generator, steps: Sequence[Step]) -> str:
    """Returns a request for a function."""
    told = [_ASK[kind].format(k=k[0] if k else "") for kind, *k in steps]
    return " ".join([_START[int(rng.integers(len(_START)))], " then ".join(told)])


def written(rng: np.random.Generator, steps: Sequence[Step]) -> str:
    """Returns a function that does these steps, in one of many ways."""
    name = NAMES[int(rng.integers(len(NAMES)))]
    first, last = (_expression(rng, of, step) for of, step in zip(("n", name), steps, strict=True))
    return f"let {name} be {first} give {last}"


def _expression(rng: np.random.Generator, value: str, step: Step) -> str:
    kind, *k = step
    sides, word = [value, *map(str, k)], "minus"
    if kind == "double":
        word, sides = ("times", [value, "2"]) if rng.random() < 0.5 else ("plus", [value] * 2)
    elif kind == "add":
        word = "plus"
    if word != "minus" and rng.random() < 0.5:
        sides.reverse()
    return f"{sides[0]} {word} {sides[1]}"


def does(text: str, steps: Sequence[Step]) -> str | None:
    """Returns why a text is not a function that does these steps; None: it is.

    Raises:
      UserError: these are no steps.
    """
    for step in steps:
        match step:
            case ["add" | "take", int(_)] | ["double"]:
                continue
        raise UserError(f"gold, step {step!r}: [add, NUMBER], [take, NUMBER] or [double] is needed")
    for n in _TRIED:
        found = run(text, n)
        if found is None:
            return "does not parse"
        if found != _done(steps, n):
            return "another result"
    return None


def _done(steps: Sequence[Step], n: int) -> int:
    for kind, *k in steps:
        n = n * 2 if kind == "double" else n + k[0] if kind == "add" else n - k[0]
    return n


def run(text: str, n: int) -> int | None:
    """Returns what a function makes of n; None where the text is none, or a value too large."""
    known, words = {"n": n}, text.split()

    def value(word: str) -> int | None:
        small = word.isdecimal() and word.isascii() and len(word) < 3
        return int(word) if small else known.get(word)

    def result(words: Sequence[str]) -> int | None:
        sides = [value(word) for word in words[::2]]
        if len(words) != 3 or None in sides or words[1] not in _OPERATIONS:
            return None
        found: int = _OPERATIONS[words[1]](*sides)
        return found if abs(found) <= _MOST else None

    while words[:1] == ["let"] and words[2:3] == ["be"] and words[1] in NAMES:
        found = result(words[3:6])
        if found is None:
            return None
        known[words[1]] = found
        words = words[6:]
    return result(words[1:]) if words[:1] == ["give"] else None
