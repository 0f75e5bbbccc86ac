"""What is sent of the logits, against definitions written out in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close
from scipy.special import softmax

from sublim_jax.atlas import channels

LOGITS = np.random.default_rng(0).normal(0, 1.5, (50, 6)).astype(np.float32)
SHOWN = np.array([False, True, True, False, True, True])
KEYS = jax.random.split(jax.random.key(0), 50)
HOT = np.float32(0.7)


def encoded(code, detail=0.0, temperature=HOT):
    return channels.encode(
        code, jnp.asarray(LOGITS), jnp.asarray(SHOWN), temperature, np.float32(detail), KEYS
    )


def over(where, logits=LOGITS):
    """Softmax over some logits of each row."""
    return softmax(np.where(where, logits / HOT, -np.inf), axis=1)


def test_logits_are_sent_as_they_are():
    q, support, sent = encoded("logits")
    assert_trees_all_close(q, over(np.tile(SHOWN, (50, 1))), atol=1e-6)
    assert np.array_equal(support, np.tile(SHOWN, (50, 1)))
    assert np.array_equal(sent, LOGITS)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_only_the_largest_are_sent(k):
    q, support, _ = encoded("top", k)
    ordered = np.sort(np.where(SHOWN, LOGITS, -np.inf), axis=1)
    kept = SHOWN & (ordered[:, -k][:, None] <= LOGITS)
    assert_trees_all_close(q, over(kept), atol=1e-6)
    assert np.array_equal(support, np.tile(SHOWN, (50, 1)))


def test_one_that_is_drawn_follows_the_distribution():
    keys = jax.random.split(jax.random.key(1), 4000)
    row = np.tile(LOGITS[:1], (4000, 1))
    q, _, _ = channels.encode(
        "sampled", jnp.asarray(row), jnp.asarray(SHOWN), HOT, np.float32(0), keys
    )
    assert np.array_equal(np.sort(q, axis=1), np.tile([0, 0, 0, 0, 0, 1], (4000, 1)))
    assert_trees_all_close(np.mean(q, 0), over(SHOWN[None])[0], atol=0.03)


@pytest.mark.parametrize("b", [1, 2, 8])
def test_logits_are_rounded_to_bits(b):
    _, _, sent = encoded("bits", b)
    levels = -3 + 6 * (np.arange(2**b) + 0.5) / 2**b
    nearest = levels[np.abs(LOGITS[..., None] - levels).argmin(-1)]
    assert_trees_all_close(sent, nearest.astype(np.float32), atol=1e-5)


def test_a_choice_is_the_largest_of_those_that_are_drawn():
    q, support, _ = encoded("choice", 2)
    assert np.array_equal(np.sum(support, 1), np.full(50, 2))
    assert not np.any(np.asarray(support) & ~SHOWN)
    assert len(np.unique(support, axis=0)) == math.comb(4, 2)
    best = np.where(support, LOGITS, -np.inf).argmax(1)
    assert np.array_equal(np.argmax(q, 1), best)
    assert np.array_equal(np.max(q, 1), np.ones(50))


@pytest.mark.parametrize(("code", "detail"), [("logits", 0), ("top", 2), ("sampled", 0),
                                              ("bits", 3), ("choice", 2)])  # fmt: skip
def test_the_loss_is_a_divergence_of_what_is_sent(code, detail):
    q, support, _ = encoded(code, detail)
    student = np.random.default_rng(1).normal(size=LOGITS.shape).astype(np.float32)
    p = softmax(np.where(support, student / HOT, -np.inf), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.nansum(np.asarray(q) * np.log(np.asarray(q) / p), axis=1) * HOT**2
    found = channels.loss("kl", jnp.asarray(student), encoded(code, detail), HOT)
    assert_trees_all_close(found, expected.astype(np.float32), atol=1e-5)


def test_a_squared_error_is_over_what_is_shown():
    found = channels.loss("mse", jnp.zeros(LOGITS.shape), encoded("logits"), HOT)
    assert_trees_all_close(found, np.square(LOGITS[:, SHOWN]).mean(1), atol=1e-5)


def test_the_bits_of_a_row():
    given = {("logits", 0): 320, ("top", 1): math.log2(10), ("top", 2): math.log2(45) + 32,
             ("sampled", 0): math.log2(10), ("bits", 4): 40, ("choice", 2): 1}  # fmt: skip
    assert {(c, d): channels.bits(c, 10, d) for c, d in given} == pytest.approx(given)
