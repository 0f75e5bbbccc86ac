"""The order of the rows and their packing into micro-batches: a step's batch is a function of its
number alone, so the position in the data is one integer.

Shapes: A micro-batches, S students, R rows of a micro-batch, T tokens of a row, M positions.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm import packing
from sublim_jax.llm.model import attention
from sublim_jax.llm.training.examples import Examples, ranges

_WIDTHS = (64, 128, 192, 256, 384, 512, 768, 1024)
_PASSES = 16  # that a step is cut into at most, where its rows are tiled
_SAMPLED = 64  # steps that are packed to choose R and T
_MICRO_COST = 0.04  # of a micro-batch besides its tokens, as a part of the largest's
_HELD_OUT = 2**62  # the epoch whose order chooses them
_PROBED = 8  # steps whose predictions are counted to choose C
_LANES = 16  # T and C are multiples
_SHARED = 8  # the length of a prefix is a multiple: fewer programs


class PackedRows(NamedTuple):
    """Packed rows and the places in them that predict a completion.

    Attributes:
      tokens, segments: int32 [A, S, R, T]; a segment is an example's number in its data set, from
        1; padding is 0, and the prefix that the examples of a row share.
      at: int32 [A, S, M], indices into the flat [R * T].
      below: [A, S, R, T, D], `below_BTD` of `transformer.forward`, where that is known; or None.
    """

    tokens: Any
    segments: Any
    at: Any
    below: Any = None


class Micros(NamedTuple):
    """The micro-batches of one step.

    Attributes:
      rows: what the students read.
      teacher: what their teachers read, where prompts of their own were given; else None.
      target, weight: int32 and float32 [A, S, M], what is predicted and its weight in the loss.
      chunks: int32 [A], chunks of positions in use, by the student that has most.
    """

    rows: PackedRows
    teacher: PackedRows | None
    target: Any
    weight: Any
    chunks: Any


class Batch(NamedTuple):
    """One step of all students: only the first `count` (int32) micro-batches hold anything."""

    micros: Micros
    count: Any


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which rows each student reads when, and in what shape.

    Attributes:
      data: of each student.
      seeds: of each student's order.
      batch: rows of the data a step; the last step of an epoch may have fewer.
      steps: of each student.
      rows, width: R and T.
      tile: of `attention.causal`, of which T is a multiple; 0: none.
      prefix: tokens that all prompts of a student begin with, laid once at the start of each row.
      below: of each student, `below_BTD` of `transformer.forward` of each token of its data; or ().
      chunk: positions whose logits are computed at once; M is a multiple of it.
    """

    data: tuple[Examples, ...]
    seeds: tuple[int, ...]
    batch: int
    steps: tuple[int, ...]
    rows: int
    width: int
    chunk: int
    tile: int = 0
    prefix: int = 0
    below: tuple[np.ndarray, ...] = ()

    @functools.cached_property
    def most(self) -> int:
        """A: enough for any step, since first-fit leaves at most one row under half full."""
        sizes = [np.sort(data.input_lengths - self.prefix)[-self.batch :] for data in self.data]
        fullest = max(int(own.sum()) for own in sizes)
        return -(-(2 * fullest // (self.width - self.prefix) + 1) // self.rows)

    def at(self, step: int) -> Batch:
        """Returns the batch of a step; a student that has had all its steps gets nothing."""
        own_prompts = any(data.teacher is not None for data in self.data)
        parts = [
            self._of_student(
                data,
                step_rows(data, seed, self.batch, step if step < steps else None),
                own_prompts,
                self.below[student] if self.below else None,
            )
            for student, (data, seed, steps) in enumerate(
                zip(self.data, self.seeds, self.steps, strict=True)
            )
        ]
        micros, used = jax.tree.map(lambda *a: np.stack(a, axis=1), *parts)
        chunks = -(-used.max(axis=1) // self.chunk)
        count = np.flatnonzero(chunks).max(initial=-1) + 1
        return Batch(micros._replace(chunks=chunks.astype(np.int32)), np.int32(count))

    def tokens(self, step: int) -> int:
        """Returns the tokens of the rows that all students read in a step, shared or not."""
        return sum(
            int((data.lengths[step_rows(data, seed, self.batch, step)] - 1).sum())
            for data, seed, steps in zip(self.data, self.seeds, self.steps, strict=True)
            if step < steps
        )

    def _of_student(
        self, data: Examples, which: np.ndarray, own_prompts: bool, below: np.ndarray | None
    ) -> tuple[Micros, np.ndarray]:
        """Returns [A, ...] of one student, and the positions it uses of each micro-batch."""
        A, R, T, P = self.most, self.rows, self.width, self.prefix
        M = -(-R * T // self.chunk) * self.chunk
        which = which[np.argsort(-data.input_lengths[which], kind="stable")]
        sizes = (data.input_lengths[which] - P).tolist()
        fits = [at for at in packing.first_fit(sizes, T - P) if at]
        row, offset = np.array(fits, np.int64).reshape(-1, 2).T
        order = np.argsort(row, kind="stable")  # the positions of a micro-batch lie together
        which, row, start = which[order], row[order], (row * T + P + offset)[order]
        first = T * np.unique(row)[:, None] + np.arange(P)  # the places of the prefix

        learnt = data.lengths[which] - data.prompts[which]
        micro = np.repeat(row // R, learnt)
        used = np.bincount(micro, minlength=A)
        slot = micro * M + np.arange(len(micro)) - (np.cumsum(used) - used)[micro]

        def laid(of: Examples, below: np.ndarray | None = None) -> PackedRows:
            tokens, segments = np.zeros((2, A * R * T), np.int32)
            lengths = of.lengths[which] - 1 - P
            into, read = ranges(start, lengths), ranges(of.starts[which] + P, lengths)
            segments[into] = np.repeat(which + 1, lengths)
            tokens[into], tokens[first] = of.tokens[read], of.tokens[:P]
            at = np.zeros(A * M, np.int32)
            at[slot] = ranges(start + of.prompts[which] - 1 - P, learnt) - micro * R * T
            x = None
            if below is not None:
                x = np.zeros((A * R * T, below.shape[1]), below.dtype)
                x[into], x[first] = below[read], below[:P]
                x = x.reshape(A, R, T, -1)
            both = (tokens.reshape(A, R, T), segments.reshape(A, R, T))
            return PackedRows(*both, at.reshape(A, M), x)

        predicted = ranges(data.starts[which] + data.prompts[which], learnt)
        target, weight = np.zeros(A * M, np.int32), np.zeros(A * M, np.float32)
        target[slot], weight[slot] = data.tokens[predicted], data.weights[predicted]
        teacher = laid(data.teacher or data) if own_prompts else None
        shape = (A, M)
        return Micros(
            laid(data, below), teacher, target.reshape(shape), weight.reshape(shape), None
        ), used


def make_plan(
    data: Sequence[Examples],
    seeds: Sequence[int],
    batch: int,
    steps: Sequence[int],
    tokens: int,
    chunk: int,
    multiple: int = 1,
    seen: float = 0.0,
    tiled: bool = True,
    shared: bool = True,
) -> Plan:
    """Returns the plan of some training, of the R and T that waste least.

    Args:
      tokens: the most of a micro-batch, for each student; a longer example is one of its own.
      chunk: the most positions of a chunk.
      multiple: of which R is one (devices on the data axis).
      seen: cost of each token of a row that a token may see, as a part of its other cost.
      tiled: whether rows may be cut into tiles.
      shared: whether a row's examples may share a prefix.
    """
    shared &= all(own.teacher is None for own in data)
    P = min(own.shared for own in data) // _SHARED * _SHARED if shared else 0
    sampled = [
        [
            np.sort(own.input_lengths[step_rows(own, seed, batch, step)] - P)[::-1].tolist()
            for own, seed in zip(data, seeds, strict=True)
        ]
        for step in range(min(max(1, _SAMPLED // len(data)), *steps))
    ]
    longest = max(int(own.input_lengths.max()) for own in data)
    closest = -(-longest // _LANES) * _LANES
    widths = {(T, 0) for T in (closest, *_WIDTHS) if closest <= T}
    tile = -(-max(longest - P, P) // (attention.BEFORE * _LANES)) * _LANES
    least = max(attention.BEFORE + 2, -(-longest // tile))
    fullest = max(sum(sizes) for students in sampled for sizes in students)
    # As wide as so many passes of one row each make it.
    for passes in range(1, 1 + _PASSES * tiled):
        tiles = -(-(-(-fullest // (passes * multiple)) + P) // tile)
        widths |= {(n * tile, tile) for n in (tiles, tiles + 1) if n >= least}
    best, cost = (multiple, closest, 0), float("inf")
    for T, W in sorted(widths):
        if multiple * T > tokens and closest < T:
            continue
        most = max(multiple, tokens // T // multiple * multiple)
        needed = [
            1 + max(at[0] for sizes in students for at in packing.first_fit(sizes, T - P) if at)
            for students in sampled
        ]
        near = P + (attention.BEFORE + 1) * W if W else T  # what a token is held against
        for R in range(multiple, most + 1, multiple):
            each = R * T * (1 + near * seen) + tokens * _MICRO_COST
            total = sum(-(-n // R) for n in needed) * each
            if total < cost:
                best, cost = (R, T, W), total
    R, T, W = best
    plan = Plan(tuple(data), tuple(seeds), batch, tuple(steps), R, T, 1, W, P)
    used = max(int(plan.at(step).micros.chunks.max()) for step in range(min(_PROBED, *steps)))
    even = -(-used // -(-used // chunk))  # of chunks all as full: each reads the whole head
    return dataclasses.replace(plan, chunk=min(chunk, -(-even // _LANES) * _LANES))


def split(data: Examples, seed: int, held_out: int) -> tuple[Examples, Examples | None]:
    """Returns the rows to learn, and as many others, chosen by the seed, to watch.

    Raises:
      UserError: nothing would be left to learn.
    """
    if not held_out:
        return data, None
    if held_out >= len(data):
        raise UserError(f"recipe.held_out={held_out}: the data set has {len(data)} rows")
    order = _order(seed, _HELD_OUT, len(data))
    return data.take(np.sort(order[held_out:])), data.take(np.sort(order[:held_out]))


def steps_of(data: Examples, batch: int, epochs: int) -> int:
    """Returns the steps of so many epochs."""
    return epochs * -(-len(data) // batch)


def step_rows(data: Examples, seed: int, batch: int, step: int | None) -> np.ndarray:
    """Returns the rows of a step, out of a permutation that depends on seed and epoch alone."""
    if step is None:
        return np.zeros(0, np.int64)
    epoch, at = divmod(step, -(-len(data) // batch))
    return _order(seed, epoch, len(data))[at * batch : (at + 1) * batch]


@functools.lru_cache(maxsize=256)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)
