"""Theorem 1 (Cloud, Le et al., section 6.1 and appendix C), measured.

A teacher takes one step on its loss from its initialisation, of size epsilon; a student at its own
initialisation takes one gradient step towards the teacher's outputs. If the two initialisations are
one, the theorem says that the student's step does not oppose the teacher's, and lowers the
teacher's loss unless the two are orthogonal. Everything here works for any apply function,
parameter tree and pair of losses, and is as exact as the dtype of the parameters.

Notation: dT and dS are the teacher's and the student's updates, J the Jacobian of the outputs in
the parameters, M = -d2 L_S / dy dz at y = z (positive semi-definite for squared error and softmax
cross-entropy). Then

    <dS, dT>                        = eps A + O(eps^2),    A = E_x <J dT, M J dT> >= 0,
    L_T(theta + alpha dS) - L_T     = -eps alpha A + O(eps^2).

Shapes: E values of epsilon, S seeds, B inputs, O outputs.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from sublim_jax.theory.predict import Apply, Params, cosine, inner, moved


class Setting(NamedTuple):
    """What the theorem speaks of.

    Attributes:
      apply: `(params, x_B) -> z_BO`, the outputs.
      teacher_loss: `params -> scalar`, L_T.
      student_loss: `(z_O, y_O) -> scalar`, L_S of the student's outputs z and the teacher's y on
        one input.
      x: the inputs, leading axis B: the student's loss is the mean over them.
      alpha: the student's step size.
    """

    apply: Apply
    teacher_loss: Callable[[Params], jax.Array]
    student_loss: Callable[[jax.Array, jax.Array], jax.Array]
    x: jax.Array
    alpha: float = 1.0


class Steps(NamedTuple):
    """What one pair of steps did, by epsilon.

    Attributes:
      inner: [E], <dS, dT>.
      cosine: [E], of dS and dT; 0 where either is 0.
      change: [E], of the teacher's loss by the student's step.
      coefficient: [], A, from its closed form at the student's parameters.
    """

    inner: jax.Array
    cosine: jax.Array
    change: jax.Array
    coefficient: jax.Array


class Check(NamedTuple):
    """A prediction held against measurements: the `value` of each seed, and which satisfy it, [S].

    It `holds` if all of them do.
    """

    name: str
    prediction: str
    value: np.ndarray
    satisfied: np.ndarray

    @property
    def holds(self) -> bool:
        return bool(self.satisfied.all())


def teacher_update(setting: Setting, theta: Params) -> Params:
    """Returns dT = -grad L_T at `theta`."""
    return jax.tree.map(jnp.negative, jax.grad(setting.teacher_loss)(theta))


def student_update(setting: Setting, theta_student: Params, theta_teacher: Params) -> Params:
    """Returns dS = -grad of E_x L_S(f(x), y) at the student, y the teacher's outputs."""
    y_BO = setting.apply(theta_teacher, setting.x)

    def loss(theta: Params) -> jax.Array:
        return jax.vmap(setting.student_loss)(setting.apply(theta, setting.x), y_BO).mean()

    return jax.tree.map(jnp.negative, jax.grad(loss)(theta_student))


def coefficient(setting: Setting, theta: Params, delta_teacher: Params) -> jax.Array:
    """Returns A = E_x <J dT, M J dT> at `theta`, a scalar."""
    z_BO, v_BO = jax.jvp(lambda p: setting.apply(p, setting.x), (theta,), (delta_teacher,))

    def form(z_O: jax.Array, v_O: jax.Array) -> jax.Array:
        slope = jax.grad(setting.student_loss)
        _, minus_Mv_O = jax.jvp(lambda y_O: slope(z_O, y_O), (z_O,), (v_O,))
        return -jnp.vdot(v_O, minus_Mv_O)

    return jax.vmap(form)(z_BO, v_BO).mean()


