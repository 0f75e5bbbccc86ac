"""The decoder as pure functions over a tree of arrays.

Shapes: B rows, T tokens, X any leading axes ([B, T], or [B] while decoding), D embedding, N query
heads, K key-value heads, H head size, F hidden units of the MLP, V vocabulary, L layers, S students
(adapters), r rank.

The weights are the tree of `parameters.declare`. An adapter is a tree {"q": {"a", "b"}, ...} over
the kernels of a layer, a [L, S, in, r] and b [L, S, r, out], its scale (alpha / r) folded into b;
row or token i uses that of student `students[i]`. Without the axis S there is one adapter for all,
and it may have "dropout" for each layer: a key of each row or token, and a rate.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from sublim_jax.llm.model import attention
from sublim_jax.llm.model.config import Config
from sublim_jax.mesh import ROWS, Axes, constrain

Tree = dict[str, Any]
_UNROLLED = 3
_KEPT = ("q", "k", "v", "attended", "x", "gate", "up")  # of a layer, for its gradient
# (cache, layer, q [X, N, H], k [X, K, H], v [X, K, H]) -> (out [X, N, H], cache, kept per layer)
Attend = Callable[[Any, Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any, Any]]


def rms_norm(x_XD: jax.Array, gain_D: jax.Array, eps: float) -> jax.Array:
    """Returns x over its root mean square, in float32, times the gain (arXiv 1910.07467)."""
    x = x_XD.astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps)
    return x.astype(x_XD.dtype) * _over(gain_D, x_XD)


def frequencies(config: Config) -> np.ndarray:
    """Returns the angle that each pair of a head turns by for each position: [H / 2] float32.

    Rounded as in transformers: at position 100,000 the last bit is seen in the logits.
    """
    powers = config.rope_theta ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    kept = np.float32(1) / powers.astype(np.float32)
    if config.rope_scaling is None:
        return kept
    scaling = config.rope_scaling
    turns = scaling.original_context * (1 / (2 * np.pi * (1 / kept)))  # as PyTorch divides
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - share) * kept / scaling.factor + share * kept


def rope(x_XNH: jax.Array, positions_X: jax.Array, turn_H: np.ndarray) -> jax.Array:
    """Returns the heads rotated by their position times `turn_H` ([H / 2]), in float32.

    A head's first half is paired with its second, as in transformers.
    """
    angle_XH = positions_X[..., None].astype(jnp.float32) * _over(
        jnp.asarray(turn_H), positions_X, 1
    )
    cos, sin = (f(angle_XH)[..., None, :] for f in (jnp.cos, jnp.sin))
    first, second = jnp.split(x_XNH.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_XNH.dtype)


def linear(
    x_XI: jax.Array,
    kernel_IO: jax.Array,
    bias_O: jax.Array | None = None,
    lora: Tree | None = None,
    students_X: jax.Array | None = None,
) -> jax.Array:
    """Returns x times the kernel, plus the bias and the adapter's x a b: [X, O]."""
    y = _product(x_XI, kernel_IO) if _on_cpu_in_half(x_XI) else x_XI @ kernel_IO
    if bias_O is not None:
        y = y + _over(bias_O, y)
    if lora is None:
        return y
    x, a, b = x_XI, lora["a"], lora["b"]
    if "dropout" in lora:
        x = _dropped(x, *lora["dropout"])
    if a.ndim == 2:  # over flat tokens, where the gradients of a and b are a sixth of the time
        return y + _low_rank(x.reshape(-1, a.shape[0]), a, b).reshape(y.shape)
    # All adapters at once, each row's own kept: dense products instead of gathered kernels.
    a, b, f32 = a.astype(x.dtype), b.astype(x.dtype), jnp.float32
    mine_XS = jax.nn.one_hot(students_X, a.shape[0], dtype=f32)
    h_XSr = jnp.einsum("...i,sir->...sr", x, a, preferred_element_type=f32) * mine_XS[..., None]
    more = jnp.einsum("...sr,sro->...o", h_XSr.astype(x.dtype), b, preferred_element_type=f32)
    return y + more.astype(y.dtype)


def _on_cpu_in_half(x: jax.Array) -> bool:
    return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


