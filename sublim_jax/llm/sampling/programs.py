"""The device programs of sampling and scoring: prefill packed rows, fill the cache, decode.

Shapes: R packed rows, T tokens, B rows that decode, S slots of the cache, P slots of the prefix,
A students (adapters), F rows filled at once, C tokens of a chunk, K key-value heads, H head size.

A cache is {"k", "v"} of [B, K, S, H], slot s holding position s; either stacked over the layers, or
a tuple of L of them. It is stacked where the layers are (see `transformer.run_layers`).
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm import packing
from sublim_jax.llm.model import attention, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.packing import Places
from sublim_jax.llm.sampling import draw
from sublim_jax.mesh import ROWS, constrain

Tree = dict[str, Any]
Cache = Tree | tuple[Tree, ...]


class Prefix(NamedTuple):
    """Keys and values of the tokens that every prompt begins with.

    Attributes:
      kv: {"k", "v"} of [L, A, P, K, H].
      length: int32, how many of the P slots hold a token.
    """

    kv: Tree
    length: Any


class DecodeRows(NamedTuple):
    """The rows that decode, int32 [B] but for the last; `left` 0 is an idle row.

    Attributes:
      token: the last token, not yet in the cache.
      position: its position.
      drawn: tokens drawn so far.
      left: tokens that may still be drawn.
      student: number of its adapter.
      stream: uint32 [B, 2], the key of its random numbers (`streams`).
    """

    token: Any
    position: Any
    drawn: Any
    left: Any
    student: Any
    stream: Any


class Settings(NamedTuple):
    """How tokens are drawn; all traced, so that none of them recompiles anything."""

    temperature: Any
    top_p: Any
    top_k: Any
    eos: Any


@jax.jit
def streams(seed: Any, id_N: Any, sample_N: Any) -> jax.Array:
    """Returns the key of each completion's random numbers, uint32 [N, 2]: of its name alone."""
    key = jax.random.key(seed)
    named = jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(key, i), j))
    return constrain(jax.random.key_data(named(id_N, sample_N)), None, None)


def prefill(
    config: Config,
    weights: Tree,
    tokens_RT: jax.Array,
    places: Places,
    prefix: Prefix | None,
    adapter: Tree | None,
) -> tuple[jax.Array, Tree]:
    """Returns the last layer's output [R, T, D], and {"k", "v"} of [L, R, T, K, H]."""
    R, T = tokens_RT.shape

    def attend(
        cache: None, layer: Any, q: jax.Array, k: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, None, Tree]:
        keys, values = k, v
        if prefix:
            keys, values = (
                jnp.concatenate([jnp.broadcast_to(old, (R, *old.shape[1:])), new], axis=1)
                for old, new in (
                    (prefix.kv[name][layer].reshape(1, -1, *new.shape[2:]), new)
                    for name, new in (("k", k), ("v", v))
                )
            )
        return attention.masked(q, keys, values, mask_RTS), cache, {"k": k, "v": v}

    before = jnp.tril(jnp.ones((1, T, T), bool))
    same = places.prompt[:, :, None] == places.prompt[:, None, :]
    branch = places.branch
    seen = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    mask_RTS = before & same & seen
    if prefix:
        A, P = prefix.kv["k"].shape[1:3]
        student, slot = jnp.divmod(jnp.arange(A * P), P)
        mine = places.student[:, :, None] == student[None, None]
        held = mine & (slot < prefix.length)[None, None]
        mask_RTS = jnp.concatenate([held, mask_RTS], axis=2)
    with transformer.precision(weights):
        x, _, kv = transformer.run_layers(
            config,
            weights["layers"],
            transformer.embed(weights, tokens_RT),
            places.position,
            attend,
            adapter=adapter,
            students_X=places.student,
        )
    return x, kv


@functools.partial(jax.jit, static_argnames="config")
def prefill_kv(
    config: Config, weights: Tree, tokens: Any, places: Places, prefix: Any, adapter: Any
) -> Tree:
    """Returns the keys and values of packed tokens; the head is never run."""
    return prefill(config, weights, tokens, places, prefix, adapter)[1]


def shared_prefix(
    config: Config, weights: Tree, prompts: Iterable[Sequence[int]], adapter: Tree | None
) -> Prefix | None:
    """Returns the keys and values of the tokens that all prompts begin with, for every adapter.

    A prompt's last token is never among them: what follows it is yet to be drawn.
    """
    every = [tuple(prompt) for prompt in prompts]
    first, last = min(every), max(every)  # what these two share, all share
    most = min(map(len, every)) - 1
    common = first[: next((i for i in range(most) if first[i] != last[i]), most)]
    if not common:
        return None
    students = jax.tree.leaves(adapter)[0].shape[1] if adapter else 1
    pieces = [packing.Piece(common, student=s) for s in range(students)]
    pack = next(packing.pack(pieces, students, len(common)))
    kv = prefill_kv(config, weights, pack.tokens, pack.places, None, adapter)
    return Prefix(kv, np.int32(len(common)))


