"""What a config of the study may say: its arms, its optimiser, and which values cannot be run."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from sublim_jax import optim
from sublim_jax.errors import UserError
from sublim_jax.mlp import inputs, network, tasks
from sublim_jax.mlp.data import Images

_LARGEST = 2**31 - 1  # of a row, step or member index


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
    for field, wish in _problems(config, images):
        raise UserError(f"config.{field}={_get(config, field)!r}: {wish}")
    try:
        optim.make_optimizer(config.optimizer.to_dict())
    except UserError as error:
        raise UserError(f"config.{error}") from error


def _problems(config: ConfigDict, images: Images) -> Iterator[tuple[str, str]]:
    counts = ["members", "batch", "network.width", "student.rows", "match.rows", "match.epochs"]
    counts += [f"{p}.{f}" for p in ("teacher", "student") for f in ("epochs", "evaluate_every")]
    yield from (
        (f, f"must be from 1 to {_LARGEST}") for f in counts if not 1 <= _get(config, f) <= _LARGEST
    )
    scales = ["network.init_scale", "student.temperature"]
    yield from ((f, "must be above 0") for f in scales if not _get(config, f) > 0)
    if not config.optimizer.get("learning_rate", 1.0) > 0:
        yield "optimizer.learning_rate", "must be above 0"
    sizes = ["seed", "members_per_device", "network.depth", "network.aux"]
    yield from ((f, "must not be negative") for f in sizes if _get(config, f) < 0)
    for phase in ("teacher", "student"):
        if config[phase].epochs % config[phase].evaluate_every:
            yield f"{phase}.evaluate_every", f"must divide {phase}.epochs={config[phase].epochs}"
    choices = {
        "network.activation": list(network.ACTIVATIONS),
        "student.inputs": list(inputs.KINDS),
        "student.loss": list(tasks.LOSSES),
    }
    for field, known in choices.items():
        if _get(config, field) not in known:
            yield field, f"choose one of {', '.join(known)}"
    if config.student.fresh and config.student.inputs not in inputs.NOISE:
        yield "student.fresh", f"{config.student.inputs} are a fixed set: only noise can be fresh"

    for field, names in {"tasks": tasks.TASKS, "arms": ARMS}.items():
        chosen = list(config[field])
        known = [name for name in names if name in chosen]
        if not chosen or sorted(known) != sorted(map(str, chosen)):
            yield field, f"choose from {', '.join(names)}, each at most once"
            return
    if config.tasks[0] != "class":
        yield "tasks", "the first must be class"
    if len(config.tasks) > 1 and images.classes != 10:
        yield (
            "tasks",
            f"tasks besides class need 10 labels, not {images.classes}",
        )
    heads = tasks.Heads(tuple(config.tasks), images.classes, config.network.aux)
    for name in config.arms:
        if not heads.shown(ARMS[name].channel).any():
            yield "arms", f"{name} has no logits to imitate: network.aux or tasks is too small"
    if config.match.rows > len(images.train_x) and any(ARMS[name].matched for name in config.arms):
        yield "match.rows", f"there are {len(images.train_x)} training images"
    if config.members < 2 and not all(ARMS[name].own_init for name in config.arms):
        yield "members", "cross-initialisation needs at least 2 members"


def _get(config: ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        if part not in value:
            raise UserError(f"config.{field} is missing: configs/mlp/digits.py has every field")
        value = value[part]
    return value
