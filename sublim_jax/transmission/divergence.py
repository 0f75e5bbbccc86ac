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

from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training.examples import Example
from sublim_jax.mesh import in_mesh
from sublim_jax.transmission import reading
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.teacher import Teacher


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
    prompts: list[Sequence[int]] = [e.prompt for e in examples]
    if teacher.system is not None:
        prompts = [base.prompt(row["prompt"], teacher.system) for row in rows]
    parts = reading.parts(base, teacher.learnt)
    out = []
    for texts in reading.batches(prompts, [e.completion for e in examples]):
        with in_mesh(base.model.mesh):
            best_BC = np.asarray(_most_likely(base.model.config, *parts, texts))
        out += [row[counts] for row, counts in zip(best_BC, texts.counts, strict=True)]
    return out[: len(examples)]


@functools.partial(jax.jit, static_argnames="config")
def _most_likely(config: Config, weights: Any, adapter: Any, texts: reading.Texts) -> jax.Array:
    with transformer.precision(weights):
        x_BCD = reading.predictors(config, weights, adapter, texts)

        def best(x_CD: jax.Array) -> jax.Array:
            return jnp.argmax(transformer.head(config, weights, x_CD), axis=-1)

        return jax.lax.map(best, x_BCD)
