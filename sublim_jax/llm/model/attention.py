"""Attention of query heads over fewer key-value heads (GQA), by the fastest kernel that is legal.

Shapes: B rows, T queries, S keys, N query heads, K key-value heads, G = N / K, H head size, W
tokens of a tile.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.sharding import PartitionSpec as P

from sublim_jax.mesh import ROWS, Axes, divided

_MASKED = -1e30  # finite: a row that may see nothing gives some number, not NaN
BEFORE = 4  # tiles before its own that a token may see
_SPLASH_BLOCK = 128  # lanes of a TPU register
# (q [B, T, N, H], k and v [B, S, K, H], what may be seen) -> [B, T, N, H], on one device.
Kernel = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def causal(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    rows: Axes = ROWS,
    tile: int = 0,
    prefix: int = 0,
) -> jax.Array:
    """Returns attention of each token over itself and those before it in its segment: [B, T, N, H].

    Args:
      segments_BT: int32; the outputs of a segment do not depend on other segments.
      rows: mesh axes that B lies over.
      tile: W, of which T is a multiple: no segment has more than `BEFORE` W tokens. 0: any length.
      prefix: tokens at the start of each row, a segment of their own, which all after them see
        too. 0 where splash attention is taken, which knows segments alone.

    Splash attention on a TPU, where T and H fit its blocks; cuDNN's on a GPU, where it is legal;
    `plain` elsewhere, of each tile over itself and those before it that it may see.
    """
    T, H = q_BTNH.shape[1], q_BTNH.shape[3]
    if jax.default_backend() == "tpu" and T % _SPLASH_BLOCK == 0 and H % _SPLASH_BLOCK == 0:
        return fused(splash, rows, q_BTNH, k_BTKH, v_BTKH, segments_BT)
    if _cudnn_takes(q_BTNH, k_BTKH):
        kernel = functools.partial(_cudnn_causal, prefix=prefix)
        return fused(kernel, rows, q_BTNH, k_BTKH, v_BTKH, segments_BT)
    if tile and (1 + BEFORE) * tile < T:
        return _tiled(q_BTNH, k_BTKH, v_BTKH, segments_BT, tile, prefix)
    before = jnp.tril(jnp.ones((1, T, T), bool))
    return plain(q_BTNH, k_BTKH, v_BTKH, before & _open(segments_BT, prefix))


def masked(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask_BTS: jax.Array
) -> jax.Array:
    """Returns attention over the keys where the mask is true: [B, T, N, H].

    By cuDNN where it is legal, else by `plain`.
    """
    if _cudnn_takes(q_BTNH, k_BSKH):
        return _spread(_cudnn, ROWS, q_BTNH, k_BSKH, v_BSKH, mask_BTS)
    return plain(q_BTNH, k_BSKH, v_BSKH, mask_BTS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fused(
    kernel: Kernel,
    rows: Axes,
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
) -> jax.Array:
    """Returns the kernel's attention, also under `jax.vmap` over students and on a mesh.

    The kernel never sees the axis of the students, whose batching rules are its weak point: it is
    folded into B. The gradient runs the kernel forward once more, which is what `remat` does
    anyway, and otherwise a quarter of a part that is a few hundredths of a layer's work.
    """
    return _folded(functools.partial(_spread, kernel), rows)(q_BTNH, k_BTKH, v_BTKH, segments_BT)


def _fused_forward(kernel: Kernel, rows: Axes, *given: jax.Array) -> tuple[jax.Array, Any]:
    return fused(kernel, rows, *given), given


def _fused_backward(kernel: Kernel, rows: Axes, given: Any, d_out: jax.Array) -> tuple[Any, ...]:
    def gradients(
        rows: Axes, q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, d_out: jax.Array
    ) -> tuple[jax.Array, ...]:
        _, pull = jax.vjp(lambda q, k, v: _spread(kernel, rows, q, k, v, segments), q, k, v)
        return pull(d_out)

    return *_folded(gradients, rows)(*given, d_out), None


fused.defvjp(_fused_forward, _fused_backward)


def _folded(f: Callable[..., Any], rows: Axes) -> Callable[..., Any]:
    """Returns f(rows, ...) of arrays [B, ...], where `jax.vmap` calls it once of [S * B, ...]."""
    of_one = custom_vmap(lambda *given: f(rows, *given))

    @of_one.def_vmap
    def of_students(size: int, mapped: list[bool], *given: jax.Array) -> tuple[Any, Any]:
        every = (
            a if own else jnp.broadcast_to(a, (size, *a.shape))
            for a, own in zip(given, mapped, strict=True)
        )
        out = f(ROWS, *(a.reshape(-1, *a.shape[2:]) for a in every))
        out = jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return of_one


def _spread(
    kernel: Kernel,
    rows: Axes,
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    seen: jax.Array,
) -> jax.Array:
    """Returns the kernel's attention, each device computing its rows and heads alone.

    Query heads are cut with the key-value heads that they read: where there are too few of these
    for the `model` axis, they are repeated.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return kernel(q_BTNH, k_BSKH, v_BSKH, seen)
    if divided(q_BTNH.shape[2], "model"):
        times = mesh.shape["model"] // math.gcd(k_BSKH.shape[2], mesh.shape["model"])
        k_BSKH, v_BSKH = (jnp.repeat(a, times, axis=2) for a in (k_BSKH, v_BSKH))
    batch = divided(q_BTNH.shape[0], rows)
    cut = P(batch, None, divided(k_BSKH.shape[2], "model"), None)
    each = jax.shard_map(kernel, in_specs=(cut, cut, cut, P(batch)), out_specs=cut, check_vma=False)
    return each(q_BTNH, k_BSKH, v_BSKH, seen)


