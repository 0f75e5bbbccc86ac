"""Random keys by name and index, so that no stream depends on how often another one was drawn."""

import zlib

import jax
import jax.numpy as jnp


def named(key: jax.Array, name: str) -> jax.Array:
    """Returns the stream of `key` called `name`; streams of different names are independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def folded(key: jax.Array, numbers: jax.Array | int) -> jax.Array:
    """Returns the stream of each number, or the numbers' of each of as many keys."""
    return jnp.vectorize(jax.random.fold_in)(key, numbers)
