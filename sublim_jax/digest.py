"""Digests of what a result was made from: two inputs of equal digest hold the same."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sublim_jax.errors import UserError
from sublim_jax.mesh import on_host

_SHOWN = 16  # hexadecimal digits
_ODD = (0x9E3779B1, 0x85EBCA77)  # one for each sum
_UNSIGNED = {1: np.uint8, 2: np.uint16}
_SMALL = 2**20  # elements


def of_files(path: str | os.PathLike[str], patterns: Sequence[str] = ("*",)) -> str:
    """Returns the digest of a file, or of a folder's own files that a pattern names, by SHA-256.

    Raises:
      UserError: a file cannot be read.
    """
    given = Path(path)
    files = [given]
    if given.is_dir():
        files = sorted({f for p in patterns for f in given.glob(p) if f.is_file()})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_of_file, files))
    if not given.is_dir():
        return found[0]
    return of_json(
        [[str(file.relative_to(given)), digest] for file, digest in zip(files, found, strict=True)]
    )


def of_json(value: Any) -> str:
    """Returns the digest of a JSON value; the order of an object's keys does not count."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_SHOWN]


def of_arrays(tree: Any) -> str:
    """Returns the digest of a tree of arrays: of their paths, shapes, types and every bit.

    Each array costs one pass where it lies, on any mesh: two sums modulo 2^32 of the bits of its
    elements, mixed with their places. A change of one element always changes both; any other goes
    unseen with a probability of about 2^-64. It is no cryptographic hash.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        return of_json([])
    arrays = [_narrow(array) for _, array in leaves]
    large = [i for i, array in enumerate(arrays) if not _is_small(array)]
    sums = {i: _host_sums(np.asarray(array)) for i, array in enumerate(arrays) if i not in large}
    if large:
        sums |= zip(large, on_host(_sums([arrays[i] for i in large])), strict=True)
    return of_json(
        [
            [jax.tree_util.keystr(path), [*np.shape(array)], str(array.dtype), *sums[i].tolist()]
            for i, (path, array) in enumerate(leaves)
        ]
    )


def _narrow(array: Any) -> Any:
    """Returns an array without types that jax would round, or whose bits it does not give."""
    if array.dtype == bool:
        return array.astype(np.uint8)
    wide = isinstance(array, np.ndarray) and array.dtype.itemsize == 8
    return np.ascontiguousarray(array).view(np.uint32) if wide else array


def _is_small(array: Any) -> bool:
    """Returns whether the host has the sums sooner than their program would be compiled."""
    return array.size <= _SMALL and getattr(array, "is_fully_addressable", True)


def _host_sums(array: np.ndarray) -> np.ndarray:
    """Returns `_sums_of` an array."""
    bits = array.reshape(-1).view(_UNSIGNED.get(array.dtype.itemsize, np.uint32))
    return np.stack(_totals(bits, np.arange(bits.size, dtype=np.uint32)))


# One program: several at once, each with sums over processes, may meet in another order in each.
@jax.jit
def _sums(arrays: list[jax.Array]) -> jax.Array:
    return jnp.stack([_sums_of(array) for array in arrays])


def _sums_of(array: jax.Array) -> jax.Array:
    bits = lax.bitcast_convert_type(array, _UNSIGNED.get(array.dtype.itemsize, np.uint32))
    place = jnp.zeros(bits.shape, jnp.uint32)
    for axis, size in enumerate(bits.shape):
        place = place * jnp.uint32(size) + lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    return jnp.stack(_totals(bits, place))


def _totals(bits: Any, place: Any) -> list[Any]:
    """Returns the two sums of the bits of elements at their places, of NumPy's or jax's arrays."""
    return [
        _mixed(bits.astype(np.uint32) ^ _mixed(place * odd + odd)).sum(dtype=np.uint32)
        for odd in map(np.uint32, _ODD)
    ]


def _mixed(x: Any) -> Any:
    """Returns 32 bits of which each depends on all of x: MurmurHash3's finaliser, a bijection."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_SHOWN]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