def _open(segments_BT: jax.Array, prefix: int) -> jax.Array:
    """Returns whether two tokens are of one segment, or the second of the prefix: [B, T, T]."""
    same = segments_BT[:, :, None] == segments_BT[:, None, :]
    return same | (jnp.arange(segments_BT.shape[1]) < prefix)[None, None, :]


def _cudnn_takes(q_BTNH: jax.Array, k_BSKH: jax.Array) -> bool:
    # cuDNN's conditions: jax/_src/cudnn/fused_attention_stablehlo.py.
    (_, T, _, H), S = q_BTNH.shape, k_BSKH.shape[1]
    half = q_BTNH.dtype in (jnp.bfloat16, jnp.float16)
    return (
        jax.default_backend() == "gpu" and half and H % 8 == 0 and H <= 128 and T % 2 == S % 2 == 0
    )


def _cudnn(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    is_causal: bool = False,
) -> jax.Array:
    with jax.numpy_dtype_promotion("standard"):  # jax's own function mixes types within
        return jax.nn.dot_product_attention(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            mask=mask_BTS[:, None],
            is_causal=is_causal,
            implementation="cudnn",
        )


def _cudnn_causal(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    prefix: int,
) -> jax.Array:
    # cuDNN knows packed sequences ("q_offsets"), but jax.nn does not hand them on, and jax's own
    # function for them wants a Hopper GPU and has no batching rule. So segments are a mask, one for
    # all heads, and the causal half is skipped.
    return _cudnn(q_BTNH, k_BTKH, v_BTKH, _open(segments_BT, prefix), is_causal=True)


