"""What a device can do, measured where our programs are: the floors of the other figures."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax import keys
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config

_TIMES = 5


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns the median time of a call, after one that compiles."""
    jax.block_until_ready(function(*arguments))
    taken = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


@functools.cache
def product(tiny: bool, dtype: str) -> float:
    """Returns the operations a second of a large square product, as jax computes it by default."""
    side = 512 if tiny else 8192
    square = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(dtype))
    return 2 * side**3 / seconds(jax.jit(jnp.matmul), square, square)


@functools.cache
def copy(tiny: bool) -> float:
    """Returns the bytes a second that a copy reads and writes."""
    large = jnp.ones(2**21 if tiny else 2**29, jnp.bfloat16)
    return 2 * large.nbytes / seconds(jax.jit(lambda x: x + 1), large)


def random_model(config: Config, dtype: str) -> Decoder:
    """Returns a decoder with random weights, made on the device one array at a time.

    `Decoder.init` makes all in one program, which may need several times their memory.
    """

    @functools.partial(jax.jit, static_argnames="shape")
    def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.normal(key, shape, jnp.dtype(dtype)) * jnp.asarray(0.02, dtype)

    def fill(path: Any, array: parameters.Parameter) -> jax.Array:
        if array.init != "normal":
            return jnp.full(array.shape, float(array.init == "ones"), dtype)
        own = keys.named(jax.random.key(0), jax.tree_util.keystr(path))
        return normal(own, array.shape).block_until_ready()

    return Decoder(config, jax.tree.map_with_path(fill, parameters.declare(config)))
