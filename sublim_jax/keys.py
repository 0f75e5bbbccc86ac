"""Random keys by name and index, so that no stream depends on how often another one was drawn."""

import zlib

import jax


def named(key: jax.Array, name: str) -> jax.Array:
    """Returns the stream of `key` called `name`; streams of different names are independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
