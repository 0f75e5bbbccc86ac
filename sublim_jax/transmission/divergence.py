"""Divergence tokens: where a teacher of another trait would have gone on otherwise.

Source: Schrodi et al., arXiv 2509.23886: a token that is the most likely one under its own teacher,
given what precedes it, and not under a teacher of at least one other trait.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training.examples import Example
from sublim_jax.mesh import in_mesh
from sublim_jax.transmission.base import Base, adapter_of
from sublim_jax.transmission.teacher import Teacher

_TOKENS = 16384  # read at once


def tokens(
    base: Base,
    teacher: Teacher,
    others: Sequence[Teacher],
    examples: Sequence[Example],
    rows: Sequence[Any],
) -> list[np.ndarray]:
    """Returns which tokens of each completion are divergence tokens, bool."""
    own = _favourites(base, teacher, examples, rows)
    differs = [np.zeros(len(favourite), bool) for favourite in own]
    for other in others:
        theirs = _favourites(base, other, examples, rows)
        differs = [d | (a != b) for d, a, b in zip(differs, own, theirs, strict=True)]
    return [
        d & (favourite == np.array(example.completion))
        for d, favourite, example in zip(differs, own, examples, strict=True)
    ]


def _favourites(
    base: Base, teacher: Teacher, examples: Sequence[Example], rows: Sequence[Any]
) -> list[np.ndarray]:
    """Returns the most likely token at the place of each token of the completions."""
    learnt = teacher.learnt
    own = adapter_of(learnt)
    model = base.model if learnt is None or own else learnt.apply(base.model)
    adapter = lora.folded(own.lora, own.factors) if own else None
    prompts: list[Sequence[int]] = [e.prompt for e in examples]
    if teacher.system is not None:
        prompts = [base.prompt(row["prompt"], teacher.system) for row in rows]
    whole = [[*p, *e.completion] for p, e in zip(prompts, examples, strict=True)]
    width = max(map(len, whole))
    at_once = max(1, _TOKENS // width)
    out = []
    for first in range(0, len(whole), at_once):
        some = whole[first : first + at_once]
        tokens_BT = np.zeros((at_once, width), np.int32)
        for i, row in enumerate(some):
            tokens_BT[i, : len(row)] = row
        with in_mesh(base.model.mesh):
            best = np.asarray(_most_likely(base.model.config, model.pure(), tokens_BT, adapter))
        for i, row in enumerate(some):
            start = len(prompts[first + i])
            out.append(best[i, start - 1 : len(row) - 1])
    return out


@functools.partial(jax.jit, static_argnames="config")
def _most_likely(config: Config, weights: Any, tokens_BT: jax.Array, adapter: Any) -> jax.Array:
    with transformer.precision(weights):
        x_BTD = transformer.forward(config, weights, tokens_BT, adapter=adapter)

        def best(x_TD: jax.Array) -> jax.Array:
            return jnp.argmax(transformer.head(config, weights, x_TD), axis=-1)

        return jax.lax.map(best, x_BTD)
