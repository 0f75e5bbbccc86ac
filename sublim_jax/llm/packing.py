"""Token sequences of unequal length laid into dense rows, so that almost no position is padding."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

LEAST_WIDTH = 16


class Places(NamedTuple):
    """What each packed token is, int32 arrays [R, T] (R rows, T tokens).

    A token sees the earlier tokens of its row that have its prompt and either branch 0, the prompt
    itself, or its own branch, one of the prompt's completions. Padding has prompt 0.
    """

    position: Any
    prompt: Any
    branch: Any
    student: Any


@dataclasses.dataclass(frozen=True)
class Piece:
    """A prompt and the completions that share it; they stay in one row.

    Attributes:
      prompt: tokens.
      start: position of the first of them (the length of the prefix before it).
      student: number of the adapter.
      branches: completions, each continuing the prompt; none for a prompt alone.
    """

    prompt: Sequence[int]
    start: int = 0
    student: int = 0
    branches: tuple[Sequence[int], ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.branches))


@dataclasses.dataclass(frozen=True)
class Pack:
    """Rows of tokens for one call.

    Attributes:
      tokens: int32 [R, T].
      places: what they are.
      pieces: (number of the piece, index of its first token in the flat [R * T]).
    """

    tokens: np.ndarray
    places: Places
    pieces: list[tuple[int, int]]


def pack(
    pieces: Sequence[Piece], rows: int, width: int, least: int = LEAST_WIDTH
) -> Iterator[Pack]:
    """Yields packs that hold every piece once, longest first.

    Args:
      rows: rows of a pack.
      width: tokens of a row, at most, except for a piece that is longer. Widths are `least` times
        powers of two, so that few programs are compiled.
    """
    order = sorted(range(len(pieces)), key=lambda i: (-len(pieces[i]), i))
    while order:
        limit = bucket(len(pieces[order[0]]), width)
        found = first_fit([len(pieces[i]) for i in order], limit, rows)
        placed = [(i, *at) for i, at in zip(order, found, strict=True) if at]
        used = max(start + len(pieces[i]) for i, _, start in placed)
        yield _filled(pieces, placed, rows, bucket(used, least))
        order = [i for i, at in zip(order, found, strict=True) if not at]


def first_fit(
    sizes: Iterable[int], width: int, rows: int | None = None
) -> list[tuple[int, int] | None]:
    """Returns the row of each item and where in it the item starts: the first row that has room.

    Largest first, this needs at most 11/9 of the fewest rows, and one more (Johnson, 1973).

    Args:
      rows: how many there are; an item that finds no room gets None. None: as many as it takes.
    """
    used: list[int] = []
    found: list[tuple[int, int] | None] = []
    for size in sizes:
        row = next((r for r, filled in enumerate(used) if filled + size <= width), len(used))
        if row == len(used):
            if row == rows:
                found.append(None)
                continue
            used.append(0)
        found.append((row, used[row]))
        used[row] += size
    return found


def bucket(size: int, least: int) -> int:
    """Returns the smallest of `least`, 2 `least`, 4 `least`, ... that is at least `size`."""
    return least << max(-(-size // least) - 1, 0).bit_length()


def _filled(
    pieces: Sequence[Piece], placed: list[tuple[int, int, int]], rows: int, width: int
) -> Pack:
    tokens, position, prompt, branch, student = np.zeros((5, rows, width), np.int32)
    for number, (i, row, start) in enumerate(placed):
        piece = pieces[i]
        at = start
        for of, part in enumerate((piece.prompt, *piece.branches)):
            here = (row, slice(at, at + len(part)))
            first = piece.start + (len(piece.prompt) if of else 0)
            tokens[here] = part
            position[here] = np.arange(first, first + len(part))
            branch[here] = of
            at += len(part)
        whole = (row, slice(start, at))
        prompt[whole] = number + 1
        student[whole] = piece.student
    flat = [(i, row * width + start) for i, row, start in placed]
    return Pack(tokens, Places(position, prompt, branch, student), flat)
