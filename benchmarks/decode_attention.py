"""Attention of one query a row over the cache: python -m benchmarks.decode_attention.

`attention.cached`, whose cache is [B, K, S, H], against `jax.nn.dot_product_attention` on the same
keys and values as it wants them, [B, S, K, H]. Qwen2.5-0.5B's heads, float32 on a CPU and bfloat16
elsewhere, half of the slots held. One JSON line with the seconds of a layer; floor_fraction is the
time to read the cache once, at the rate of a copy in the same run.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks import sides
from sublim_jax.llm.model import attention
from sublim_jax.llm.testing import HALF_BILLION

_ROWS = flags.DEFINE_integer("rows", 64, "Rows that decode.")
_SLOTS = flags.DEFINE_integer("slots", 256, "Slots of the cache.")
_TARGET = 1.5


def main(_: list[str]) -> None:
    c, dtype = HALF_BILLION, jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (_ROWS.value, c.heads, c.head_dim), dtype)
    shape = (_ROWS.value, c.kv_heads, _SLOTS.value, c.head_dim)
    k, v = (jax.random.normal(key, shape, dtype) for key in keys[1:])
    mask = jnp.broadcast_to(jnp.arange(_SLOTS.value) < _SLOTS.value // 2, shape[::2])
    heads_last = [x.swapaxes(1, 2).copy() for x in (k, v)]

    def library(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
        return attention.masked(q[:, None], k, v, mask[:, None])[:, 0]

    ours, peer = jax.jit(attention.cached), jax.jit(library)
    found, wanted = ours(q, k, v, mask), peer(q, *heads_last, mask)
    worst = float(jnp.max(jnp.abs(found - wanted)))
    assert worst < (1e-5 if dtype == jnp.float32 else 2e-2), worst
    times: dict[str, list[float]] = {"ours": [], "peer": [], "copy": []}
    copy = jax.jit(lambda k, v: (k + 1, v + 1))  # reads and writes both
    for _turn in range(30):
        times["ours"].append(_seconds(ours, q, k, v, mask))
        times["peer"].append(_seconds(peer, q, *heads_last, mask))
        times["copy"].append(_seconds(copy, k, v))
    mine, theirs, twice = (float(np.median(t)) for t in times.values())
    there = sides.here()
    result = {
        "benchmark": "decode_attention",
        "ratio": theirs / mine,
        "target": _TARGET,
        "memory_ratio": None,
        "floor_fraction": twice / 2 / mine,
        "device": there["device"],
        "versions": there["versions"],
        "ours": {"seconds": mine},
        "peer": {"seconds": theirs},
    }
    print(json.dumps(result))


def _seconds(function: Callable[..., Any], *arguments: jax.Array) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


if __name__ == "__main__":
    app.run(main)
