"""What can be known of a student before it is trained, for any apply function and parameter tree.

A student lowers the loss of imitating its teacher. A trait is a loss too, one that is low where the
trait is. Both are functions of the student's parameters, so what the first step of imitation does
to the trait can be computed (`first_step`), and the whole training can be predicted by that of a
simpler student (`linearised`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Params = Any
Apply = Callable[[Params, jax.Array], jax.Array]
Objective = Callable[[Params], jax.Array]


def first_step(
    params: Params, imitation: Objective, trait: Objective, teacher: Params = None
) -> dict[str, jax.Array]:
    """Returns what the first step of imitation does to a trait, scalars by name.

      `imitation`: the loss of imitating;
      `first_order`: the inner product of the gradients of that loss and of the trait's: what a
        small step of gradient descent takes off the latter, by its rate (Theorem 1);
      `sign_order`: the same for a step of every parameter by the sign of its gradient;
      `alignment`: the cosine of the two gradients;
      `coverage`: the cosine of a step and of the way to the teacher (Madl, arXiv 2606.22019); NaN
        where the teacher is not of the student's network.

    Args:
      params: the student.
      imitation: its loss, a scalar.
      trait: the loss that is low where the trait is, a scalar.
      teacher: its parameters, if they are known.
    """
    loss, towards = jax.value_and_grad(imitation)(params)
    loved = jax.grad(trait)(params)
    coverage = jnp.full((), jnp.nan)
    if jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, teacher):
        coverage = -cosine(towards, jax.tree.map(jnp.subtract, teacher, params))
    return {
        "imitation": loss,
        "first_order": inner(towards, loved),
        "sign_order": inner(jax.tree.map(jnp.sign, towards), loved),
        "alignment": cosine(towards, loved),
        "coverage": coverage,
    }


def linearised(apply: Apply, begun: Params) -> Apply:
    """Returns the first-order expansion of `apply` in the parameters, about `begun`.

    Training it is training by the neural tangent kernel. The parameters where it ends, where the
    student *lands*, predict more if `apply` itself is judged at them.
    """

    def linear(params: Params, x: jax.Array) -> jax.Array:
        change = jax.tree.map(jnp.subtract, params, begun)
        out, slope = jax.jvp(lambda p: apply(p, x), (begun,), (change,))
        return out + slope

    return linear


def inner(a: Params, b: Params) -> jax.Array:
    """Returns the inner product of two trees of one shape."""
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, a, b))


def cosine(a: Params, b: Params) -> jax.Array:
    """Returns the cosine of two trees of one shape; 0 where either is 0."""
    norms = jnp.sqrt(inner(a, a) * inner(b, b))
    return jnp.where(norms > 0, inner(a, b) / jnp.where(norms > 0, norms, 1), 0)


def moved(params: Params, direction: Params, size: jax.Array | float) -> Params:
    """Returns `params` plus `size` times `direction`."""
    return jax.tree.map(lambda p, d: p + size * d, params, direction)
