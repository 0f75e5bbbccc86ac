"""Teaching and imitating: gradient descent for one network or a stack of them, all in one scan.

Shapes: A students, B rows a batch, N rows, O logits, P pixels, S batches an epoch.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sublim_jax.mlp.data import to_input
from sublim_jax.mlp.tasks import Channel, Heads

Params = Any
Apply = Callable[[Params, jax.Array], jax.Array]
Score = Callable[[Params], jax.Array]
Draw = Callable[[jax.Array], jax.Array]  # row_B -> x_BP
Tell = Callable[[jax.Array], jax.Array]  # x_BP -> logits_BO
# loss(params, row_B, weight_B) -> the weighted mean loss of each network, [] or [A].
Loss = Callable[[Params, jax.Array, jax.Array], jax.Array]

_TESTED_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True)
class Rows:
    """The data rows that training goes through.

    Attributes:
      count: rows an epoch.
      batch: rows a step; the last batch of an epoch may be smaller.
      fresh: each epoch takes the next `count` rows in order; otherwise every epoch takes the rows
        0..count-1 in an order of its own.
    """

    count: int
    batch: int
    fresh: bool = False

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-self.count // self.batch)

    def epoch(self, key: jax.Array, epoch: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the rows int32 [S, B] of an epoch, with weights 1, or 0 where B is not filled."""
        place = jnp.arange(self.steps * self.batch)
        if self.fresh:
            row = epoch * self.count + place
        else:
            order = jax.random.permutation(jax.random.fold_in(key, epoch), self.count)
            row = jnp.pad(order, (0, place.size - self.count))
        shape = (self.steps, self.batch)
        return row.reshape(shape), (place < self.count).astype(jnp.float32).reshape(shape)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long to train and when to look.

    Attributes:
      rows: what an epoch consists of.
      epochs: a multiple of `evaluate_every`.
      evaluate_every: epochs from one evaluation to the next.
      optimizer: for one network.
    """

    rows: Rows
    epochs: int
    evaluate_every: int
    optimizer: optax.GradientTransformation


class Fit(NamedTuple):
    """What training leaves behind, over n = epochs / evaluate_every stretches.

    Attributes:
      params: after training.
      score: [n + 1, ...], before, between and after the stretches.
      loss: [n, ...], mean over the last epoch of each stretch.
    """

    params: Params
    score: jax.Array
    loss: jax.Array


def fit(params: Params, loss: Loss, schedule: Schedule, key: jax.Array, score: Score) -> Fit:
    """Trains `params` by gradient descent; `key` orders the rows."""
    rows, optimizer = schedule.rows, schedule.optimizer

    def total(params: Params, row_B: jax.Array, weight_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        losses = loss(params, row_B, weight_B)
        return losses.sum(), losses

    def step(carry: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        params, opt_state = carry
        gradient, losses = jax.grad(total, has_aux=True)(params, *batch)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its bias correction
            update, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, update), opt_state), losses

    def epoch(carry: Any, number: jax.Array) -> tuple[Any, jax.Array]:
        carry, losses = lax.scan(step, carry, rows.epoch(key, number))
        return carry, losses.mean(0)

    def stretch(carry: Any, numbers: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        before = score(carry[0])
        carry, losses = lax.scan(epoch, carry, numbers)
        return carry, (before, losses[-1])

    numbers = jnp.arange(schedule.epochs).reshape(-1, schedule.evaluate_every)
    (params, _), (scores, losses) = lax.scan(stretch, (params, optimizer.init(params)), numbers)
    return Fit(params, jnp.concatenate([scores, score(params)[None]]), losses)


def teach(
    apply: Apply,
    heads: Heads,
    params: Params,
    image_NP: jax.Array,
    label_N: jax.Array,
    schedule: Schedule,
    key: jax.Array,
    score: Score,
) -> Fit:
    """Trains one network on the tasks of `heads`, from labelled images (uint8)."""

    def loss(params: Params, row_B: jax.Array, weight_B: jax.Array) -> jax.Array:
        logits_BO = apply(params, to_input(image_NP[row_B]))
        return _weighted_mean(heads.loss(logits_BO, label_N[row_B]), weight_B)

    return fit(params, loss, schedule, key, score)


def imitate(
    apply: Apply,
    channel: Channel,
    students: Params,
    tell: Tell,
    draw: Draw,
    schedule: Schedule,
    key: jax.Array,
    score: Score,
) -> Fit:
    """Trains a stack of students of one teacher on its logits, each on its own channel.

    Args:
      apply: of one network.
      channel: what of the logits each student imitates, and by which loss.
      students: a tree whose leaves have a leading axis A.
      tell: the teacher's logits on inputs, x_BP -> logits_BO.
      draw: the inputs of given rows.
      schedule: fixed rows are labelled by the teacher once, fresh ones as they come.
      key: orders the rows.
      score: of the stack, [A].
    """
    rows = schedule.rows
    if not rows.fresh:
        place = jnp.minimum(jnp.arange(rows.steps * rows.batch), rows.count - 1)
        label_NO = lax.map(
            lambda row_B: tell(draw(row_B)), place.reshape(rows.steps, rows.batch)
        ).reshape(place.size, -1)

    def loss(students: Params, row_B: jax.Array, weight_B: jax.Array) -> jax.Array:
        x_BP = draw(row_B)
        label_BO = tell(x_BP) if rows.fresh else label_NO[row_B]
        logits_ABO = jax.vmap(apply, (0, None))(students, x_BP)
        return jax.vmap(_weighted_mean, (0, None))(channel.loss(logits_ABO, label_BO), weight_B)

    each = schedule.optimizer
    stacked = optax.GradientTransformation(jax.vmap(each.init), jax.vmap(each.update))
    return fit(students, loss, dataclasses.replace(schedule, optimizer=stacked), key, score)


def accuracy(apply: Apply, heads: Heads, image_NP: jax.Array, label_N: jax.Array) -> Score:
    """Returns the score that is the share of images (uint8) whose label the class head says."""

    def score(params: Params) -> jax.Array:
        def correct(test: tuple[jax.Array, jax.Array]) -> jax.Array:
            image, label = test
            return heads.correct(apply(params, to_input(image)), label)

        # In pieces: the activations of a whole test set would be most of the memory used.
        return lax.map(correct, (image_NP, label_N), batch_size=_TESTED_AT_ONCE).mean()

    return score


def _weighted_mean(loss_B: jax.Array, weight_B: jax.Array) -> jax.Array:
    return jnp.sum(loss_B * weight_B) / jnp.sum(weight_B)
