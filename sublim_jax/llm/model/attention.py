"""Attention of query heads over fewer key-value heads (GQA), by the fastest kernel that is legal.

Shapes: B rows, T queries, S keys, N query heads, K key-value heads, G = N / K, H head size.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from sublim_jax.mesh import ROWS, Axes, divided

_MASKED = -1e30  # finite: a row that may see nothing gives some number, not NaN
_SPLASH_BLOCK = 128  # lanes of a TPU register


def causal(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array,
    rows: Axes = ROWS,
) -> jax.Array:
    """Returns attention of each token over itself and those before it in its segment: [B, T, N, H].

    Args:
      segments_BT: int32; the outputs of a segment do not depend on other segments.
      rows: mesh axes that B lies over.

    Splash attention on a TPU, where T and H fit its blocks; `masked` elsewhere.
    """
    T, H = q_BTNH.shape[1], q_BTNH.shape[3]
    if jax.default_backend() == "tpu" and T % _SPLASH_BLOCK == 0 and H % _SPLASH_BLOCK == 0:
        return splash(q_BTNH, k_BTKH, v_BTKH, segments_BT, rows)
    before = jnp.tril(jnp.ones((1, T, T), bool))
    mask_BTT = before & (segments_BT[:, :, None] == segments_BT[:, None, :])
    return masked(q_BTNH, k_BTKH, v_BTKH, mask_BTT)


def masked(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask_BTS: jax.Array
) -> jax.Array:
    """Returns attention over the keys where the mask is true: [B, T, N, H].

    By cuDNN where it is legal, else by `plain`.
    """
    T, H, S = q_BTNH.shape[1], q_BTNH.shape[3], k_BSKH.shape[1]
    # cuDNN's conditions: jax/_src/cudnn/fused_attention_stablehlo.py.
    half = q_BTNH.dtype in (jnp.bfloat16, jnp.float16)
    if half and H % 8 == 0 and H <= 128 and T % 2 == S % 2 == 0 and jax.default_backend() == "gpu":
        with jax.numpy_dtype_promotion("standard"):  # jax's own function mixes types within
            return jax.nn.dot_product_attention(
                q_BTNH, k_BSKH, v_BSKH, mask=mask_BTS[:, None], implementation="cudnn"
            )
    return plain(q_BTNH, k_BSKH, v_BSKH, mask_BTS)


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
    rows: Axes = ROWS,
    interpret: bool = False,
) -> jax.Array:
    """Returns `causal` by the TPU's splash kernel; `interpret` runs it elsewhere, for tests."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernel,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    def by_row(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
        T, N, H = q.shape[1:]
        mask = masks.MultiHeadMask([masks.CausalMask((T, T))] * N)
        attend = kernel.make_splash_mha(mask, head_shards=1, q_seq_shards=1, interpret=interpret)
        heads_first = [a.swapaxes(1, 2) for a in (q * H**-0.5, k, v)]
        out = jax.vmap(attend)(*heads_first, kernel.SegmentIds(segments, segments))
        return out.swapaxes(1, 2)

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return by_row(q_BTNH, k_BTKH, v_BTKH, segments_BT)
    batch = divided(q_BTNH.shape[0], rows)
    # Query heads are cut only where key-value heads are, so that each group stays together.
    heads = divided(k_BTKH.shape[2], "model")
    cut = P(batch, None, heads, None)
    return jax.shard_map(
        by_row,
        in_specs=(cut, cut, cut, P(batch, None)),
        out_specs=cut,
        check_vma=False,
    )(q_BTNH, k_BTKH, v_BTKH, segments_BT)
