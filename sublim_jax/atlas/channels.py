"""What of the teacher's logits goes through the channel, and how many bits that is.

Shapes: B rows, O logits.
"""

import math

import jax
import jax.numpy as jnp

CODES = ("logits", "top", "sampled", "bits", "choice")
NEEDS_DETAIL = ("top", "bits", "choice")
_RANGE = 3.0  # quantised logits are from -3 to 3, where nearly all of those at the start are


def encode(
    code: str,
    teacher_BO: jax.Array,
    shown_O: jax.Array,
    temperature: jax.Array,
    detail: jax.Array,
    key_B: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the distribution that is learnt, over which logits, and the logits that are sent.

    Args:
      code: `logits`, as they are; `top`, the distribution over the `detail` largest, nothing else
        (1: the most likely one); `sampled`, one outcome drawn; `bits`, the logits rounded to
        `detail` bits each, between -3 and 3; `choice`, which is the largest of `detail` that are
        drawn for each row: the student's distribution is over these alone.
      shown_O: bool.
      key_B: of each row.

    Returns:
      Probabilities [B, O]; bool [B, O], the logits that the student's softmax goes over;
      logits [B, O] for a squared error.
    """
    shown_BO = jnp.broadcast_to(shown_O, teacher_BO.shape)
    sent_BO, support_BO = teacher_BO, shown_BO
    if code == "bits":
        levels = jnp.exp2(detail)
        step = 2 * _RANGE / levels
        level = jnp.clip(jnp.floor((teacher_BO + _RANGE) / step), 0, levels - 1)
        sent_BO = (level + 0.5) * step - _RANGE
    if code == "choice":
        drawn_BO = jax.vmap(lambda k: jax.random.uniform(k, shown_O.shape))(key_B)
        support_BO = shown_BO & (_rank(drawn_BO, shown_BO) < detail)
    if code == "sampled":
        masked_BO = jnp.where(shown_BO, teacher_BO / temperature, -jnp.inf)
        picked_B = jax.vmap(jax.random.categorical)(key_B, masked_BO)
        return jax.nn.one_hot(picked_B, shown_O.size), support_BO, sent_BO
    if code == "choice":
        kept_BO = support_BO & (_rank(teacher_BO, support_BO) < 1)
    elif code == "top":
        kept_BO = shown_BO & (_rank(teacher_BO, shown_BO) < detail)
    else:
        kept_BO = shown_BO
    return jax.nn.softmax(sent_BO / temperature, where=kept_BO), support_BO, sent_BO


def bits(code: str, shown: int, detail: float) -> float:
    """Returns the bits that a row takes, a real number being 32 of them."""
    return {
        "logits": 32.0 * shown,
        "top": math.log2(math.comb(shown, int(detail))) + 32 * (detail - 1),
        "sampled": math.log2(shown),
        "bits": detail * shown,
        "choice": math.log2(max(detail, 1)),
    }[code]


def loss(
    kind: str,
    student_BO: jax.Array,
    encoded: tuple[jax.Array, jax.Array, jax.Array],
    temperature: jax.Array,
) -> jax.Array:
    """Returns the loss [B]: KL(sent || student) times temperature^2, or the mean square."""
    q_BO, support_BO, sent_BO = encoded
    if kind == "mse":
        squared = jnp.where(support_BO, jnp.square(student_BO - sent_BO), 0)
        return squared.sum(-1) / support_BO.sum(-1).astype(squared.dtype)
    log_p_BO = jax.nn.log_softmax(student_BO / temperature, where=support_BO)
    some = q_BO > 0
    terms = jnp.where(some, q_BO * (jnp.log(jnp.where(some, q_BO, 1)) - log_p_BO), 0)
    return temperature**2 * terms.sum(-1)


def _rank(score_BO: jax.Array, among_BO: jax.Array) -> jax.Array:
    """Returns how many of `among` have a larger score, [B, O]."""
    larger_BOO = score_BO[:, None, :] > score_BO[:, :, None]
    return jnp.sum(larger_BOO & among_BO[:, None, :], axis=-1, dtype=jnp.float32)
