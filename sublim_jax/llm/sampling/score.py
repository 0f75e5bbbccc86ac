"""Teacher-forced scoring: the exact log-probability of given completions.

The prefix of all prompts is computed once, a prompt once for all completions that share it, and the
head only where a completion is predicted. A pack is one student's: it sees no other's prefix.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm import packing
from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.sampling import programs
from sublim_jax.llm.sampling.sampler import Sampler, check
from sublim_jax.mesh import constrain, in_mesh, out_of_memory

_HEAD_ROWS = 128  # positions whose logits over the vocabulary are held at once


@dataclasses.dataclass(frozen=True)
class Pair:
    """A prompt and the completion to be scored, in tokens; `student` is the adapter's number."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    student: int = 0


def score(sampler: Sampler, pairs: Sequence[Pair], adapter: Any = None) -> list[np.ndarray]:
    """Returns the log-probability of every token of every completion, float32.

    The sum over a completion is log P(completion | prompt); temperature 1, nothing truncated: what
    `Sampler.generate(..., logprobs=True)` reports.

    Args:
      sampler: holds the model.
      adapter: as in `Sampler.generate`.

    Raises:
      UserError: an empty prompt or completion, a pair longer than the context, or tokens or a
        student that the model has not.
    """
    adapter = lora.tree_of(adapter)
    for number, pair in enumerate(pairs):
        name = f"pair {number}"
        check(name, pair.prompt, pair.completion, pair.student, sampler.config, adapter)
        if not pair.completion:
            raise UserError(f"{name}: its completion needs at least one token")
    out: list[np.ndarray] = [np.zeros(len(pair.completion), np.float32) for pair in pairs]
    if not pairs:
        return out
    config, weights = sampler.config, sampler.weights
    packed = f"{sampler.spread} packed rows of {sampler.pack_width} tokens"
    with in_mesh(sampler.mesh), out_of_memory(packed, "lower Sampler.pack_width"):
        prefix = programs.shared_prefix(config, weights, [pair.prompt for pair in pairs], adapter)
        skip = int(prefix.length) if prefix else 0
        groups = _groups(pairs, skip, sampler.pack_width)
        # A completion's last token is predicted, and predicts nothing.
        pieces = [
            packing.Piece(
                pairs[group[0]].prompt[skip:],
                skip,
                pairs[group[0]].student,
                tuple(pairs[i].completion[:-1] for i in group),
            )
            for group in groups
        ]
        given: list[tuple[list[int], jax.Array]] = []  # to the device, before any is read
        least = min(sampler.pack_width, sampler.least.width)
        for pack in _packs(pieces, sampler.spread, sampler.pack_width, least):
            where = [
                (i, _predictors(at, len(pieces[p].prompt), pairs, groups[p], i))
                for p, at in pack.pieces
                for i in groups[p]
            ]
            targets = np.concatenate([pairs[i].completion for i, _ in where]).astype(np.int32)
            predictors = np.concatenate([w for _, w in where])
            found = _score_pack(sampler, pack, prefix, adapter, predictors, targets)
            given.append(([i for i, _ in where], found))
        for scored, found in given:
            ends = np.cumsum([len(pairs[i].completion) for i in scored])
            for i, own in zip(scored, np.split(np.asarray(found), ends), strict=False):
                out[i] = own
    return out


def _packs(
    pieces: Sequence[packing.Piece], rows: int, width: int, least: int
) -> Iterator[packing.Pack]:
    """Yields packs of one student each, which together hold every piece."""
    of_student: dict[int, list[int]] = {}
    for i, piece in enumerate(pieces):
        of_student.setdefault(piece.student, []).append(i)
    for own in of_student.values():
        for pack in packing.pack([pieces[i] for i in own], rows, width, least):
            yield dataclasses.replace(pack, pieces=[(own[i], at) for i, at in pack.pieces])


def _groups(pairs: Sequence[Pair], skip: int, width: int) -> list[list[int]]:
    """Returns the pairs that share prompt and student, in groups that fit a packed row."""
    open_groups: dict[tuple[Any, ...], list[int]] = {}
    sizes: dict[tuple[Any, ...], int] = {}
    full: list[list[int]] = []
    for i, pair in enumerate(pairs):
        name = (pair.prompt, pair.student)
        size = len(pair.completion) - 1
        if name in open_groups and sizes[name] + size > width:
            full.append(open_groups.pop(name))
        if name not in open_groups:
            open_groups[name] = []
            sizes[name] = len(pair.prompt) - skip
        open_groups[name].append(i)
        sizes[name] += size
    return full + list(open_groups.values())


def _predictors(
    start: int, prompt: int, pairs: Sequence[Pair], group: list[int], which: int
) -> np.ndarray:
    """Returns the flat index of the token that predicts each token of one completion."""
    before = sum(len(pairs[i].completion) - 1 for i in group[: group.index(which)])
    own = start + prompt + before + np.arange(len(pairs[which].completion) - 1)
    return np.array([start + prompt - 1, *own], np.int32)


def _score_pack(
    sampler: Sampler,
    pack: packing.Pack,
    prefix: Any,
    adapter: Any,
    predictors: np.ndarray,
    targets: np.ndarray,
) -> jax.Array:
    """Returns the log-probability of each target, and padding, before the device has it."""
    positions, of_position = np.unique(predictors, return_inverse=True)
    least = sampler.least.targets
    at = np.zeros(packing.bucket(len(positions), least), np.int32)
    at[: len(positions)] = positions
    wanted = np.zeros((2, packing.bucket(len(targets), least)), np.int32)
    wanted[:, : len(targets)] = of_position, targets
    model = sampler.config, sampler.weights
    return _log_probabilities(*model, pack.tokens, pack.places, prefix, adapter, at, *wanted)


@functools.partial(jax.jit, static_argnames="config")
def _log_probabilities(
    config: Config,
    weights: Any,
    tokens_RT: jax.Array,
    places: packing.Places,
    prefix: Any,
    adapter: Any,
    at_U: jax.Array,
    of_M: jax.Array,
    targets_M: jax.Array,
) -> jax.Array:
    """Returns log P of target m after the token at flat index at[of[m]]: [M] float32.

    U different positions, M targets. The places are those of one student.
    """
    student = places.student.max()  # padding has 0
    if adapter is not None:
        adapter = jax.tree.map(lambda a: a[:, student], adapter)
    if prefix is not None:
        own = jax.tree.map(lambda a: a[:, student][:, None], prefix.kv)
        prefix, places = prefix._replace(kv=own), places._replace(student=jnp.zeros_like(tokens_RT))
    with transformer.precision(weights):
        x_RTD, _ = programs.prefill(config, weights, tokens_RT, places, prefix, adapter)
        x_UD = x_RTD.reshape(-1, config.embed)[at_U]
        few = min(_HEAD_ROWS, x_UD.shape[0])
        total_U = jax.lax.map(
            lambda x_CD: jax.nn.logsumexp(transformer.head(config, weights, x_CD), axis=-1),
            x_UD.reshape(-1, few, config.embed),
        ).reshape(-1)
        chosen_M = transformer.head_at(config, weights, x_UD[of_M], targets_M)
    return constrain(chosen_M - total_U[of_M], None)
