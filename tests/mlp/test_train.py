from functools import partial

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from sublim_jax.mlp import network
from sublim_jax.mlp.data import to_input
from sublim_jax.mlp.tasks import Channel, Heads
from sublim_jax.mlp.train import Rows, Schedule, accuracy, imitate, teach

PIXELS = 12
HEADS = Heads(("class",), 4, 2)
init, apply = network.functional((PIXELS, 8, HEADS.outputs))


class RowsTest(absltest.TestCase):
    @hypothesis.settings(max_examples=25, deadline=None)
    @hypothesis.given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
    def test_every_epoch_of_a_fixed_set_holds_every_row_once(self, count, batch, epoch):
        row, weight = Rows(count, batch).epoch(jax.random.key(0), jnp.asarray(epoch))
        chex.assert_shape([row, weight], (-(-count // batch), batch))
        self.assertCountEqual(row[weight == 1].tolist(), range(count))
        self.assertEqual(float(weight.sum()), count)

    def test_epochs_differ_in_order(self):
        rows = Rows(50, 10)
        first, second = (rows.epoch(jax.random.key(0), jnp.asarray(e))[0] for e in (0, 1))
        self.assertFalse((first == second).all())

    def test_fresh_rows_count_on(self):
        rows = Rows(7, 3, fresh=True)
        seen = []
        for epoch in range(3):
            row, weight = rows.epoch(jax.random.key(0), jnp.asarray(epoch))
            seen += row[weight == 1].tolist()
        self.assertEqual(seen, list(range(21)))


class AccuracyTest(absltest.TestCase):
    def test_it_is_the_share_of_all_images_in_however_many_pieces(self):
        image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1030, PIXELS), np.uint8))
        params = init(jax.random.key(0))
        said = np.argmax(apply(params, to_input(image))[:, : HEADS.classes], -1)
        label = np.where(np.arange(1030) < 257, (said + 1) % HEADS.classes, said)
        found = accuracy(apply, HEADS, image, jnp.asarray(label))(params)
        self.assertAlmostEqual(float(found), (1030 - 257) / 1030, places=6)


class FitTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.image = jnp.asarray(rng.integers(0, 256, (10, PIXELS), np.uint8))
        self.label = jnp.asarray(rng.integers(0, 4, 10, np.int32))

    def plan(self, optimizer, fresh=False, epochs=4, every=2):
        return Schedule(Rows(10, 4, fresh), epochs, every, optimizer)  # 4 + 4 + 2 rows an epoch

    def test_teaching_is_the_plain_loop(self):
        optimizer = optax.adam(0.01)
        params, key = init(jax.random.key(1)), jax.random.key(2)
        plan = self.plan(optimizer)
        fit = teach(apply, HEADS, params, self.image, self.label, plan, key, lambda p: jnp.ones(()))

        state = optimizer.init(params)
        last = []
        for epoch in range(4):
            last = []
            for row, weight in zip(*plan.rows.epoch(key, jnp.asarray(epoch)), strict=True):
                keep = np.asarray(row)[np.asarray(weight) == 1]  # no padding, no weights
                x, y = to_input(self.image[keep]), self.label[keep]

                def loss(p, x=x, y=y):
                    logits = apply(p, x)[:, :4]
                    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

                value, gradient = jax.value_and_grad(loss)(params)
                last.append(value)
                with jax.numpy_dtype_promotion("standard"):
                    update, state = optimizer.update(gradient, state, params)
                params = optax.apply_updates(params, update)
        chex.assert_trees_all_close(fit.params, params, rtol=1e-4, atol=1e-6)
        chex.assert_shape([fit.score, fit.loss], [(3,), (2,)])
        np.testing.assert_allclose(fit.loss[-1], np.mean(last), rtol=1e-4)

    @parameterized.named_parameters(
        ("adam", lambda: optax.adam(0.01)),
        ("clipped", lambda: optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0))),
    )
    def test_a_student_does_not_depend_on_its_neighbours(self, make):
        optimizer = make()
        keys = jax.random.split(jax.random.key(3), 3)
        students, teacher = jax.vmap(init)(keys), init(jax.random.key(4))
        shown = np.stack([HEADS.shown(c) for c in ("aux", "all", "aux")])
        score = jax.vmap(lambda p: optax.tree.norm(p))

        def run(which):
            return imitate(
                apply,
                Channel(shown[which]),
                jax.tree.map(lambda leaf: leaf[np.asarray(which)], students),
                partial(apply, teacher),
                lambda row: to_input(self.image[row]),
                self.plan(optimizer),
                jax.random.key(5),
                score,
            )

        together = run([0, 1, 2])
        chex.assert_shape([together.score, together.loss], [(3, 3), (2, 3)])
        for i in range(3):
            alone = run([i])
            own = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], together.params)
            chex.assert_trees_all_close(alone.params, own, rtol=1e-5, atol=1e-6)

    def test_labelling_once_or_as_rows_come_is_the_same(self):
        teacher, student = init(jax.random.key(4)), jax.vmap(init)(jax.random.key(5)[None])

        def run(fresh):
            # One epoch in order: the same rows either way, but for the order of the fixed set.
            plan = Schedule(Rows(10, 10, fresh), 1, 1, optax.sgd(0.1))
            return imitate(
                apply, Channel(HEADS.shown("all")[None]), student, partial(apply, teacher),
                lambda row: to_input(self.image[row]), plan,
                jax.random.key(6), lambda p: jnp.ones(()),
            )  # fmt: skip

        chex.assert_trees_all_close(run(True).params, run(False).params, rtol=1e-5, atol=1e-6)

    def test_a_student_of_itself_stays(self):
        teacher = init(jax.random.key(4))
        start = jax.tree.map(lambda leaf: leaf[None], teacher)
        fit = imitate(
            apply, Channel(HEADS.shown("all")[None]), start, partial(apply, teacher),
            lambda row: to_input(self.image[row]), self.plan(optax.sgd(1.0)),
            jax.random.key(6), lambda p: jnp.ones(()),
        )  # fmt: skip
        chex.assert_trees_all_close(fit.params, start, atol=1e-6)


if __name__ == "__main__":
    absltest.main()