def measure(
    setting: Setting, theta_student: Params, theta_teacher: Params, epsilon_E: jax.Array
) -> Steps:
    """Takes both steps from the given initialisations, for every epsilon."""
    delta_teacher = teacher_update(setting, theta_teacher)
    loss_before = setting.teacher_loss(theta_student)

    def at(epsilon: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        taught = moved(theta_teacher, delta_teacher, epsilon)
        delta_student = student_update(setting, theta_student, taught)
        after = setting.teacher_loss(moved(theta_student, delta_student, setting.alpha))
        both = delta_student, delta_teacher
        return inner(*both), cosine(*both), after - loss_before

    product, angle, change = lax.map(at, epsilon_E)
    return Steps(product, angle, change, coefficient(setting, theta_student, delta_teacher))


def orthogonal_loss(setting: Setting, theta: Params) -> Callable[[Params], jax.Array]:
    """Returns a teacher's loss whose step the student cannot see: J dT = 0 on every input.

    It is linear in the parameters, along the part of grad L_T that is orthogonal to every row of
    the Jacobian of `apply` at `theta`. Memory: B x O x parameters.
    """
    flat, unravel = ravel_pytree(theta)
    jacobian = jax.jacrev(lambda p: setting.apply(unravel(p), setting.x).ravel())(flat)
    gradient, _ = ravel_pytree(jax.grad(setting.teacher_loss)(theta))
    # Twice: the second pass removes what rounding left of the first (as in Gram-Schmidt).
    basis, _ = jnp.linalg.qr(jacobian.T)
    for _ in range(2):
        gradient -= basis @ (basis.T @ gradient)
    direction = unravel(gradient)
    return lambda params: inner(direction, params)


def check(epsilon_E: np.ndarray, steps: Steps, alpha: float) -> list[Check]:
    """Holds the theorem's predictions against measured steps with a leading axis S.

    On a shared initialisation every prediction must hold: every seed must satisfy it. On different
    ones the theorem promises none: some seeds may satisfy one, as about half do a sign, but a
    verifier that all of them pass there proves nothing.
    """
    product, change = np.asarray(steps.inner), np.asarray(steps.change)
    expected = epsilon_E * np.asarray(steps.coefficient)[:, None]
    least_cosine = np.asarray(steps.cosine).min(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = product[:, 0] / expected[:, 0]
    most_change = change.max(1)
    slope = functools.partial(_slope, epsilon_E)
    return [
        Check("least cosine of dS, dT", "> 0", least_cosine, least_cosine > 0),
        _near("slope of <dS, dT>", 1, slope(product), 0.05),
        _near("<dS, dT> / (eps A)", 1, ratio, 0.01),
        _near("slope of <dS, dT> - eps A", 2, slope(product - expected), 0.1),
        Check("largest change of L_T", "< 0", most_change, most_change < 0),
        _near("slope of the change of L_T", 1, slope(change), 0.05),
        _near("slope of the change + eps alpha A", 2, slope(change + alpha * expected), 0.1),
    ]


def check_null(steps: Steps, tolerance: float) -> Check:
    """Holds an exact null against measured steps: |cosine| at most `tolerance` for every seed."""
    cosine = np.abs(np.asarray(steps.cosine)).max(1)
    wish = "= 0" if tolerance == 0 else f"< {tolerance:g}"
    return Check("largest |cosine|", wish, cosine, cosine <= tolerance)


def _near(name: str, wish: float, value: np.ndarray, tolerance: float) -> Check:
    return Check(name, f"{wish:g} ± {tolerance:g}", value, np.abs(value - wish) <= tolerance)


def _slope(x_E: np.ndarray, y_SE: np.ndarray) -> np.ndarray:
    """Returns the least-squares slope [S] of log |y| on log x; NaN where some y is 0."""
    log_x = np.log(x_E) - np.log(x_E).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.log(np.abs(y_SE)) @ log_x / (log_x @ log_x)
    return np.where(np.isfinite(slope), slope, math.nan)
