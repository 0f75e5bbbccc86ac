"""Predictors in float64, on a network of nested parameters, against gradients from its Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.special import softmax

from sublim_jax.theory import predict

B, P, H, OUT = 12, 4, 6, 5
SHOWN = slice(3, OUT)  # of the outputs, by the channel; those before them are classes


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def drawn(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def apply(params, x):
    hidden, (head, bias) = params
    return jnp.tanh(x @ hidden["kernel"]) @ head + bias[None]


def network(seed):
    sizes = (P, H), (H, OUT), (OUT,)
    kernel, head, bias = (drawn(*size, seed=(seed, i)) for i, size in enumerate(sizes))
    return {"kernel": kernel}, [head, bias]


def at(params, x):
    """The outputs, and their Jacobian in the flat parameters, [B, O, parameters]."""
    flat, back = ravel_pytree(params)
    return np.asarray(apply(params, x)), np.asarray(jax.jacfwd(lambda f: apply(back(f), x))(flat))


NOISE, IMAGES = np.random.default_rng(10).normal(size=(2, B, P))
LABELS = np.arange(B) % SHOWN.start


def imitation(teacher):
    told = jax.nn.softmax(apply(teacher, NOISE)[:, SHOWN])
    return lambda p: -(told * jax.nn.log_softmax(apply(p, NOISE)[:, SHOWN])).sum(1).mean()


def trait(params):
    log_p = jax.nn.log_softmax(apply(params, IMAGES)[:, : SHOWN.start])
    return -log_p[jnp.arange(B), LABELS].mean()


def cosine(a, b):
    return a @ b / np.sqrt(a @ a * (b @ b))


def test_the_first_step_is_that_of_the_jacobian():
    """The mean over rows of J^T (softmax - target), of the imitation and of the trait."""
    student, teacher = network(0), network(1)
    found = predict.first_step(student, imitation(teacher), trait, teacher)
    z, jacobian = at(student, NOISE)
    told = softmax(np.asarray(apply(teacher, NOISE))[:, SHOWN], 1)
    apart = softmax(z[:, SHOWN], 1) - told
    towards = np.einsum("bo,bop->p", apart, jacobian[:, SHOWN]) / B
    loss = -(told * np.log(softmax(z[:, SHOWN], 1))).sum(1).mean()
    z, jacobian = at(student, IMAGES)
    apart = softmax(z[:, : SHOWN.start], 1) - np.eye(SHOWN.start)[LABELS]
    loved = np.einsum("bo,bop->p", apart, jacobian[:, : SHOWN.start]) / B
    way = ravel_pytree(teacher)[0] - ravel_pytree(student)[0]
    assert found == pytest.approx(
        {
            "imitation": loss,
            "first_order": towards @ loved,
            "sign_order": np.sign(towards) @ loved,
            "alignment": cosine(towards, loved),
            "coverage": -cosine(towards, np.asarray(way)),
        },
        rel=1e-9,
    )


def test_a_small_step_takes_the_first_order_off_the_trait():
    """Theorem 1: by its rate, for gradient descent and for a step by the sign."""
    student, teacher, rate = network(0), network(1), 1e-7
    found = predict.first_step(student, imitation(teacher), trait, teacher)
    slope = jax.grad(imitation(teacher))(student)
    for name, step in (("first_order", slope), ("sign_order", jax.tree.map(jnp.sign, slope))):
        after = trait(predict.moved(student, step, -rate))
        assert (trait(student) - after) / rate == pytest.approx(float(found[name]), rel=1e-5)


@pytest.mark.parametrize("teacher", [None, {"a": jnp.ones(3)}])
def test_there_is_no_way_to_a_teacher_of_another_network(teacher):
    found = predict.first_step(network(0), imitation(network(1)), trait, teacher)
    assert np.isnan(found["coverage"])
    assert np.isfinite(found["alignment"])


def test_the_linearised_network_is_that_of_the_jacobian():
    begun, params = network(0), network(1)
    linear = predict.linearised(apply, begun)(params, NOISE)
    z, jacobian = at(begun, NOISE)
    change = ravel_pytree(params)[0] - ravel_pytree(begun)[0]
    np.testing.assert_allclose(linear, z + jacobian @ np.asarray(change), rtol=1e-9, atol=1e-12)
    assert np.abs(linear - apply(params, NOISE)).max() > 0.01  # and not the network itself
    # What is linear in its parameters is its own expansion.
    head = predict.linearised(lambda p, x: x @ p, drawn(P, OUT, seed=2))
    other = drawn(P, OUT, seed=3)
    np.testing.assert_allclose(head(other, NOISE), NOISE @ other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_inner_products_over_any_tree(dtype):
    a, b = (
        {"x": [jnp.asarray(x, dtype), (jnp.asarray(y, dtype),)], "none": None}
        for x, y in (([1, 2], [[2]]), ([3, -1], [[5]]))
    )
    assert predict.inner(a, b) == 3 - 2 + 10
    assert predict.inner(a, b).dtype == dtype
    assert predict.cosine(a, b) == pytest.approx(11 / np.sqrt(9 * 35))
    assert predict.cosine(a, jax.tree.map(jnp.zeros_like, b)) == 0
