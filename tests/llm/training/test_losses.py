"""Losses over chunks are those over everything at once, with the same gradients."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from sublim_jax.llm import testing
from sublim_jax.llm.model import transformer
from sublim_jax.llm.training import losses
from tests.llm.lively import lively

CONFIG = dataclasses.replace(testing.TINY, tied=False, vocab=40)
C, CHUNKS = 8, 4
M, D = C * CHUNKS, CONFIG.embed


@pytest.fixture(scope="module")
def head():
    return transformer.head_weights(lively(CONFIG).pure())


def drawn(seed=0):
    """Outputs of a last layer, and what belongs to their positions."""
    draw = np.random.default_rng(seed)
    items = {
        "target": draw.integers(0, CONFIG.vocab, M).astype(np.int32),
        "weight": draw.random(M, np.float32),
    }
    return draw.standard_normal((M, D), np.float32), items


def term(trained, frozen, x_CD, item):
    """A loss that depends on what is trained, what is frozen and what belongs to a position."""
    logits = losses.logits(CONFIG, {**frozen, **trained}, x_CD)
    each = losses.cross_entropy(logits, item["target"]) * item["weight"]
    return jnp.sum(each), {"weight": jnp.sum(item["weight"]), "most": jnp.sum(each * each)}


def in_chunks(trained, x, frozen, items, chunks, of=term):
    return losses.over_chunks(of, C, trained, x, frozen, items, jnp.asarray(chunks, jnp.int32))


def at_once(trained, x, frozen, items, chunks):
    used = C * chunks
    return term(trained, frozen, x[:used], jax.tree.map(lambda a: a[:used], items))


def with_gradients(f, head, names, x, items, chunks):
    """(sums, (gradients of the trained part of the head, and of x)) of three times the loss."""
    trained = {name: head[name] for name in names}
    frozen = {name: value for name, value in head.items() if name not in names}

    def thrice(trained, x):
        total, more = f(trained, x, frozen, items, chunks)
        return 3 * total, (total, more)

    wanted = jax.jit(jax.grad(thrice, argnums=(0, 1), has_aux=True))
    gradients, sums = wanted(trained, x)
    return sums, gradients


@pytest.mark.parametrize("names", [(), ("norm",), ("head", "norm")], ids=lambda n: "+".join(n))
@pytest.mark.parametrize("chunks", [0, 1, 3, CHUNKS])
def test_chunks_give_the_sums_and_gradients_of_the_whole(head, names, chunks):
    x, items = drawn()
    found = with_gradients(in_chunks, head, names, x, items, chunks)
    expected = with_gradients(at_once, head, names, x, items, chunks)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal_dtypes(found, expected)
    d_trained, d_x = found[1]
    assert set(d_trained) == set(names)
    assert np.any(d_x[: C * chunks]) == (chunks > 0)
    assert not np.any(d_x[C * chunks :])
    for gradient in d_trained.values():
        assert np.any(gradient) == (chunks > 0)


def test_students_that_are_mapped_over_are_each_their_own(head):
    xs, items = zip(drawn(1), drawn(2), strict=True)
    items = jax.tree.map(lambda *a: np.stack(a), *items)
    heads = {name: jnp.stack([value, 2 * value]) for name, value in head.items()}

    def loss(trained, x, items, chunks):
        return in_chunks(trained, x, {}, items, chunks)[0]

    both = jax.jit(jax.vmap(jax.value_and_grad(loss, (0, 1)), (0, 0, 0, None)))
    value, (d_head, d_x) = both(heads, np.stack(xs), items, 3)
    for s in range(2):
        own_head, own = (jax.tree.map(lambda a, s=s: a[s], t) for t in (heads, items))
        (total, _), (own_d_head, own_d_x) = with_gradients(
            at_once, own_head, ("norm", "head"), xs[s], own, 3
        )
        np.testing.assert_allclose(value[s], total, rtol=1e-5)
        np.testing.assert_allclose(3 * d_x[s], own_d_x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(3 * d_head["head"][s], own_d_head["head"], rtol=1e-4, atol=1e-4)


def test_chunks_that_are_not_used_are_neither_computed_nor_read(head):
    """Not even NaN in them is seen."""
    x, items = drawn()
    runs = []

    def counted(trained, frozen, x_CD, item):
        jax.debug.callback(lambda: runs.append(1))
        return term(trained, frozen, x_CD, item)

    used = 2 * C
    spoilt = x.copy()
    spoilt[used:] = np.nan
    items["weight"][used:] = np.nan

    def loss(trained, x):
        return in_chunks(trained, x, {}, items, 2, counted)[0]

    total, (d_head, d_x) = jax.value_and_grad(loss, (0, 1))(head, jnp.asarray(spoilt))
    jax.effects_barrier()
    assert len(runs) == 2
    expected, _ = at_once(head, x, {}, items, 2)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    assert all(np.isfinite(g).all() for g in (*d_head.values(), d_x))
    assert not np.any(d_x[used:])


def test_a_chunk_s_logits_are_the_largest_array(head):
    x, items = drawn()

    def loss(trained, x):
        return in_chunks(trained, x, {}, items, CHUNKS)[0]

    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(head, x))
    assert f"f32[{C},{CONFIG.vocab}]" in text
    assert f"f32[{M},{CONFIG.vocab}]" not in text


def test_bfloat16_outputs_have_bfloat16_gradients_and_the_head_float32_ones(head):
    x, items = drawn()
    rough = jnp.asarray(x, jnp.bfloat16)
    trained = {"head": head["head"]}
    (total, _), (d_head, d_x) = with_gradients(in_chunks, head, trained, rough, items, 3)
    (exact, _), (exact_head, exact_x) = with_gradients(at_once, head, trained, x, items, 3)
    assert (total.dtype, d_head["head"].dtype, d_x.dtype) == (np.float32, np.float32, jnp.bfloat16)
    assert float(total) == pytest.approx(float(exact), rel=0.02)
    for found, expected in ((d_head["head"], exact_head["head"]), (d_x, exact_x)):
        error = np.abs(np.asarray(found, np.float32) - expected).max()
        assert error < 0.03 * np.abs(expected).max()


def some_logits(seed, scale=3.0, shape=(6, 11)):
    return scale * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_cross_entropy_is_minus_the_log_probability():
    logits, target = some_logits(0), np.array([0, 10, 3, 3, 7, 1], np.int32)
    expected = -scipy.special.log_softmax(logits.astype(np.float64), axis=-1)
    found = losses.cross_entropy(logits, target)
    np.testing.assert_allclose(found, expected[np.arange(6), target], rtol=1e-5)


def test_divergence_is_that_of_the_first_from_the_second():
    p, q = (scipy.special.softmax(some_logits(i).astype(np.float64), -1) for i in (0, 1))
    found = losses.divergence(some_logits(0), some_logits(1))
    np.testing.assert_allclose(found, scipy.special.rel_entr(p, q).sum(-1), rtol=1e-5)
    turned = scipy.special.rel_entr(q, p).sum(-1)
    assert np.abs(found - turned).min() > 1e-2


def test_equal_distributions_diverge_by_nothing_and_pull_nowhere():
    logits = some_logits(0)
    shifted = logits + np.float32(2.0)  # the same distribution
    for other in (logits, shifted):
        np.testing.assert_allclose(losses.divergence(logits, other), 0, atol=1e-6)
        total = jax.grad(lambda a, b: losses.divergence(a, b).sum(), argnums=(0, 1))
        for gradient in total(logits, other):
            np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert np.abs(total(logits, some_logits(1))[0]).max() > 0.01


def test_the_gradients_of_the_losses_are_the_textbook_s():
    logits, other, target = some_logits(0), some_logits(1), np.arange(6, dtype=np.int32)
    p, q = (scipy.special.softmax(a.astype(np.float64), -1) for a in (logits, other))
    one_hot = np.eye(11)[target]
    found = jax.grad(lambda a: losses.cross_entropy(a, target).sum())(logits)
    np.testing.assert_allclose(found, p - one_hot, atol=1e-6)
    to_other = jax.grad(lambda a: losses.divergence(logits, a).sum())(other)
    np.testing.assert_allclose(to_other, q - p, atol=1e-6)
    apart = np.log(p / q)
    to_own = jax.grad(lambda a: losses.divergence(a, other).sum())(logits)
    np.testing.assert_allclose(to_own, p * (apart - (p * apart).sum(-1, keepdims=True)), atol=1e-5)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e30])
def test_extreme_logits_stay_finite(size):
    logits = np.array([[size, -size, 0.0], [-size, -size, size], [0.0, 0.0, 0.0]], np.float32)
    other = logits[::-1].copy()
    target = np.array([1, 2, 0], np.int32)

    def total(a, b):
        return losses.cross_entropy(a, target).sum() + losses.divergence(a, b).sum()

    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(logits, other)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)
    found = np.asarray(losses.cross_entropy(logits, target))
    np.testing.assert_allclose(found, [2 * size, 0, np.log(3)], rtol=1e-6)


@pytest.mark.parametrize(
    ("vocab", "size"),
    [(2, 1024), (2**17, 1024), (2**17 + 1, 512), (151936, 512), (2**21, 64), (2**27, 64)],
)
def test_a_chunk_is_a_power_of_two_that_holds_about_half_a_gibibyte(vocab, size):
    assert losses.chunk_size(vocab) == size
    if 64 < size < 1024:
        assert size * vocab <= 2**27 < 2 * size * vocab


@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_of_some_tokens_are_those_among_all(tied):
    config = dataclasses.replace(CONFIG, tied=tied)
    weights = lively(config).pure()
    used, (x, _) = transformer.head_weights(weights), drawn()
    every = losses.logits(config, used, x)
    assert every.shape == (M, CONFIG.vocab)
    np.testing.assert_allclose(every, transformer.head(config, weights, x), rtol=1e-6)
    tokens = (7, 0, 39, 8)
    some = losses.logits(config, used, x, tokens)
    np.testing.assert_allclose(some, every[:, np.array(tokens)], rtol=1e-5, atol=1e-5)


def test_logits_are_float32_of_products_in_the_type_of_the_outputs(head):
    x, _ = drawn()
    rough = losses.logits(CONFIG, head, jnp.asarray(x, jnp.bfloat16))
    exact = losses.logits(CONFIG, head, x)
    assert rough.dtype == exact.dtype == np.float32
    error = np.abs(rough - exact).max()
    assert 1e-3 < error < 0.1 * np.abs(exact).max()
