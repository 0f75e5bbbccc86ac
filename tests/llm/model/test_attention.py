"""Every kernel computes the attention that is written down here in numpy."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.llm import testing
from sublim_jax.llm.model import attention, parameters
from sublim_jax.mesh import ROWS, in_mesh, make_mesh

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


def _segments_mask(segments, prefix=0):
    seen = segments[:, :, None] == segments[:, None, :]
    seen[:, :, :prefix] = True
    return seen & np.tril(np.ones(seen.shape[1:], bool))


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 1), (6, 2), (2, 2)])
def test_causal_attention_stays_within_a_segment(heads, kv_heads):
    q, k, v = _normal(2, 7, heads, 8), _normal(2, 7, kv_heads, 8), _normal(2, 7, kv_heads, 8)
    segments = np.array([[1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 2, 0]], np.int32)
    found = attention.causal(q, k, v, jnp.asarray(segments))
    np.testing.assert_allclose(found, _reference(q, k, v, _segments_mask(segments)), atol=1e-5)


def test_a_prefix_is_seen_by_all_after_it():
    q, k, v = _normal(2, 7, 4, 8), _normal(2, 7, 2, 8), _normal(2, 7, 2, 8)
    segments = np.array([[0, 0, 3, 3, 2, 2, 2], [0, 0, 1, 1, 1, 1, 0]], np.int32)
    found = attention.causal(q, k, v, jnp.asarray(segments), prefix=2)
    np.testing.assert_allclose(found, _reference(q, k, v, _segments_mask(segments, 2)), atol=1e-5)


@pytest.mark.parametrize(("tile", "prefix"), [(2, 0), (4, 0), (4, 3), (2, 5)])
def test_tiles_change_nothing_where_no_segment_is_longer_than_four(tile, prefix):
    lengths = [prefix, 4 * tile, 3, 4 * tile - 1, 1, 4 * tile]
    segments = np.repeat(np.arange(len(lengths)), lengths)
    T = -(-len(segments) // tile) * tile
    segments = np.stack([np.pad(segments, (0, T - len(segments))), np.zeros(T, int)]).astype(
        "int32"
    )
    q, k, v = _normal(2, T, 4, 8), _normal(2, T, 2, 8), _normal(2, T, 2, 8)

    def loss(q, k, v, tile):
        out = attention.causal(q, k, v, jnp.asarray(segments), tile=tile, prefix=prefix)
        return jnp.sum(out[0] ** 2), out

    given = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
    (gradients, out), (wanted, whole) = (given(q, k, v, width) for width in (tile, 0))
    np.testing.assert_allclose(out[0], whole[0], atol=1e-5)
    chex.assert_trees_all_close(gradients, wanted, atol=1e-4)
    jaxpr = str(jax.make_jaxpr(lambda q: loss(q, k, v, tile))(q))
    assert f"{T},{T}]" not in jaxpr  # nothing of all pairs of tokens


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


@pytest.fixture
def kernel():
    """Returns a kernel that any device runs, which notes the heads that it was given."""

    def attend(q, k, v, segments):
        attend.heads.append((q.shape[2], k.shape[2]))
        before = jnp.tril(jnp.ones((1, q.shape[1], q.shape[1]), bool))
        same = segments[:, :, None] == segments[:, None, :]
        return attention.plain(q, k, v, before & same)

    attend.heads = []
    return attend


@pytest.mark.parametrize("cut", [None, (2, 2, 2), (4, 1, 2)])
def test_students_of_a_kernel_are_each_their_own(kernel, cut):
    """Values and gradients; an array that all students share is one of the arguments."""
    q, k, v = _normal(4, 2, 6, 4, 8), _normal(4, 2, 6, 2, 8), _normal(2, 6, 2, 8)
    segments = jnp.asarray(draw.integers(1, 3, (4, 2, 6)).cumsum(axis=-1) // 3, jnp.int32)

    def loss(attend, q, k, v, segments):
        return jnp.sum(jnp.sin(attend(q, k, v, segments)))

    def grads(attend, name=None):
        one = jax.value_and_grad(lambda *a: loss(attend, *a), argnums=(0, 1, 2))
        return jax.jit(jax.vmap(one, (0, 0, None, 0), spmd_axis_name=name))(q, k, v, segments)

    wanted = grads(attention.causal)
    with in_mesh(cut and make_mesh(*cut)):
        fused = functools.partial(attention.fused, kernel, "data")
        found = grads(fused, cut and "student")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, wanted)
    assert set(kernel.heads) == ({(2, 1)} if cut else {(4, 2)})


@pytest.mark.parametrize(
    ("heads", "kv_heads", "model"), [(8, 2, 4), (12, 4, 6), (7, 1, 7), (7, 1, 2), (6, 6, 3)]
)
def test_a_cut_between_heads_changes_nothing(kernel, heads, kv_heads, model):
    q, k, v = _normal(1, 4, heads, 8), _normal(1, 4, kv_heads, 8), _normal(1, 4, kv_heads, 8)
    segments = jnp.asarray([[1, 1, 2, 2]], jnp.int32)
    with in_mesh(make_mesh(1, 1, model)):
        found = jax.jit(functools.partial(attention.fused, kernel, "data"))(q, k, v, segments)
    wanted = _reference(q, k, v, _segments_mask(np.asarray(segments)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 2), (12, 4), (40, 8), (14, 2), (7, 1), (6, 6)])
def test_query_heads_are_cut_as_their_weights_are_and_with_their_keys(kernel, heads, kv_heads):
    config = dataclasses.replace(testing.TINY, heads=heads, kv_heads=kv_heads)
    q, k = (jax.ShapeDtypeStruct((1, 4, n, 8), jnp.float32) for n in (heads, kv_heads))
    for cut in ((1, 1, n) for n in range(2, 9)):
        kernel.heads.clear()
        mesh = make_mesh(*cut)
        with in_mesh(mesh):
            fused = functools.partial(attention.fused, kernel, "data")
            jax.eval_shape(fused, q, k, k, jax.ShapeDtypeStruct((1, 4), jnp.int32))
        ((of_q, of_k),) = kernel.heads
        kernels = parameters.shardings(config, mesh)["layers"]
        assert of_q * (mesh.size if "model" in kernels["q"].spec else 1) == heads
        assert of_q % of_k == 0
        assert of_k <= kv_heads


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [None, (1, 2, 2)])
def test_the_tpu_kernel_is_the_same_attention(mesh):
    """In its interpreter: no TPU was at hand."""
    q, k, v = _normal(2, 256, 4, 128), _normal(2, 256, 2, 128), _normal(2, 256, 2, 128)
    segments = np.repeat([[1, 2], [3, 0]], 128, axis=1).astype(np.int32)
    segments[0, 100:] = 2
    splash = functools.partial(attention.splash, interpret=True)
    with in_mesh(mesh and make_mesh(*mesh)):
        fused = jax.jit(functools.partial(attention.fused, splash, ROWS))
        found = fused(q, k, v, jnp.asarray(segments))
    wanted = attention.causal(q, k, v, jnp.asarray(segments))
    np.testing.assert_allclose(found, wanted, atol=2e-5)
