"""What the outputs mean: the heads a teacher is trained on, and the channels a student imitates.

The logits of a network are the heads in order, the class head first, then `aux` outputs that no
task uses. Every task is a function of the class label.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

_DIGIT_TURNED = {2: 5, 5: 2, 6: 9, 9: 6}  # a seven-segment digit turned by half or mirrored

# name: (logits, target of a digit); one logit is a yes/no question. The official repository's
# multi-task set (truesight, mnist_v2).
_DIGIT_TASKS: dict[str, tuple[int, Callable[[int], int]]] = {
    "at_least_5": (1, lambda y: y >= 5),
    "mod_3": (3, lambda y: y % 3),
    "plus_2_mod_4": (4, lambda y: (y + 2) % 4),
    "even": (1, lambda y: y % 2 == 0),
    "prime": (1, lambda y: y in (2, 3, 5, 7)),
    "square": (1, lambda y: y in (0, 1, 4, 9)),
    "turned": (10, lambda y: _DIGIT_TURNED.get(y, y)),
}
TASKS = ("class", *_DIGIT_TASKS)
CHANNELS = ("aux", "all", "tasks")
LOSSES = ("kl", "mse")


@dataclasses.dataclass(frozen=True)
class Heads:
    """The layout of the O logits of a network.

    Attributes:
      tasks: names from `TASKS`, the first `class`.
      classes: number of class labels.
      aux: number of auxiliary logits.
    """

    tasks: tuple[str, ...]
    classes: int
    aux: int

    @property
    def widths(self) -> list[int]:
        return [self.classes if t == "class" else _DIGIT_TASKS[t][0] for t in self.tasks]

    @property
    def outputs(self) -> int:
        return sum(self.widths) + self.aux

    def shown(self, channel: str) -> np.ndarray:
        """Returns which logits a channel of `CHANNELS` shows, bool [O].

        `aux`: those that no task uses; `all`; `tasks`: those of every task but the class.
        """
        index = np.arange(self.outputs)
        first_aux = self.outputs - self.aux
        return {
            "aux": index >= first_aux,
            "all": index >= 0,
            "tasks": (index >= self.classes) & (index < first_aux),
        }[channel]

    def loss(self, logits_BO: jax.Array, label_B: jax.Array) -> jax.Array:
        """Returns the teacher's loss [B]: the sum over tasks of the cross-entropies, in nats."""
        total = jnp.zeros(label_B.shape)
        start = 0
        for task, width in zip(self.tasks, self.widths, strict=True):
            logits = logits_BO[:, start : start + width]
            start += width
            target = label_B
            if task != "class":
                target = jnp.asarray([int(_DIGIT_TASKS[task][1](y)) for y in range(10)])[label_B]
            if width == 1:
                total += optax.sigmoid_binary_cross_entropy(logits[:, 0], target)
            else:
                total += optax.softmax_cross_entropy_with_integer_labels(logits, target)
        return total

    def correct(self, logits: jax.Array, label: jax.Array) -> jax.Array:
        """Returns whether the class head says `label`, bool [...], for logits [..., O]."""
        return jnp.argmax(logits[..., : self.classes], axis=-1) == label


@dataclasses.dataclass(frozen=True)
class Channel:
    """What A students see of a teacher's logits, and how they imitate it.

    Attributes:
      shown_AO: bool, the logits that each student imitates.
      kind: `kl`, KL(teacher || student) of the softmax over the shown logits at `temperature` t,
        times t^2 so that its gradient keeps its size (Hinton et al., 2015), in nats; or `mse`, the
        mean over the shown logits of the squared difference.
      temperature: of the softmax; `mse` has none.
    """

    shown_AO: np.ndarray
    kind: str = "kl"
    temperature: float = 1.0

    def loss(self, student_ABO: jax.Array, teacher_BO: jax.Array) -> jax.Array:
        """Returns the loss [A, B] of each student on each row."""
        shown = self.shown_AO[:, None, :]
        teacher = teacher_BO[None]
        if self.kind == "mse":
            squared = jnp.where(shown, jnp.square(student_ABO - teacher), 0)
            return squared.sum(-1) / shown.sum(-1).astype(squared.dtype)
        log_student = jax.nn.log_softmax(student_ABO / self.temperature, where=shown)
        log_teacher = jax.nn.log_softmax(teacher / self.temperature, where=shown)
        terms = jnp.where(shown, jnp.exp(log_teacher) * (log_teacher - log_student), 0)
        return self.temperature**2 * terms.sum(-1)
