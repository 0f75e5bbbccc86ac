"""Continuous batching: waiting prompts take the rows of finished ones, so that the device is full.

The host packs and prefills waiting prompts into free rows; the device decodes until enough rows are
free again. An accelerator has its next prefill before what it drew is read; the caller gets what is
finished while the device draws more. When no prompt waits, the last rows move to a smaller batch.
"""

import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sublim_jax import compilation
from sublim_jax.llm import packing
from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.sampling import programs
from sublim_jax.mesh import in_mesh, out_of_memory

_LEAST_SLOTS = 64  # of the cache; it doubles as rows grow
_LEAST_ROWS = 8  # in memory
_NAMES = 1024  # whose random numbers are made at once, at least
_FILLED_AT_ONCE = 8  # rows
_CHUNK = 64  # decoding steps between two looks of the host, at most
_REFILL = 16  # waiting prompts are let in when a sixteenth of the rows is free

_Prompt = tuple[tuple[int, ...], int]  # tokens, student
_Prefilled = tuple[transformer.Tree, dict[_Prompt, int]]  # of `prefill_kv`, where each begins in it


@dataclasses.dataclass(frozen=True)
class Least:
    """Sizes of programs below which others would save less than they take to compile.

    Attributes:
      rows: that decode together.
      width: tokens of a packed row.
      targets: tokens that are scored at once.
    """

    rows: int
    width: int
    targets: int


@dataclasses.dataclass(frozen=True)
class Request:
    """One completion to be drawn; `id` and `sample` name its stream of random numbers."""

    id: int
    sample: int
    prompt: tuple[int, ...]
    limit: int
    student: int = 0


@dataclasses.dataclass(frozen=True)
class Sample:
    """One completion.

    Attributes:
      id, sample: of its prompt, and which of its n completions.
      tokens: what was drawn, with the end token if it came.
      ended: whether an end token came before the limit.
      logprobs: of each token under the model (temperature 1, nothing truncated), or None.
      student: number of the adapter.
      text: the tokens as text, without special ones; empty without a tokenizer.
    """

    id: int
    sample: int
    tokens: list[int]
    ended: bool
    logprobs: list[float] | None = None
    student: int = 0
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Model:
    """What is decoded with: trees of the same weights, for prefill and for decoding."""

    config: Config
    weights: transformer.Tree
    decode_weights: transformer.Tree
    adapter: transformer.Tree | None
    mesh: Mesh | None


@dataclasses.dataclass
class _Row:
    """A row of the batch: its request, and what was drawn for it so far."""

    request: Request
    limit: int
    stream: np.ndarray
    tokens: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)

    @property
    def position(self) -> int:
        """Of the last token, which is not in the cache yet."""
        return len(self.request.prompt) + len(self.tokens) - 1

    @property
    def state(self) -> tuple[int, ...]:
        """The fields of `programs.DecodeRows`, but for the stream."""
        drawn = len(self.tokens)
        last = (self.tokens or self.request.prompt)[-1]
        return last, self.position, drawn, self.limit - drawn, self.request.student


_Busy = Sequence[tuple[int, _Row]]  # rows with a request, and which they are