def unstacked(weights: Tree) -> Tree:
    """Returns the weights with a tree for each layer; on a CPU in the memory of the stacked ones.

    A scan copies a layer's weights, and its cache, out of the stack before it multiplies by them,
    which on a CPU at 16 rows doubles the time of a decoding step.
    """
    stacked = weights["layers"]
    numbers = range(jax.tree.leaves(stacked)[0].shape[0])
    if jax.default_backend() != "cpu":
        return {**weights, "layers": tuple(_cut(stacked, np.int32(i)) for i in numbers)}
    views = jax.tree.map(np.asarray, stacked)
    share = functools.partial(jax.device_put, may_alias=True)
    cut = tuple(jax.tree.map(lambda a, i=i: share(a[i]), views) for i in numbers)
    return {**weights, "layers": cut}


@functools.partial(jax.jit, static_argnames=("config", "rows", "slots", "dtype", "stacked"))
def empty_cache(config: Config, rows: int, slots: int, dtype: Any, stacked: bool) -> Cache:
    """Returns a cache of zeros."""
    shape = (rows, config.kv_heads, slots, config.head_dim)
    if not stacked:
        return tuple({name: jnp.zeros(shape, dtype) for name in "kv"} for _ in range(config.layers))
    return _placed({name: jnp.zeros((config.layers, *shape), dtype) for name in "kv"})


def fill(
    cache: Cache, prefix: Prefix | None, kv: Tree, to_F: Any, source_F: Any, student_F: Any
) -> Cache:
    """Returns the cache, which is donated, with rows `to_F` begun anew.

    Args:
      prefix: what they begin with.
      kv: of `prefill_kv`, [L, R, T, K, H].
      to_F: rows of the cache; a number past the last is left out.
      source_F: index in the flat [R * T] of each row's first token after the prefix.
      student_F: whose prefix.
    """
    if isinstance(cache, dict):
        return fill_stacked(cache, prefix, kv, to_F, source_F, student_F)
    # A call for each layer: one program of them all takes 20 times as long to compile.
    return tuple(
        fill_layer(layer, np.int32(i), prefix, kv, to_F, source_F, student_F)
        for i, layer in enumerate(cache)
    )


@functools.partial(jax.jit, donate_argnames="cache")
def fill_stacked(
    cache: Tree, prefix: Prefix | None, kv: Tree, to_F: Any, source_F: Any, student_F: Any
) -> Tree:
    """Returns `fill` of a cache stacked over the layers."""
    rows = jax.vmap(lambda i: _fresh(cache, i, prefix, kv, source_F, student_F))
    new = rows(jnp.arange(cache["k"].shape[0]))
    return _placed({n: cache[n].at[:, to_F].set(new[n], mode="drop") for n in "kv"})


@functools.partial(jax.jit, donate_argnames="cache")
def fill_layer(
    cache: Tree, layer: Any, prefix: Any, kv: Tree, to_F: Any, source_F: Any, student_F: Any
) -> Tree:
    """Returns `fill` of one layer's cache."""
    new = _fresh(cache, layer, prefix, kv, source_F, student_F)
    return {n: cache[n].at[to_F].set(new[n], mode="drop") for n in "kv"}


def _fresh(
    cache: Tree, layer: Any, prefix: Prefix | None, kv: Tree, source_F: Any, student_F: Any
) -> Tree:
    """Returns what `fill` writes, {"k", "v"} of [F, K, S, H]."""
    slot_S = jnp.arange(cache["k"].shape[-2])
    start = prefix.length if prefix else jnp.int32(0)
    own_FS = source_F[:, None] + (slot_S - start)[None]
    out = {}
    for name, new in _of_layer(kv, layer).items():
        rows_FSKH = jnp.take(new.reshape(-1, *new.shape[2:]), own_FS, axis=0, mode="clip")
        if prefix:
            old_FPKH = prefix.kv[name][layer][student_F]
            held_FSKH = jnp.take(old_FPKH, slot_S, axis=1, mode="clip")
            rows_FSKH = jnp.where((slot_S < start)[None, :, None, None], held_FSKH, rows_FSKH)
        out[name] = rows_FSKH.swapaxes(1, 2)
    return out