def _product(x_XI: jax.Array, kernel_IO: jax.Array) -> jax.Array:
    """Returns x times the kernel in its dtype, rounded apart: XLA's CPU product is slower."""
    return _summed(_TIMES, x_XI, kernel_IO).astype(x_XI.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(specs: tuple[str, str, str], x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns their product in float32; it and its gradients multiply in the dtype of the two.

    Args:
      specs: of the product, the gradient of x, and that of the kernel.
    """
    return _dot(specs[0], x, kernel)


def _summed_forward(specs: Any, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
    return _dot(specs[0], x, kernel), (x, kernel)


def _summed_backward(specs: Any, given: Any, d: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = given
    d = d.astype(x.dtype)
    return _dot(specs[1], d, kernel).astype(x.dtype), _dot(specs[2], x, d).astype(kernel.dtype)


_summed.defvjp(_summed_forward, _summed_backward)
_TIMES = ("...i,io->...o", "...o,io->...i", "...i,...o->io")
_TIMES_TRANSPOSED = ("...d,vd->...v", "...v,vd->...d", "...d,...v->vd")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _keep(x: jax.Array, name: str) -> jax.Array:
    """Returns x, kept by its name as bits: XLA's CPU compiler writes bfloat16 through float32."""
    return x


def _keep_forward(x: jax.Array, name: str) -> tuple[jax.Array, None]:
    bits = checkpoint_name(jax.lax.bitcast_convert_type(x, jnp.uint16), name)
    return jax.lax.bitcast_convert_type(bits, x.dtype), None


_keep.defvjp(_keep_forward, lambda name, _, d: (d,))


@jax.custom_vjp
def _low_rank(x_TI: jax.Array, a_Ir: jax.Array, b_rO: jax.Array) -> jax.Array:
    """Returns x a b in the dtype of x, whose products are summed in float32.

    So are the gradients of a and b; no copy of x or of the result's gradient in float32 is made.
    """
    h_Tr = _dot("ti,ir->tr", x_TI, a_Ir)
    return _dot("tr,ro->to", h_Tr.astype(x_TI.dtype), b_rO).astype(x_TI.dtype)


def _low_rank_forward(x_TI: jax.Array, a_Ir: jax.Array, b_rO: jax.Array) -> tuple[jax.Array, Any]:
    return _low_rank(x_TI, a_Ir, b_rO), (x_TI, a_Ir, b_rO)


def _low_rank_backward(kept: Any, d_TO: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x_TI, a_Ir, b_rO = kept
    h_Tr, dh_Tr = _dot("ti,ir->tr", x_TI, a_Ir), _dot("to,ro->tr", d_TO, b_rO)
    d_x = _dot("tr,ir->ti", dh_Tr.astype(x_TI.dtype), a_Ir).astype(x_TI.dtype)
    # As the CPU's bfloat16 products want them: the token axis of the larger one first.
    return d_x, _dot("ti,tr->ir", x_TI, dh_Tr), _dot("to,tr->or", d_TO, h_Tr).T


_low_rank.defvjp(_low_rank_forward, _low_rank_backward)


def _dot(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns their product in float32, of what both are in the narrower dtype."""
    dtype = min(x.dtype, y.dtype, key=lambda d: d.itemsize)
    # A gradient is traced outside of `precision`.
    exact = "highest" if dtype == jnp.float32 else None
    given = x.astype(dtype), y.astype(dtype)
    return jnp.einsum(spec, *given, precision=exact, preferred_element_type=jnp.float32)


def run_layers(
    config: Config,
    layers: Tree | tuple[Tree, ...],
    x_XD: jax.Array,
    positions_X: jax.Array,
    attend: Attend,
    cache: Any = None,
    adapter: Tree | None = None,
    students_X: jax.Array | None = None,
    rows: Axes = ROWS,
    some: tuple[int, int] | None = None,
) -> tuple[jax.Array, Any, Any]:
    """Runs every layer; returns x, the cache and what `attend` kept of each layer.

    Args:
      layers: the stacked tree, [L, ...], for one compiled layer under `lax.scan`; or a tuple of L
        trees, for a loop written out.
      attend: attention, given the cache and the number of the layer.
      adapter: of the layers that run.
      rows: mesh axes that the first axis of x lies over.
      some: of stacked layers, the first that runs and the first that does not; None: all run.
    """

    turn_H = frequencies(config)
    keep = _keep if _on_cpu_in_half(x_XD) else checkpoint_name

    def layer(carry: Any, at: Any) -> tuple[Any, Any]:
        x, cache = carry
        number, w, lora = at
        if w is None:  # in here, so that a part of the stack is neither copied nor kept
            w = jax.tree.map(
                lambda a: jax.lax.dynamic_index_in_dim(a, number, keepdims=False), layers
            )
        mix = functools.partial(_project, w, lora or {}, students_X)
        h = rms_norm(x, w["input_norm"], config.norm_eps)
        q, k, v = (
            keep(mix(name, h), name).reshape(*h.shape[:-1], heads, config.head_dim)
            for name, heads in zip("qkv", (config.heads, *[config.kv_heads] * 2), strict=True)
        )
        if config.qk_norm:
            q, k = (rms_norm(x, w[f"{n}_norm"], config.norm_eps) for x, n in ((q, "q"), (k, "k")))
        q, k = (rope(heads, positions_X, turn_H) for heads in (q, k))
        out, cache, kept = attend(cache, number, q, k, v)
        out = keep(out.reshape(*x.shape[:-1], -1), "attended")
        x = keep(x + mix("o", out), "x")
        h = rms_norm(x, w["mlp_norm"], config.norm_eps)
        gate, up = (keep(mix(name, h), name) for name in ("gate", "up"))
        x = x + mix("down", _gated(gate, up))
        return (_spread(x, rows), cache), kept

    carry = (_spread(x_XD, rows), cache)
    if isinstance(layers, tuple):
        kept = []
        for number, w in enumerate(layers):
            lora = jax.tree.map(lambda a, i=number: a[i], adapter)
            carry, one = layer(carry, (number, w, lora))
            kept.append(one)
        return *carry, kept
    # Computing again what lies between the products takes less time than keeping it.
    named = jax.checkpoint_policies.save_only_these_names(*_KEPT)
    policy = None if config.remat == "full" else named
    layer = jax.checkpoint(layer, policy=policy, prevent_cse=False)
    # A few layers are compiled as fast apart as together, and run faster.
    few = config.layers <= _UNROLLED
    first, end = some or (0, config.layers)
    over = (jnp.arange(first, end), None if some else layers, adapter)
    (x, cache), stacked = jax.lax.scan(layer, carry, over, unroll=few)
    return x, cache, stacked


def embed(weights: Tree, tokens_X: jax.Array) -> jax.Array:
    """Returns the embeddings of the tokens: [X, D]."""
    return jnp.take(weights["embed"], tokens_X, axis=0, mode="clip")


def head(config: Config, weights: Tree, x_XD: jax.Array) -> jax.Array:
    """Returns the logits [X, V] in float32, from the last layer's output."""
    x = rms_norm(x_XD, weights["norm"], config.norm_eps)
    kernel_VD = _head(config, weights)
    return _summed(_TIMES_TRANSPOSED, x, kernel_VD)


def head_weights(weights: Tree) -> Tree:
    """Returns those of the weights that `head` reads."""
    return {name: weights[name] for name in ("norm", "head" if "head" in weights else "embed")}


def head_at(config: Config, weights: Tree, x_XD: jax.Array, tokens_X: jax.Array) -> jax.Array:
    """Returns one logit for each row, that of its token: [X] float32."""
    x = rms_norm(x_XD, weights["norm"], config.norm_eps)
    kernel_XD = jnp.take(_head(config, weights), tokens_X, axis=0, mode="clip")
    return jnp.einsum("...d,...d->...", x, kernel_XD, preferred_element_type=jnp.float32)


def forward(
    config: Config,
    weights: Tree,
    tokens_BT: jax.Array,
    segments_BT: jax.Array | None = None,
    positions_BT: jax.Array | None = None,
    adapter: Tree | None = None,
    students_BT: jax.Array | None = None,
    rows: Axes = ROWS,
    tile: int = 0,
    prefix: int = 0,
    below_BTD: jax.Array | None = None,
    until: int | None = None,
) -> jax.Array:
    """Returns the last layer's output for every token, [B, T, D]; `head` makes logits of it.

    Args:
      segments_BT: int32; a token sees itself and earlier tokens of its own segment. Number packed
        sequences 1, 2, ... and padding 0, on either side. None: each row is one sequence.
      positions_BT: int32; None: as `positions`.
      adapter: of the uppermost layers alone, where it has fewer than the model.
      rows: mesh axes that B lies over.
      tile, prefix: as in `attention.causal`.
      below_BTD: the input of the first adapted layer; None: it is computed.
      until: the layer whose input is returned, without an adapter; None: all layers run.
    """
    if segments_BT is None:
        segments_BT = jnp.ones(tokens_BT.shape, jnp.int32)
    if positions_BT is None:
        positions_BT = positions(segments_BT, prefix)

    def attend(
        cache: None, _: Any, q: jax.Array, k: jax.Array, v: jax.Array
    ) -> tuple[jax.Array, None, None]:
        return attention.causal(q, k, v, segments_BT, rows, tile, prefix), cache, None

    def run(x: jax.Array, adapter: Tree | None, some: tuple[int, int] | None = None) -> jax.Array:
        given = (None, adapter, students_BT, rows, some)
        return run_layers(config, weights["layers"], x, positions_BT, attend, *given)[0]

    first = config.layers - len(jax.tree.leaves(adapter)[0]) if adapter else 0
    with precision(weights):
        x = embed(weights, tokens_BT) if below_BTD is None else below_BTD
        if until is not None:
            return run(x, None, (0, until))
        if not first:
            return run(x, adapter)
        if below_BTD is None:
            x = run(x, None, (0, first))
        return run(x, adapter, (first, config.layers))


def positions(segments_BT: jax.Array, prefix: int = 0) -> jax.Array:
    """Returns each token's distance from the start of its segment, [B, T]; after the prefix of its
    row, as in `attention.causal`, that many more.
    """
    index_BT = jnp.broadcast_to(jnp.arange(segments_BT.shape[1]), segments_BT.shape)
    starts = segments_BT[:, 1:] != segments_BT[:, :-1]
    start_BT = jnp.where(jnp.pad(starts, ((0, 0), (1, 0))), index_BT, 0)
    # Segments after the prefix start at `prefix` or later.
    return index_BT - jnp.maximum(jax.lax.cummax(start_BT, axis=1) - prefix, 0)


def precision(weights: Tree) -> Any:
    """Returns the context in which float32 weights are multiplied in float32 on every device."""
    exact = weights["embed"].dtype == jnp.float32
    return jax.default_matmul_precision("highest" if exact else "default")


def _head(config: Config, weights: Tree) -> jax.Array:
    return weights["embed"] if config.tied else weights["head"]


def _project(w: Tree, lora: Tree, students: Any, name: str, x: jax.Array) -> jax.Array:
    return linear(x, w[name], w.get(f"{name}_bias"), lora.get(name), students)


def _gated(gate_XF: jax.Array, up_XF: jax.Array) -> jax.Array:
    """Returns silu(gate) * up, computed in float32."""
    f32 = jnp.float32
    return (jax.nn.silu(gate_XF.astype(f32)) * up_XF.astype(f32)).astype(gate_XF.dtype)


def _dropped(x_XI: jax.Array, keys_X: jax.Array, rate: jax.Array) -> jax.Array:
    """Returns x with a part of it zero, the rest scaled up; what is zero depends on the key alone.

    A random word decides two elements: a third of the time of `jax.random.bernoulli` on a CPU.
    """
    size = x_XI.shape[-1]
    draw = jax.vmap(lambda key: jax.random.bits(key, ((size + 1) // 2,), jnp.uint32))
    words = draw(keys_X.ravel())
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
    halves_XI = halves.reshape(*keys_X.shape, -1)[..., :size]
    return jnp.where(halves_XI < (rate * 2**16).astype(jnp.uint16), 0.0, x_XI / (1 - rate))


def _over(vector: jax.Array, like: jax.Array, extra: int = 0) -> jax.Array:
    """Returns the vector with the leading axes that rank promotion would have added."""
    return vector.reshape((1,) * (like.ndim - 1 + extra) + vector.shape)


def _spread(x: jax.Array, rows: Axes) -> jax.Array:
    return constrain(x, rows, *[None] * (x.ndim - 1))
