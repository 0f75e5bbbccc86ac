"""Every kernel computes the attention that is written down here in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.llm.model import attention
from sublim_jax.mesh import make_mesh

draw = np.random.default_rng(0)


def _normal(*shape):
    return jnp.asarray(draw.normal(size=shape), jnp.float32)


def _reference(q, k, v, mask):
    """q [B, T, N, H], k and v [B, S, K, H], mask [B, T, S]: one row, head and query at a time."""
    q, k, v, mask = map(np.asarray, (q, k, v, mask))
    out = np.zeros(q.shape)
    for b, t, n in np.ndindex(q.shape[:3]):
        of = n * k.shape[2] // q.shape[2]
        scores = k[b, :, of] @ q[b, t, n] / np.sqrt(q.shape[3])
        weights = np.where(mask[b, t], np.exp(scores - scores.max()), 0)
        out[b, t, n] = weights / weights.sum() @ v[b, :, of]
    return out


def _segments_mask(segments):
    same = segments[:, :, None] == segments[:, None, :]
    return same & np.tril(np.ones(same.shape[1:], bool))


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 1), (6, 2), (2, 2)])
def test_causal_attention_stays_within_a_segment(heads, kv_heads):
    q, k, v = _normal(2, 7, heads, 8), _normal(2, 7, kv_heads, 8), _normal(2, 7, kv_heads, 8)
    segments = np.array([[1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 2, 0]], np.int32)
    found = attention.causal(q, k, v, jnp.asarray(segments))
    np.testing.assert_allclose(found, _reference(q, k, v, _segments_mask(segments)), atol=1e-5)


def test_attention_over_the_cache_is_that_of_one_query():
    q, k, v = _normal(3, 6, 8), _normal(3, 2, 10, 8), _normal(3, 2, 10, 8)
    mask = np.arange(10)[None] <= np.array([0, 4, 9])[:, None]
    found = attention.cached(q, k, v, jnp.asarray(mask))
    wanted = _reference(q[:, None], k.swapaxes(1, 2), v.swapaxes(1, 2), mask[:, None])[:, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_query_that_may_see_nothing_gives_finite_numbers():
    q, k = _normal(1, 2, 4, 8), _normal(1, 3, 2, 8)
    nothing = jnp.zeros((1, 2, 3), bool)
    assert bool(jnp.all(jnp.isfinite(attention.masked(q, k, k, nothing))))
    cache = k.swapaxes(1, 2)
    assert bool(jnp.all(jnp.isfinite(attention.cached(q[:, 0], cache, cache, nothing[:, 0]))))


def test_half_precision_goes_in_and_comes_out():
    q, k = (x.astype(jnp.bfloat16) for x in (_normal(1, 4, 4, 8), _normal(1, 4, 2, 8)))
    segments = jnp.ones((1, 4), jnp.int32)
    assert attention.causal(q, k, k, segments).dtype == jnp.bfloat16
    cache = k.swapaxes(1, 2)
    mask = jnp.ones((1, 4), bool)
    assert attention.cached(q[:, 0], cache, cache, mask).dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [None, (1, 2, 2)])
def test_the_tpu_kernel_is_the_same_attention(mesh):
    """In its interpreter: no TPU was at hand."""
    q, k, v = _normal(2, 256, 4, 128), _normal(2, 256, 2, 128), _normal(2, 256, 2, 128)
    segments = np.repeat([[1, 2], [3, 0]], 128, axis=1).astype(np.int32)
    segments[0, 100:] = 2
    if mesh:
        with jax.set_mesh(make_mesh(*mesh)):
            splash = jax.jit(lambda *a: attention.splash(*a, interpret=True))
            found = splash(q, k, v, jnp.asarray(segments))
    else:
        found = attention.splash(q, k, v, jnp.asarray(segments), interpret=True)
    wanted = attention.causal(q, k, v, jnp.asarray(segments))
    np.testing.assert_allclose(found, wanted, atol=2e-5)
