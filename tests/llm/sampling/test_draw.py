"""A token is drawn from the right distribution, by its own key, whatever the settings."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sublim_jax.llm.sampling import draw

rng = np.random.default_rng(0)
truncate = jax.jit(draw.truncate)


def _keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def _next(logits, keys, temperature=1.0, top_p=1.0, top_k=0):
    settings = jnp.float32(temperature), jnp.float32(top_p), jnp.int32(top_k)
    return np.asarray(draw.next_token(logits, keys, *settings))


@pytest.mark.parametrize("vocab", [5, 128, 300, 1000])
def test_tokens_are_drawn_from_the_softmax(vocab):
    logits = rng.normal(size=vocab) * 2
    wanted = np.exp(logits) / np.exp(logits).sum()
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (20_000, vocab))
    tokens = np.asarray(draw.categorical(rows, _keys(20_000)))
    order = np.argsort(-wanted)
    bins = np.array_split(order, min(vocab, 20))  # so that each is expected often enough
    counts = [np.isin(tokens, b).sum() for b in bins]
    assert stats.chisquare(counts, [20_000 * wanted[b].sum() for b in bins]).pvalue > 1e-3


def test_a_token_of_no_probability_is_never_drawn():
    logits = jnp.where(jnp.arange(300) % 3 == 1, 0.0, -jnp.inf)
    tokens = draw.categorical(jnp.broadcast_to(logits, (5000, 300)), _keys(5000))
    assert bool(jnp.all(tokens % 3 == 1))
    for share in (0.0, 1 - 2**-24, 1.0):  # the ends of a draw
        masses = jnp.array([[0.0, 1.0, 0.0, 2.0, 0.0]])
        assert int(draw._draw(masses, jnp.array([share]))[0]) == (1 if share == 0 else 3)


@pytest.mark.parametrize(("top_p", "top_k"), [(0.5, 0), (0.9, 0), (1.0, 3), (0.7, 10), (0.01, 0)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_truncation_is_that_of_a_sort(top_p, top_k, scale):
    logits = (rng.normal(size=(6, 200)) * scale - 5).astype(np.float32)
    found = np.asarray(truncate(jnp.asarray(logits), jnp.float32(top_p), jnp.int32(top_k)))
    for row, kept in zip(logits.astype(np.float64), np.isfinite(found), strict=True):
        order = np.argsort(-row)[: top_k or None]
        mass = np.exp(row[order] - row.max())
        needed = 1 + np.searchsorted(np.cumsum(mass), top_p * mass.sum())
        wanted = order[:needed] if top_p < 1 else order
        assert set(np.flatnonzero(kept)) == set(wanted)
    np.testing.assert_array_equal(found[np.isfinite(found)], logits[np.isfinite(found)])


def _kept(row, top_p, top_k):
    """Returns what a sort keeps of a row of float64, and whether rounding could change it."""
    kept = row >= np.sort(row)[-top_k] if top_k else np.ones(row.shape, bool)
    if top_p == 1:
        return kept, False
    mass = np.where(kept, np.exp(row - row.max()), 0)
    levels = np.unique(row[kept])[::-1]
    above = np.array([mass[row >= level].sum() for level in levels]) / mass.sum()
    close = (np.abs(above - top_p) < 1e-5).any()
    return kept & (row >= levels[np.argmax(above >= top_p)]), close


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    offset=st.sampled_from([-1e4, -7.0, 0.0, 1e4]),
    step=st.sampled_from([0.25, 1.0, 16.0]),
    top_p=st.sampled_from([0.05, 0.3, 0.77, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 4, 20, 500]),
)
def test_truncation_of_ties_and_large_logits_is_that_of_a_sort(seed, offset, step, top_p, top_k):
    steps = np.random.default_rng(seed).integers(-6, 7, (3, 150))  # some 12 tokens a level
    logits = (offset + step * steps).astype(np.float32)
    found = truncate(jnp.asarray(logits), jnp.float32(top_p), jnp.int32(top_k))
    for row, kept in zip(logits.astype(np.float64), np.isfinite(found), strict=True):
        wanted, close = _kept(row, top_p, min(top_k, 150))
        if not close:
            np.testing.assert_array_equal(kept, wanted)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("top_p", "top_k"), [(0.6, 12), (0.9, 0), (1.0, 5)])
def test_truncation_is_that_of_transformers(top_p, top_k):
    import torch
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = (rng.normal(size=(8, 300)) * 2).astype(np.float32)
    theirs = torch.from_numpy(logits)
    if top_k:
        theirs = TopKLogitsWarper(top_k)(None, theirs)
    if top_p < 1:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    ours = truncate(jnp.asarray(logits), jnp.float32(top_p), jnp.int32(top_k))
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_equally_likely_tokens_are_kept_together():
    x = jnp.zeros((1, 10)).at[0, 3].set(1.0)
    kept = jnp.isfinite(draw.truncate(x, jnp.float32(1.0), jnp.int32(2)))
    assert bool(jnp.all(kept))


def test_temperature_zero_takes_the_most_likely_and_others_scale():
    logits = jnp.asarray(rng.normal(size=(4, 50)), jnp.float32)
    np.testing.assert_array_equal(_next(logits, _keys(4), 0.0), np.argmax(logits, axis=1))
    rows = jnp.broadcast_to(jnp.array([0.0, 1.0]), (4000, 2))
    for temperature in (0.5, 2.0):
        share = _next(rows, _keys(4000), temperature).mean()
        assert share == pytest.approx(1 / (1 + np.exp(-1 / temperature)), abs=0.03)


def test_settings_reach_the_draw():
    logits = jnp.asarray(rng.normal(size=(500, 50)), jnp.float32)
    best = np.argsort(-np.asarray(logits), axis=1)
    tokens = _next(logits, _keys(500), 5.0, 1.0, 3)
    assert all(token in row[:3] for token, row in zip(tokens, best, strict=True))
    assert set((tokens[:, None] == best[:, :3]).argmax(1)) == {0, 1, 2}
    np.testing.assert_array_equal(_next(logits, _keys(500), 1.0, 1e-6), best[:, 0])


def test_the_draw_is_from_the_truncated_softmax_at_the_temperature():
    logits, temperature, top_p, top_k = rng.normal(size=40), 1.7, 0.8, 15
    kept, _ = _kept(logits / temperature, top_p, top_k)
    at_one, _ = _kept(logits, top_p, top_k)
    assert 3 < at_one.sum() < kept.sum() < 15  # both settings cut, and the temperature matters
    wanted = np.where(kept, np.exp(logits / temperature), 0)
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (20_000, 40))
    tokens = _next(rows, _keys(20_000), temperature, top_p, top_k)
    counts = np.bincount(tokens, minlength=40)
    assert set(np.flatnonzero(counts)) == set(np.flatnonzero(kept))
    expected = 20_000 * wanted[kept] / wanted.sum()
    assert stats.chisquare(counts[kept], expected).pvalue > 1e-3


def test_a_rows_token_does_not_depend_on_the_others():
    logits, keys = jnp.asarray(rng.normal(size=(8, 300)), jnp.float32), _keys(8)
    together = _next(logits, keys, 1.0, 0.9, 50)
    for row in (0, 5):
        alone = _next(logits[row : row + 1], keys[row : row + 1], 1.0, 0.9, 50)
        assert alone[0] == together[row]
    assert (_next(logits, _keys(8, 1), 1.0) != together).any()


def test_no_setting_compiles_anything_anew():
    traced = jax.jit(chex.assert_max_traces(draw.next_token, n=1))
    logits = jnp.zeros((2, 10))
    for temperature, top_p, top_k in ((1, 1, 0), (0, 0.5, 3), (0.7, 0.9, 0)):
        traced(logits, _keys(2), jnp.float32(temperature), jnp.float32(top_p), jnp.int32(top_k))


def test_log_probability_is_the_log_softmax():
    logits = jnp.asarray(rng.normal(size=(4, 300)) * 5, jnp.float32)
    tokens = jnp.array([0, 299, 128, 7])
    wanted = jax.nn.log_softmax(logits)[jnp.arange(4), tokens]
    np.testing.assert_allclose(draw.log_probability(logits, tokens), wanted, atol=1e-5)


def test_the_smallest_top_p_keeps_the_most_likely_token():
    logits = jnp.asarray(rng.normal(size=(3, 50)), jnp.float32)
    np.testing.assert_array_equal(_next(logits, _keys(3), 1.0, 1e-38), np.argmax(logits, axis=1))
