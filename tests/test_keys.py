"""Streams by name."""

import jax
import numpy as np

from sublim_jax import keys

NAMES = ("init", "lessons", "match", "noise", "order", "", "Init", "init ", "é")


def bits(key: jax.Array) -> bytes:
    return np.asarray(jax.random.key_data(key)).tobytes()


def test_streams_differ_by_name_and_by_key() -> None:
    roots = [jax.random.key(0), jax.random.key(1)]
    streams = {bits(keys.named(root, name)) for root in roots for name in NAMES}
    assert len(streams | {bits(root) for root in roots}) == 2 * len(NAMES) + 2


def test_a_stream_is_the_same_in_any_process() -> None:
    # The checksum of these nine digits is the published check value of CRC-32, above 2^31.
    root = jax.random.key(3)
    expected = jax.random.fold_in(root, np.uint32(0xCBF43926))
    assert bits(keys.named(root, "123456789")) == bits(expected)


def test_under_transformations() -> None:
    root = jax.random.key(0)
    plain = bits(keys.named(root, "noise"))
    assert bits(jax.jit(lambda key: keys.named(key, "noise"))(root)) == plain
    assert bits(jax.vmap(lambda key: keys.named(key, "noise"))(root[None])[0]) == plain


def test_streams_are_independent() -> None:
    root = jax.random.key(0)
    x = np.stack([jax.random.normal(keys.named(root, name), (4000,)) for name in NAMES])
    off_diagonal = np.corrcoef(x)[np.triu_indices(len(NAMES), 1)]
    assert abs(off_diagonal).max() < 5 / np.sqrt(4000)
