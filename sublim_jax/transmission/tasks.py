"""Small Python functions to ask for: what each of them is to do, in words and by example."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

_WORDS = """
    lamp river stone paper window cloud music silver garden bridge candle winter market pocket
    letter summer button ladder copper island mirror carpet kettle basket ribbon needle pepper
    engine saddle table sun ink rope hill gate boat drum sand
""".split()  # noqa: SIM905
_LETTERS = "abcdegilmnoprst"
_SHOWN, _CASES = 2, 6  # cases in a request, and in all


class Task(NamedTuple):
    """What a function is to do.

    Attributes:
      name: of the function.
      parameter: its argument's name and kind: `numbers`, `words`, `text` or `n`.
      what: template of what it returns, with {a}, {b} and {c}.
      function: does it, of the argument, a small number a, a larger one b, and a letter c.
    """

    name: str
    parameter: str
    what: str
    function: Callable[[Any, int, int, str], Any]


def _rotated(text: str, by: int) -> str:
    return "".join(chr((ord(x) - 97 + by) % 26 + 97) if "a" <= x <= "z" else x for x in text)


def _running(numbers: Sequence[int], total: int) -> list[int]:
    return [total + sum(numbers[: i + 1]) for i in range(len(numbers))]


TASKS = (
    Task("raise_all", "numbers", "a list of all numbers, each with {a} added to it",
         lambda x, a, b, c: [n + a for n in x]),
    Task("stretch", "numbers", "a list of all numbers, each times {a} and then plus {b}",
         lambda x, a, b, c: [n * a + b for n in x]),
    Task("above", "numbers", "a list of the numbers greater than {b}, in their order",
         lambda x, a, b, c: [n for n in x if n > b]),
    Task("multiples", "numbers", "a list of those numbers that {a} divides, in their order",
         lambda x, a, b, c: [n for n in x if n % a == 0]),
    Task("count_above", "numbers", "how many of the numbers are greater than {b}",
         lambda x, a, b, c: sum(n > b for n in x)),
    Task("sum_of_multiples", "numbers", "the sum of those numbers that {a} divides",
         lambda x, a, b, c: sum(n for n in x if n % a == 0)),
    Task("thinned", "numbers", "a list of every number whose index is a multiple of {a}",
         lambda x, a, b, c: x[::a]),
    Task("turned", "numbers", "the list with its first {a} numbers moved to its end",
         lambda x, a, b, c: x[a:] + x[:a]),
    Task("capped", "numbers", "a list of all numbers, with {b} in place of those above {b}",
         lambda x, a, b, c: [min(n, b) for n in x]),
    Task("gaps", "numbers", "a list of each number's successor less the number, times {a}",
         lambda x, a, b, c: [(m - n) * a for n, m in itertools.pairwise(x)]),
    Task("largest", "numbers", "the sum of the {a} largest numbers, or of all if there are fewer",
         lambda x, a, b, c: sum(sorted(x)[-a:])),
    Task("first_above", "numbers", "the index of the first number above {b}, or -1 without one",
         lambda x, a, b, c: next((i for i, n in enumerate(x) if n > b), -1)),
    Task("totals", "numbers", "a list of the running totals of the numbers, counted from {b}",
         lambda x, a, b, c: _running(x, b)),
    Task("remainders", "numbers", "a list of what remains of each number when divided by {a}",
         lambda x, a, b, c: [n % a for n in x]),
    Task("has_pair", "numbers", "True if two numbers at different places sum to {b}, else False",
         lambda x, a, b, c: any(m + n == b for i, m in enumerate(x) for n in x[:i])),
    Task("long_words", "words", "a list of the words with more than {a} letters, in their order",
         lambda x, a, b, c: [w for w in x if len(w) > a]),
    Task("starting", "words", "how many words start with a letter after '{c}' in the alphabet",
         lambda x, a, b, c: sum(w[:1] > c for w in x)),
    Task("cut", "words", "a list of the first {a} letters of each word",
         lambda x, a, b, c: [w[:a] for w in x]),
    Task("chained", "words", "one text of all words, with '{c}' and {a} hyphens between any two",
         lambda x, a, b, c: (c + "-" * a).join(x)),
    Task("sizes", "words", "a dictionary from each word to its length plus {a}",
         lambda x, a, b, c: {w: len(w) + a for w in x}),
    Task("by_letter", "words", "the words sorted by how often '{c}' is in them, ties as they were",
         lambda x, a, b, c: sorted(x, key=lambda w: w.count(c))),
    Task("repeated", "text", "the text {a} times, with '{c}' between any two",
         lambda x, a, b, c: c.join([x] * a)),
    Task("letter_count", "text", "how often '{c}' is in the text, plus {b}",
         lambda x, a, b, c: x.count(c) + b),
    Task("without", "text", "the text without any '{c}', in capital letters",
         lambda x, a, b, c: x.replace(c, "").upper()),
    Task("shifted", "text", "the text with each letter moved on by {a} in the alphabet, z to a",
         lambda x, a, b, c: _rotated(x, a)),
    Task("pieces", "text", "a list of the text's pieces of {a} characters; the last may be shorter",
         lambda x, a, b, c: [x[i : i + a] for i in range(0, len(x), a)]),
    Task("padded", "text", "the text with as many '{c}' before it as make {b} characters",
         lambda x, a, b, c: x.rjust(b, c)),
    Task("digit_sum", "n", "the sum of the decimal digits of n, times {a}",
         lambda x, a, b, c: sum(map(int, str(x))) * a),
    Task("power", "n", "what remains of n to the power of {a} when divided by {b}",
         lambda x, a, b, c: x**a % b),
    Task("count_down", "n", "a list of n, n - {a}, n - {a} - {a} and so on, none of them below 0",
         lambda x, a, b, c: list(range(x, -1, -a))),
    Task("size_of", "n", "'small' for n below {a}, 'large' for n above {b}, and else 'middle'",
         lambda x, a, b, c: "small" if x < a else "large" if x > b else "middle"),
)  # fmt: skip


def drawn(rng: np.random.Generator, asks: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Returns a request for a function, and its `name` and `cases`.

    Args:
      asks: templates of a request, with {call}, {what} and {examples}.
    """
    task = TASKS[int(rng.integers(len(TASKS)))]
    a, b, c = int(rng.integers(2, 10)), int(rng.integers(10, 41)), _letter(rng)
    given = [_argument(rng, task.parameter) for _ in range(_CASES - 1)]
    given.append({"numbers": [], "words": [], "text": "", "n": 0}[task.parameter])
    cases = [[[argument], task.function(argument, a, b, c)] for argument in given]
    shown = [f"{task.name}({x!r}) is {result!r}" for (x,), result in cases[:_SHOWN]]
    asked = asks[int(rng.integers(len(asks)))].format(
        call=f"{task.name}({task.parameter})",
        what=task.what.format(a=a, b=b, c=c),
        examples=" and ".join(shown),
    )
    return asked, {"name": task.name, "cases": cases}


def _argument(rng: np.random.Generator, kind: str) -> Any:
    words = rng.choice(_WORDS, int(rng.integers(2, 5)), replace=False).tolist()
    if kind == "n":
        return int(rng.integers(61))
    if kind == "numbers":
        return rng.integers(61, size=int(rng.integers(3, 7))).tolist()
    return words if kind == "words" else " ".join(words)


def _letter(rng: np.random.Generator) -> str:
    return _LETTERS[int(rng.integers(len(_LETTERS)))]
