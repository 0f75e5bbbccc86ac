"""Theorem 1 against networks simple enough to work out by hand, and its verifier against errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from sublim_jax.theory import theorem
from sublim_jax.theory.theorem import Setting

EPSILON = np.geomspace(1e-5, 1e-3, 5)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def squared_error(z, y):
    return jnp.sum(jnp.square(z - y))


def cross_entropy(z, y):
    return -jnp.sum(jax.nn.softmax(y) * jax.nn.log_softmax(z))


def network(theta, x):
    return jnp.tanh(x @ theta["a"]) @ theta["b"]


def parameters(seed, outputs=3):
    a, b = jax.random.split(jax.random.key(seed))
    return {
        "a": jax.random.normal(a, (4, 16), jnp.float64),
        "b": jax.random.normal(b, (16, outputs), jnp.float64),
    }


def setting(student_loss, outputs=3, alpha=0.1):
    x, target, noise = (
        jax.random.normal(jax.random.key(seed), shape, jnp.float64)
        for seed, shape in ((10, (8, 4)), (11, (8, outputs)), (12, (6, 4)))
    )

    def teacher_loss(theta):
        return jnp.mean(jnp.square(network(theta, x) - target))

    return Setting(network, teacher_loss, student_loss, noise, alpha)


def measured(here, shared, seeds=range(6), epsilon=EPSILON):
    pairs = [(parameters(s), parameters(s if shared else s + 100)) for s in seeds]
    steps = [theorem.measure(here, *pair, jnp.asarray(epsilon)) for pair in pairs]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)


class TheoremTest(parameterized.TestCase):
    def test_a_linear_network_by_hand(self):
        # f(x) = <theta, x>, L_T = <c, theta>: dT = -c, dS = -2 eps E[x <x, c>], no second order.
        x = jnp.asarray([[1.0, 2.0], [0.0, 3.0]])
        c = jnp.asarray([1.0, -1.0])
        here = Setting(
            lambda t, x: (x @ t)[:, None], lambda t: jnp.vdot(c, t), squared_error, x, 0.5
        )
        theta = jnp.asarray([0.3, 0.7])
        epsilon = jnp.asarray([0.1, 1.0])
        steps = theorem.measure(here, theta, theta, epsilon)
        # <x, c> = -1 and -3: A = 2 (1 + 9) / 2 = 10.
        np.testing.assert_allclose(steps.coefficient, 10)
        np.testing.assert_allclose(steps.inner, 10 * epsilon)
        np.testing.assert_allclose(steps.change, -0.5 * 10 * epsilon)
        # dS is along E[x <x, c>] = ((-1, -2) + (0, -9)) / 2, dT along (-1, 1).
        np.testing.assert_allclose(steps.cosine, 10 / np.hypot(1, 11) / np.sqrt(2))

    def test_the_coefficient_against_the_closed_form_of_m(self):
        theta = parameters(0)
        for loss in (squared_error, cross_entropy):
            here = setting(loss)
            delta = theorem.teacher_update(here, theta)
            z, v = jax.jvp(lambda t, h=here: network(t, h.x), (theta,), (delta,))
            if loss is squared_error:
                expected = 2 * jnp.mean(jnp.sum(v**2, -1))
            else:
                p = jax.nn.softmax(z)
                expected = jnp.mean(jnp.sum(p * v**2, -1) - jnp.sum(p * v, -1) ** 2)
            np.testing.assert_allclose(theorem.coefficient(here, theta, delta), expected)

    @parameterized.parameters(squared_error, cross_entropy)
    def test_every_prediction_holds_on_a_shared_initialisation(self, loss):
        here = setting(loss)
        for check in theorem.check(EPSILON, measured(here, shared=True), here.alpha):
            self.assertTrue(check.holds, check)

    @parameterized.parameters(squared_error, cross_entropy)
    def test_every_check_fails_across_initialisations(self, loss):
        here = setting(loss)
        for check in theorem.check(EPSILON, measured(here, shared=False), here.alpha):
            self.assertFalse(check.holds, check)

    def test_the_verifier_sees_a_wrong_sign_a_wrong_scale_and_a_wrong_power(self):
        here = setting(squared_error)
        good = measured(here, shared=True)
        wrong = {
            "sign": good._replace(inner=-good.inner, cosine=-good.cosine),
            "scale": good._replace(inner=1.1 * good.inner),
            "power": good._replace(inner=good.inner * EPSILON),
            "one seed": good._replace(cosine=good.cosine * np.array([1, 1, 1, -1, 1, 1])[:, None]),
            "change": good._replace(change=-good.change),
        }
        for name, steps in wrong.items():
            checks = theorem.check(EPSILON, steps, here.alpha)
            self.assertFalse(all(check.holds for check in checks), name)
            if name == "one seed":
                self.assertEqual([c.satisfied.sum() for c in checks], [5, *[6] * 6])

    def test_softmax_over_one_output_is_an_exact_null_and_squared_error_is_not(self):
        for loss, null in ((cross_entropy, True), (squared_error, False)):
            theta = parameters(0, outputs=1)
            steps = theorem.measure(setting(loss, 1), theta, theta, jnp.asarray(EPSILON))
            steps = jax.tree.map(lambda leaf: np.asarray(leaf)[None], steps)
            self.assertEqual(theorem.check_null(steps, 0.0).holds, null)
            self.assertEqual(bool((steps.inner == 0).all()), null)

    @parameterized.parameters(squared_error, cross_entropy)
    def test_a_teacher_that_moves_out_of_sight(self, loss):
        here, theta = setting(loss), parameters(0)
        hidden = here._replace(teacher_loss=theorem.orthogonal_loss(here, theta))
        delta = theorem.teacher_update(hidden, theta)
        _, seen = jax.jvp(lambda t: network(t, here.x), (theta,), (delta,))
        np.testing.assert_allclose(seen, 0, atol=1e-13)
        self.assertGreater(max(float(jnp.abs(d).max()) for d in jax.tree.leaves(delta)), 1e-3)
        for teacher_loss, null in ((hidden.teacher_loss, True), (here.teacher_loss, False)):
            there = here._replace(teacher_loss=teacher_loss)
            steps = theorem.measure(there, theta, theta, jnp.asarray(EPSILON))
            steps = jax.tree.map(lambda leaf: np.asarray(leaf)[None], steps)
            self.assertEqual(theorem.check_null(steps, 1e-10).holds, null)

    def test_any_parameter_tree_and_float32(self):
        here = setting(squared_error)
        theta = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), parameters(0))
        as_tuple = here._replace(
            apply=lambda t, x: network({"a": t[0], "b": t[1][0]}, x.astype(jnp.float32)),
            teacher_loss=lambda t: jnp.mean(
                network({"a": t[0], "b": t[1][0]}, here.x.astype(jnp.float32))
            ),
        )
        tree = (theta["a"], [theta["b"]])
        delta = theorem.teacher_update(as_tuple, tree)
        self.assertEqual(delta[0].dtype, jnp.float32)
        self.assertGreater(float(theorem.coefficient(as_tuple, tree, delta)), 0)


if __name__ == "__main__":
    absltest.main()
