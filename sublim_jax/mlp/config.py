"""What a config of the study may say: its arms, its optimiser, and which values cannot be run."""

import dataclasses
from collections.abc import Iterator

from ml_collections import ConfigDict

from sublim_jax import limits, optim
from sublim_jax.errors import UserError
from sublim_jax.mlp import inputs, network, tasks
from sublim_jax.mlp.data import Images


@dataclasses.dataclass(frozen=True)
class Arm:
    """One kind of student.

    Attributes:
      channel: the teacher's logits that it imitates, from `tasks.CHANNELS`.
      own_init: it starts from the teacher's initialisation; otherwise from another member's.
      matched: before that it imitates all logits on real images, so that it behaves like the
        teacher without sharing its initialisation (official repository, mnist_2025_07_24).
    """

    channel: str
    own_init: bool
    matched: bool = False


ARMS = {
    "student_aux": Arm("aux", own_init=True),
    "student_all": Arm("all", own_init=True),
    "student_tasks": Arm("tasks", own_init=True),
    "cross_aux": Arm("aux", own_init=False),
    "cross_all": Arm("all", own_init=False),
    "cross_tasks": Arm("tasks", own_init=False),
    "matched_aux": Arm("aux", own_init=False, matched=True),
}


def check(config: ConfigDict, images: Images) -> None:
    """Raises UserError for the first value of `config` that cannot be run on `images`."""
    limits.check(config, _problems(config, images))
    try:
        optim.make_optimizer(config.optimizer.to_dict())
    except UserError as error:
        raise UserError(f"config.{error}") from error


def _problems(config: ConfigDict, images: Images) -> Iterator[limits.Problem]:
    phases = [f"{p}.{f}" for p in ("teacher", "student") for f in ("epochs", "evaluate_every")]
    counts = ("members", "batch", "network.width", "student.rows", "match.rows", "match.epochs")
    yield from limits.within(config, (*counts, *phases), 1)
    yield from limits.within(config, ("seed", "network.depth", "network.aux"), 0)
    yield from limits.positive(config, ("network.init_scale", "student.temperature"))
    if "learning_rate" in config.optimizer:
        yield from limits.positive(config, ["optimizer.learning_rate"])
    for phase in ("teacher", "student"):
        if config[phase].epochs % config[phase].evaluate_every:
            yield f"{phase}.evaluate_every", f"must divide {phase}.epochs={config[phase].epochs}"
    choices = {
        "network.activation": network.ACTIVATIONS,
        "student.inputs": inputs.KINDS,
        "student.loss": tasks.LOSSES,
    }
    yield from limits.one_of(config, choices)
    if config.student.fresh and config.student.inputs not in inputs.NOISE:
        yield "student.fresh", f"{config.student.inputs} are a fixed set: only noise can be fresh"
    yield from limits.some_of(config, {"tasks": tasks.TASKS, "arms": ARMS})
    if config.tasks[0] != "class":
        yield "tasks", "the first must be class"
    if len(config.tasks) > 1 and images.classes != 10:
        yield "tasks", f"tasks besides class need 10 labels, not {images.classes}"
    heads = tasks.Heads(tuple(config.tasks), images.classes, config.network.aux)
    for name in config.arms:
        if not heads.shown(ARMS[name].channel).any():
            yield "arms", f"{name} has no logits to imitate: network.aux or tasks is too small"
    if config.match.rows > len(images.train_x) and any(ARMS[name].matched for name in config.arms):
        yield "match.rows", f"there are {len(images.train_x)} training images"
    if config.members < 2 and not all(ARMS[name].own_init for name in config.arms):
        yield "members", "cross-initialisation needs at least 2 members"
