import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from sublim_jax.mlp.tasks import TASKS, Channel, Heads

ALL = Heads(TASKS, classes=10, aux=3)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class HeadsTest(parameterized.TestCase):
    def test_the_official_multi_task_layout(self):
        self.assertEqual(ALL.outputs, 34)
        self.assertEqual([ALL.shown(c).sum() for c in ("aux", "tasks", "all")], [3, 21, 34])
        np.testing.assert_array_equal(np.flatnonzero(ALL.shown("aux")), [31, 32, 33])
        self.assertFalse(ALL.shown("tasks")[:10].any())

    def test_the_papers_layout(self):
        heads = Heads(("class",), classes=10, aux=3)
        self.assertEqual(heads.outputs, 13)
        np.testing.assert_array_equal(np.flatnonzero(heads.shown("aux")), [10, 11, 12])

    def test_loss_is_the_sum_of_the_tasks(self):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(20, ALL.outputs)).astype(np.float32)
        label = np.arange(20, dtype=np.int32) % 10
        # Written out, task by task, in the order of the logits.
        digits = np.arange(10)
        turned = np.array([0, 1, 5, 3, 4, 2, 9, 7, 8, 6])
        many = [(10, digits), (3, digits % 3), (4, (digits + 2) % 4), (10, turned)]
        starts = {0: many[0], 11: many[1], 14: many[2], 21: many[3]}
        yes_no = {
            10: digits >= 5,
            18: digits % 2 == 0,
            19: np.isin(digits, [2, 3, 5, 7]),
            20: np.isin(digits, [0, 1, 4, 9]),
        }
        expected = np.zeros(20)
        for start, (width, target) in starts.items():
            p = softmax(logits[:, start : start + width])
            expected -= np.log(p[np.arange(20), target[label]])
        for column, target in yes_no.items():
            p = 1 / (1 + np.exp(-logits[:, column]))
            expected -= np.log(np.where(target[label], p, 1 - p))
        np.testing.assert_allclose(ALL.loss(logits, jnp.asarray(label)), expected, rtol=1e-5)

    def test_auxiliary_logits_have_no_task(self):
        logits = jnp.ones((4, ALL.outputs))
        gradient = jax.grad(lambda z: ALL.loss(z, jnp.arange(4)).sum())(logits)
        np.testing.assert_array_equal(gradient[:, 31:], 0)
        self.assertTrue((gradient[:, :31] != 0).all())

    def test_only_the_class_head_says_the_label(self):
        logits = np.zeros((4, 34), np.float32)
        logits[:, 33] = 9  # the largest logit is no class
        logits[np.arange(4), [0, 1, 2, 5]] = 1
        np.testing.assert_array_equal(ALL.correct(logits, jnp.arange(4)), [True] * 3 + [False])


class ChannelTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        self.student = rng.normal(size=(2, 5, 13)).astype(np.float32)
        self.teacher = rng.normal(size=(5, 13)).astype(np.float32)
        heads = Heads(("class",), 10, 3)
        self.shown = np.stack([heads.shown("aux"), heads.shown("all")])

    @parameterized.parameters(1.0, 4.0)
    def test_kl_against_its_definition(self, temperature):
        got = Channel(self.shown, "kl", temperature).loss(self.student, self.teacher)
        chex.assert_shape(got, (2, 5))
        for a, start in enumerate((10, 0)):
            p = softmax(self.teacher[:, start:] / temperature)
            q = softmax(self.student[a, :, start:] / temperature)
            expected = temperature**2 * (p * np.log(p / q)).sum(-1)
            np.testing.assert_allclose(got[a], expected, rtol=1e-4)

    def test_mse_against_its_definition(self):
        got = Channel(self.shown, "mse").loss(self.student, self.teacher)
        for a, start in enumerate((10, 0)):
            square = (self.student[a, :, start:] - self.teacher[:, start:]) ** 2
            np.testing.assert_allclose(got[a], square.mean(-1), rtol=1e-5)

    @parameterized.parameters("kl", "mse")
    def test_no_gradient_reaches_hidden_logits(self, kind):
        channel = Channel(self.shown, kind)
        gradient = jax.grad(lambda z: channel.loss(z, self.teacher).sum())(self.student)
        chex.assert_tree_all_finite(gradient)
        np.testing.assert_array_equal(gradient[0, :, :10], 0)
        self.assertTrue((gradient[1] != 0).all())

    def test_kl_over_one_logit_is_an_exact_null_and_mse_is_not(self):
        one = np.zeros((2, 13), bool)
        one[:, 12] = True
        for kind, null in (("kl", True), ("mse", False)):
            channel = Channel(one, kind)
            gradient = jax.grad(lambda z, c=channel: c.loss(z, self.teacher).sum())(self.student)
            self.assertEqual(bool((gradient == 0).all()), null)


if __name__ == "__main__":
    absltest.main()
