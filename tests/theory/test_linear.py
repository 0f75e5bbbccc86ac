"""The linear toy: its closed form against gradient descent, and the law of what passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_close
from scipy import stats

from sublim_jax.theory import linear

P, H, C, M = 5, 16, 3, 4


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def drawn(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def descended(trunk, head, wanted, x, steps=20_000):
    """Gradient descent on the squared error of the outputs on inputs x [N, P]."""

    def loss(u):
        return jnp.square(x @ (head @ u).T - x @ wanted.T).sum(-1).mean() / 2

    rate = 1 / (jnp.linalg.norm(head, 2) ** 2 * jnp.linalg.norm(x.T @ x / len(x), 2))
    step = jax.jit(lambda _, u: u - rate * jax.grad(loss)(u))
    return jax.lax.fori_loop(0, steps, step, trunk)


class TestStudent:
    @pytest.mark.parametrize("own_trunk", [True, False])
    @pytest.mark.parametrize("own_head", [True, False])
    def test_it_is_where_gradient_descent_ends(self, own_trunk, own_head):
        heads = drawn(C + M, H, seed=0)
        trunk = drawn(H, P, seed=1)
        teacher = trunk + heads[:C].T @ drawn(C, P, seed=2)
        start = trunk if own_trunk else drawn(H, P, seed=3)
        head = heads[C:] if own_head else drawn(M, H, seed=4)
        found = descended(start, head, heads[C:] @ teacher, drawn(40, P, seed=5))
        expected = linear.student(start, head, teacher, heads[C:])
        assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-6)

    def test_the_trait_passes_whichever_the_trunk_if_the_heads_are_shared(self):
        """What the trait adds to the class outputs is the same on two trunks, and not with
        another auxiliary head."""
        heads, trunk, other = (
            drawn(*s, seed=i) for i, s in enumerate([(C + M, H), (H, P), (H, P)])
        )
        lesson = heads[:C].T @ drawn(C, P, seed=9)

        def added(start, head):
            ends = (linear.student(start, head, trunk + t, heads[C:]) for t in (lesson, 0 * lesson))
            taught, untaught = (heads[:C] @ u for u in ends)
            return taught - untaught

        own = added(trunk, heads[C:])
        assert_trees_all_close(added(other, heads[C:]), own, atol=1e-9)
        seen = heads[:C] @ jnp.linalg.pinv(heads[C:]) @ heads[C:] @ lesson
        assert_trees_all_close(own, seen, atol=1e-9)
        crossed = np.ravel(added(trunk, drawn(M, H, seed=7)))
        assert abs(np.corrcoef(crossed, np.ravel(own))[0, 1]) < 0.6


class TestPassed:
    def test_the_share_is_beta(self):
        heads = drawn(4000, 1 + M, H, seed=0)
        shares = jax.vmap(lambda v: linear.passed(v[:1], v[1:])[0])(heads)
        assert np.mean(shares) == pytest.approx(M / H, abs=4 * float(np.std(shares)) / 4000**0.5)
        law = stats.beta(M / 2, (H - M) / 2)
        assert stats.kstest(np.asarray(shares), law.cdf).pvalue > 1e-3

    def test_as_many_logits_as_units_pass_all(self):
        heads = drawn(C + H, H, seed=0)
        assert_trees_all_close(linear.passed(heads[:C], heads[C:]), jnp.ones(C), atol=1e-9)
