"""Losses at given positions, over the vocabulary in chunks: never logits of a whole batch at once.

Shapes: M positions, C positions of a chunk, D embedding, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.mesh import constrain

Tree = dict[str, Any]
# (trained, frozen, x_CD, item) -> the sum over a chunk, and sums to report.
Term = Callable[[Tree, Tree, jax.Array, Tree], tuple[jax.Array, Any]]

_CHUNK_ELEMENTS = 2**27  # logits held at once: 512 MiB of float32
_CHUNK_RANGE = (64, 1024)  # of all students that are computed at once
_FEWEST = 16  # of one


def chunk_size(vocab: int, students: int = 1) -> int:
    """Returns the most positions of each of some students whose logits are held at once.

    It is a power of two.
    """
    least, most = _CHUNK_RANGE
    held = min(most, max(least, _CHUNK_ELEMENTS // vocab)) // students
    return 1 << max(_FEWEST, held).bit_length() - 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def over_chunks(
    term: Term,
    size: int,
    trained: Tree,
    x_MD: jax.Array,
    frozen: Tree,
    items: Tree,
    chunks: jax.Array,
) -> tuple[jax.Array, Any]:
    """Returns the sum of `term` over the first `chunks` chunks of the positions.

    The gradient is taken with the value, chunk by chunk: each chunk's logits are computed once and
    kept nowhere (as in arXiv 2410.10989), and no work is done for chunks that are not used.

    Args:
      term: of one chunk; with its sum it returns further sums, which have no gradient.
      size: C, of which M is a multiple.
      trained: arrays of the head that are trained; may be empty.
      frozen: arrays that have no gradient.
      items: what belongs to each position, arrays [M, ...].
      chunks: int32, at most M / C.
    """
    return _forward(term, size, trained, x_MD, frozen, items, chunks)[0]


def cross_entropy(logits_CV: jax.Array, target_C: jax.Array) -> jax.Array:
    """Returns -log P(target) of each position."""
    chosen = jnp.take_along_axis(logits_CV, target_C[:, None], axis=-1, mode="clip")[:, 0]
    return jax.nn.logsumexp(logits_CV, axis=-1) - chosen


def divergence(logits_CV: jax.Array, other_CV: jax.Array) -> jax.Array:
    """Returns KL(softmax(logits) || softmax(other)) of each position, over the given tokens."""
    log_p, log_q = jax.nn.log_softmax(logits_CV), jax.nn.log_softmax(other_CV)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def logits(
    config: Config, head: Tree, x_CD: jax.Array, tokens: tuple[int, ...] | None = None
) -> jax.Array:
    """Returns the logits in float32, [C, V], or of the given tokens alone."""
    head = {name: value.astype(x_CD.dtype) for name, value in head.items()}
    if tokens is not None:
        name = "embed" if config.tied else "head"
        head = {**head, name: head[name][jnp.array(tokens)]}
    return transformer.head(config, head, x_CD)


def _forward(
    term: Term,
    size: int,
    trained: Tree,
    x_MD: jax.Array,
    frozen: Tree,
    items: Tree,
    chunks: jax.Array,
) -> tuple[tuple[jax.Array, Any], tuple[Tree, jax.Array]]:
    """Returns the sums, and the gradients for `trained` and x."""

    def chunk(at: jax.Array) -> Any:
        x_CD, item = jax.tree.map(
            lambda a: lax.dynamic_slice_in_dim(a, at * size, size), (x_MD, items)
        )
        value = jax.value_and_grad(term, argnums=(0, 2), has_aux=True)
        return value(trained, frozen, constrain(x_CD, "data", None), item)

    def add(at: jax.Array, carry: Any) -> Any:
        sums, d_trained, d_x = carry
        more, (more_trained, d_chunk) = chunk(at)
        sums, d_trained = jax.tree.map(jnp.add, (sums, d_trained), (more, more_trained))
        return sums, d_trained, lax.dynamic_update_slice_in_dim(d_x, d_chunk, at * size, 0)

    shapes, (of_trained, _) = jax.eval_shape(chunk, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (shapes, of_trained))
    sums, d_trained, d_x = lax.fori_loop(0, chunks, add, (*zeros, jnp.zeros_like(x_MD)))
    return sums, (d_trained, d_x)


def _backward(
    _: Term, size: int, gradients: tuple[Tree, jax.Array], cotangent: Any
) -> tuple[Any, ...]:
    scaled = jax.tree.map(lambda g: cotangent[0].astype(g.dtype) * g, gradients)
    return *scaled, None, None, None


over_chunks.defvjp(_forward, _backward)