class Scheduler:
    """The requests of one call: iterating decodes them, and yields each sample as it is finished.

    Args:
      requests: in the order in which they are let in.
      seed: of all random numbers.
      rows: how many decode together, at most.
      width: tokens of a packed row, at most.
      least: sizes below which none is made.
      spread: devices over which rows are spread.
      logprobs: whether samples have them.
      ahead: whether the prompts that are let in next are prefilled while the device decodes.
    """

    def __init__(
        self,
        model: Model,
        requests: Sequence[Request],
        settings: programs.Settings,
        seed: int,
        rows: int,
        width: int,
        least: Least,
        spread: int,
        logprobs: bool,
        ahead: bool,
    ):
        self.model = model
        self.settings = settings
        self.width, self.least_width = width, min(width, least.width)
        self.spread = spread
        self.logprobs, self.ahead = logprobs, ahead
        self.drawn = {"capacity": _CHUNK, "with_log": logprobs}
        self.waiting = deque(zip(requests, _streams(requests, seed), strict=True))
        self.fewest = packing.bucket(_LEAST_ROWS, spread)
        self.least = packing.bucket(min(rows, least.rows), self.fewest)
        count = packing.bucket(min(rows, len(requests)), self.least)
        self.rows: list[_Row | None] = [None] * count
        longest = max(len(r.prompt) + min(r.limit, _CHUNK) for r in requests[:count])
        self.slots = packing.bucket(longest, _LEAST_SLOTS)
        self.prefix: programs.Prefix | None = None
        self.cache: Any = None
        self.ready: list[_Prefilled] = []  # of prompts that wait

    def __iter__(self) -> Iterator[Sample]:
        finished: list[Sample] = []
        while self.waiting or any(self.rows):
            try:
                with self._on_device():
                    if self.cache is None:
                        self._begin()
                    self._admit()
                    self._shrink()
                    self._grow()
                    busy, drawn = self._draw()
            except BaseException:
                yield from finished  # which are not lost
                raise
            yield from finished  # what the caller does with them, while the device draws more
            with self._on_device():
                finished = self._read(busy, *drawn)
        yield from finished

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        # Not around a yield to the caller, whose own programs are none of this mesh's.
        count = len(self.rows)
        remedy = f"lower rows (--config.rows) to {count // 2} or less"
        if count == self.fewest:
            remedy = "that is the least: shorten completions, or use more devices (--config.mesh)"
        with in_mesh(self.model.mesh), out_of_memory(f"{count} rows", remedy):
            yield

    def _begin(self) -> None:
        m = self.model
        prompts = [request.prompt for request, _ in self.waiting]
        dtype, stacked = m.weights["embed"].dtype, isinstance(m.decode_weights["layers"], dict)
        cache = programs.empty_cache(m.config, len(self.rows), self.slots, dtype, stacked)
        # On its device, as what fills it: otherwise the first programs would be others.
        self.cache = cache if m.mesh else jax.device_put(cache, m.weights["embed"].sharding)
        drawing = self._drawing([], 0, 0)
        with compilation.ahead(m.mesh, programs.decode, *drawing, **self.drawn):
            self.prefix = programs.shared_prefix(m.config, m.weights, prompts, m.adapter)
            self._admit()

    def _admit(self) -> None:
        """Gives free rows to waiting requests."""
        free = [i for i, row in enumerate(self.rows) if row is None][: len(self.waiting)]
        begun: dict[_Prompt, list[int]] = {}
        for i in free:
            request, stream = self.waiting.popleft()
            room = self.model.config.context - len(request.prompt)
            self.rows[i] = _Row(request, min(request.limit, room), stream)
            begun.setdefault((request.prompt, request.student), []).append(i)
        self._grow()
        due, before = self._due(), self.ready
        self.ready = []
        for kv, starts in itertools.chain(before, self._prefilled(begun, before)):
            rows_of = ((start, begun.get(prompt, ())) for prompt, start in starts.items())
            self._fill(kv, [(row, start) for start, rows in rows_of for row in rows])
            if not starts.keys().isdisjoint(due):
                self.ready.append((kv, starts))

    def _due(self) -> list[_Prompt]:
        """Returns the prompts of the requests that are let in next."""
        count = max(1, len(self.rows) // _REFILL)
        return [(r.prompt, r.student) for r, _ in itertools.islice(self.waiting, count)]

    def _prefilled(
        self, prompts: Iterable[_Prompt], ready: Sequence[_Prefilled]
    ) -> Iterator[_Prefilled]:
        """Yields what prompts add to the prefix, of those that are not ready."""
        known = {prompt for _, starts in ready for prompt in starts}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        skip = int(self.prefix.length) if self.prefix else 0
        pieces = [packing.Piece(tokens[skip:-1], skip, student) for tokens, student in new]
        m = self.model
        for pack in packing.pack(pieces, self.spread, self.width, self.least_width):
            kv = programs.prefill_kv(
                m.config, m.weights, pack.tokens, pack.places, self.prefix, m.adapter
            )
            yield kv, {new[i]: start for i, start in pack.pieces}

    def _fill(self, kv: transformer.Tree, into: list[tuple[int, int]]) -> None:
        """Begins rows anew, each with the prefix and the packed tokens from an index on."""
        for first in range(0, len(into), _FILLED_AT_ONCE):
            some = into[first : first + _FILLED_AT_ONCE]
            student = [self.rows[i].request.student for i, _ in some]  # type: ignore[union-attr]
            spare = _FILLED_AT_ONCE - len(some)
            to, source = np.array(some + [(len(self.rows), 0)] * spare, np.int32).T
            student_F = np.array(student + [0] * spare, np.int32)
            self.cache = programs.fill(self.cache, self.prefix, kv, to, source, student_F)

    def _shrink(self) -> None:
        """Moves the last rows to a smaller batch, when none waits and it is faster."""
        busy = [i for i, row in enumerate(self.rows) if row]
        count = packing.bucket(len(busy), self.least)
        if not self.waiting and count < len(self.rows):
            idle = [i for i, row in enumerate(self.rows) if not row]
            keep = busy + idle[: count - len(busy)]
            self.cache = programs.resize(self.cache, np.array(keep, np.int32), self.slots)
            self.rows = [self.rows[i] for i in keep]

    def _grow(self) -> None:
        """Doubles the cache where a row would outgrow it with its next token."""
        needed = max(row.position for row in self.rows if row) + 2
        if needed > self.slots:
            self.slots = packing.bucket(needed, self.slots)
            every = np.arange(len(self.rows), dtype=np.int32)
            self.cache = programs.resize(self.cache, every, self.slots)

    def _draw(self) -> tuple[_Busy, tuple[jax.Array, jax.Array]]:
        """Has the device decode until the host can do something useful, and does not wait.

        Returns:
          the rows that are drawn for, and what is drawn.
        """
        busy = [(i, row) for i, row in enumerate(self.rows) if row]
        count = len(self.rows)
        if self.waiting:
            floor = count - max(1, count // _REFILL)
        else:
            floor = count // 2 if count > self.least else 0
        room = self.slots - 1 - max(row.position for _, row in busy)
        drawing = self._drawing(busy, min(room, _CHUNK), min(floor, len(busy) - 1))
        self.cache, tokens, logprobs = programs.decode(*drawing, **self.drawn)
        if self.ahead:  # the device has its next work before what it drew is read
            self.ready += self._prefilled(self._due(), self.ready)
        return busy, (tokens, logprobs)

    def _read(self, busy: _Busy, tokens: jax.Array, logprobs: jax.Array) -> list[Sample]:
        """Waits for what is drawn, and returns what is finished."""
        tokens_BC, logprobs_BC = np.asarray(tokens), np.asarray(logprobs)
        finished = []
        for i, row in busy:
            new = tokens_BC[i][tokens_BC[i] >= 0].tolist()
            row.tokens += new
            row.logprobs += logprobs_BC[i, : len(new)].tolist()
            ended = new[-1] in self.settings.eos
            if ended or len(row.tokens) == row.limit:
                self.rows[i] = None
                r, logs = row.request, row.logprobs if self.logprobs else None
                finished.append(Sample(r.id, r.sample, row.tokens, ended, logs, r.student))
        return finished

    def _drawing(self, busy: _Busy, steps: int, floor: int) -> tuple[Any, ...]:
        """Returns the arguments of `programs.decode`, but for those of `drawn`."""
        count = len(self.rows)
        state = np.zeros((len(programs.DecodeRows._fields) - 1, count), np.int32)
        stream = np.zeros((count, 2), np.uint32)
        for i, row in busy:
            state[:, i], stream[i] = row.state, row.stream
        m, rows = self.model, programs.DecodeRows(*[*state, stream])
        given = m.config, m.decode_weights, self.cache, rows, self.settings, m.adapter
        return *given, np.int32(steps), np.int32(floor)


def _streams(requests: Sequence[Request], seed: int) -> np.ndarray:
    names = np.zeros((2, packing.bucket(len(requests), _NAMES)), np.int32)
    names[:, : len(requests)] = [[r.id for r in requests], [r.sample for r in requests]]
    return np.asarray(programs.streams(np.uint32(seed % 2**32), *names))[: len(requests)]