@functools.partial(jax.jit, static_argnames="slots")
def resize(cache: Cache, keep_B: Any, slots: int) -> Cache:
    """Returns the cache of the rows `keep_B`, with `slots` slots."""

    def one(x: jax.Array) -> jax.Array:
        *_, held, _ = x.shape
        x = jnp.take(x, keep_B, axis=x.ndim - 4, mode="clip")
        if slots <= held:
            return x[..., :slots, :]
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, slots - held), (0, 0)])

    return _placed(jax.tree.map(one, cache))


@functools.partial(
    jax.jit, static_argnames=("config", "capacity", "with_log"), donate_argnames="cache"
)
def decode(
    config: Config,
    weights: Tree,
    cache: Cache,
    rows: DecodeRows,
    settings: Settings,
    adapter: Tree | None,
    steps: Any,
    floor: Any,
    *,
    capacity: int,
    with_log: bool,
) -> tuple[Cache, jax.Array, jax.Array]:
    """Draws tokens until at most `floor` rows are active, or for `steps` steps.

    Returns:
      the cache, the tokens [B, C] with -1 where a row was idle, and their log-probabilities under
      the model itself (temperature 1, nothing truncated), zeros unless `with_log`.
    """
    B = rows.token.shape[0]
    slots = _of_layer(cache, 0)["k"].shape[2]
    stream_B = jax.random.wrap_key_data(rows.stream)

    def attend(
        cache: Cache, layer: Any, q: jax.Array, k: jax.Array, v: jax.Array, *, position_B: Any
    ) -> tuple[jax.Array, Cache, None]:
        cache = _write(cache, layer, position_B, {"k": k, "v": v})
        held = _of_layer(cache, layer)
        mask_BS = jnp.arange(slots)[None] <= position_B[:, None]
        return attention.cached(q, held["k"], held["v"], mask_BS), cache, None

    def step(state: Any) -> Any:
        i, cache, rows, tokens_BC, log_BC = state
        x_BD, cache, _ = transformer.run_layers(
            config,
            weights["layers"],
            transformer.embed(weights, rows.token),
            rows.position,
            functools.partial(attend, position_B=rows.position),
            cache,
            adapter,
            rows.student,
        )
        logits_BV = transformer.head(config, weights, x_BD)
        keys_B = jax.vmap(jax.random.fold_in)(stream_B, rows.drawn)
        token_B = draw.next_token(
            logits_BV, keys_B, settings.temperature, settings.top_p, settings.top_k
        )
        active_B = rows.left > 0
        ended_B = jnp.any(token_B[:, None] == settings.eos[None], axis=1)
        going_B = active_B.astype(jnp.int32)
        tokens_BC = tokens_BC.at[:, i].set(jnp.where(active_B, token_B, -1))
        if with_log:
            log_B = draw.log_probability(logits_BV, token_B)
            log_BC = log_BC.at[:, i].set(jnp.where(active_B, log_B, 0.0))
        rows = rows._replace(
            token=jnp.where(active_B, token_B, rows.token),
            position=rows.position + going_B,
            drawn=rows.drawn + going_B,
            left=jnp.where(ended_B, 0, rows.left - going_B),
        )
        return i + 1, cache, rows, tokens_BC, log_BC

    def more(state: Any) -> jax.Array:
        i, _, rows, *_ = state
        return (i < steps) & (jnp.sum(rows.left > 0) > floor)

    start = (
        jnp.int32(0),
        cache,
        rows,
        jnp.full((B, capacity), -1, jnp.int32),
        jnp.zeros((B, capacity)),
    )
    with transformer.precision(weights):
        _, cache, _, tokens_BC, log_BC = jax.lax.while_loop(more, step, start)
    return _placed(cache), constrain(tokens_BC, None, None), constrain(log_BC, None, None)


def _write(cache: Cache, layer: Any, position_B: jax.Array, new: Tree) -> Cache:
    """Returns the cache with the new keys and values [B, K, H] at each row's position."""
    row_B = jnp.arange(position_B.shape[0])
    if isinstance(cache, tuple):
        written = {
            name: cache[layer][name].at[row_B, :, position_B].set(new[name], mode="drop")
            for name in "kv"
        }
        return (*cache[:layer], written, *cache[layer + 1 :])
    return {
        name: cache[name].at[layer, row_B, :, position_B].set(new[name], mode="drop")
        for name in "kv"
    }


def _of_layer(cache: Cache, layer: Any) -> Tree:
    if isinstance(cache, tuple):
        return cache[layer]
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, layer, keepdims=False), cache)


_cut = jax.jit(_of_layer)


def _placed(cache: Any) -> Any:
    """Returns the cache with rows and heads spread over the mesh."""

    def place(x: jax.Array) -> jax.Array:
        return constrain(x, *[None] * (x.ndim - 4), ROWS, "model", None, None)

    return jax.tree.map(place, cache)