# Scores are computed again for the gradient, which takes less time than to keep and read them.
@functools.partial(jax.checkpoint, prevent_cse=False)
def plain(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask_BTS: jax.Array
) -> jax.Array:
    """Returns attention over the keys where the mask is true: [B, T, N, H].

    The query heads that share keys are one product, which a CPU runs faster than the many small
    ones of `jax.nn.dot_product_attention`; and the sum of the weights divides the output, so that
    no pass of the gradient runs over the scores to sum them.
    """
    B, T, N, H = q_BTNH.shape
    S, K = k_BSKH.shape[1:3]
    f32 = jnp.float32
    q_BKMH = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4).reshape(B, K, -1, H)
    k_BKSH, v_BKSH = (a.swapaxes(1, 2) for a in (k_BSKH, v_BSKH))
    scores = jnp.einsum("bkmh,bksh->bkms", q_BKMH, k_BKSH, preferred_element_type=f32)
    bias_B11TS = jnp.where(mask_BTS, 0.0, _MASKED)[:, None, None]
    scores = scores.reshape(B, K, N // K, T, S) / math.sqrt(H) + bias_B11TS
    largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - largest).reshape(B, K, -1, S)
    total_BKM1 = weights.sum(axis=-1, keepdims=True)
    weights = weights.astype(v_BKSH.dtype)
    out = jnp.einsum("bkms,bksh->bkmh", weights, v_BKSH, preferred_element_type=f32) / total_BKM1
    out = out.astype(v_BKSH.dtype).reshape(B, K, N // K, T, H)
    return out.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


@functools.partial(jax.checkpoint, static_argnums=(4, 5), prevent_cse=False)
def _tiled(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    tile: int,
    prefix: int,
) -> jax.Array:
    """Returns `plain` of each tile's queries over the prefix and its own and `BEFORE` tiles."""
    B, T, N, H = q_BTNH.shape
    tiles, before = T // tile, BEFORE * tile

    def near(a_BT: jax.Array, fill: int = 0) -> jax.Array:
        widths = [(0, 0), (before, 0), *[(0, 0)] * (a_BT.ndim - 2)]
        padded = jnp.pad(a_BT, widths, constant_values=fill)
        cut = padded.reshape(B, -1, tile, *a_BT.shape[2:])
        first = jnp.broadcast_to(a_BT[:, None, :prefix], (B, tiles, prefix, *a_BT.shape[2:]))
        pieces = [first, *(cut[:, i : i + tiles] for i in range(BEFORE + 1))]
        return jnp.concatenate(pieces, axis=2).reshape(B * tiles, -1, *a_BT.shape[2:])

    query = segments_BT.reshape(B * tiles, tile)
    same = query[:, :, None] == near(segments_BT, -1)[:, None, :]
    earlier = jnp.tril(jnp.ones((1, tile, before + tile), bool), before)
    mask = same[:, :, prefix:] & earlier
    # The prefix's own tokens see each other as a segment, and not once more.
    after = jnp.tile(jnp.arange(T).reshape(tiles, tile, 1) >= prefix, (B, 1, prefix))
    mask = jnp.concatenate([after, mask], axis=2)
    out = plain(q_BTNH.reshape(-1, tile, N, H), near(k_BTKH), near(v_BTKH), mask)
    return out.reshape(B, T, N, H)


def cached(q_BNH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, mask_BS: jax.Array) -> jax.Array:
    """Returns attention of one query a row over its cache: [B, N, H].

    Written out because the cache's layout lets both products run as they lie: on a CPU this takes
    half the time of `jax.nn.dot_product_attention` (benchmarks/decode_attention.py).
    """
    B, N, H = q_BNH.shape
    K = k_BKSH.shape[1]
    q_BKGH = q_BNH.reshape(B, K, N // K, H)
    f32 = jnp.float32
    scores = jnp.einsum("bkgh,bksh->bkgs", q_BKGH, k_BKSH, preferred_element_type=f32)
    scores = jnp.where(mask_BS[:, None, None], scores / math.sqrt(H), _MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BKSH.dtype)
    return jnp.einsum("bkgs,bksh->bkgh", weights, v_BKSH).reshape(B, N, H)


def splash(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    interpret: bool = False,
) -> jax.Array:
    """Returns `causal` by the TPU's splash kernel; `interpret` runs it elsewhere, for tests."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    T, N, H = q_BTNH.shape[1:]
    mask = masks.MultiHeadMask([masks.CausalMask((T, T))] * N)
    attend = kernel.make_splash_mha(mask, head_shards=1, q_seq_shards=1, interpret=interpret)
    heads_first = [a.swapaxes(1, 2) for a in (q_BTNH * H**-0.5, k_BTKH, v_BTKH)]
    out = jax.vmap(attend)(*heads_first, kernel.SegmentIds(segments_BT, segments_BT))
    return out.swapaxes(1, 2)
