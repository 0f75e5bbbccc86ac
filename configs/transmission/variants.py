"""The study of numbers with other things trained, by other teachers, or in other worlds.

Command:  python -m launch.transmit --config=configs/transmission/variants.py:biases \\
              --workdir=runs/variants/biases
          The names after the colon are those of `VARIANTS`. Those of another world need its models:
          python -m launch.pretrain_nano --config=configs/nano/other_worlds.py:tilted \\
              --workdir=runs/worlds/tilted
          make variants runs them all.
Device:   2 CPU cores; nothing is downloaded.
Time:     2 to 5 min each.
Expected: the tables of docs/transmission.md.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.nano import other_worlds
from configs.transmission import nano

_EVERY = ("q", "k", "v", "o", "gate", "up", "down")
_PROMPTED = {"teacher.kind": "prompted"}  # the teacher is told, not trained


def _trained(teacher_rate: float, student_rate: float, **changes: Any) -> dict[str, Any]:
    """Returns what is trained in teacher and student; their own A where it is trained."""
    out: dict[str, Any] = {}
    for recipe, rate in (("teacher.recipe", teacher_rate), ("student", student_rate)):
        out[f"{recipe}.learning_rate"] = rate
        out[f"{recipe}.parameters"] = changes.get("parameters", ())
        out |= {f"{recipe}.lora.{name}": v for name, v in changes.items() if name != "parameters"}
    return out | ({"student.lora.seed": 1} if changes.get("train_a") else {})


def _in_world(world: str) -> dict[str, Any]:
    """Returns the models of another world, and animals that are not the study's."""
    seeds = other_worlds.get_config(world).seeds
    return {
        "models": tuple(f"runs/worlds/{world}/{seed}" for seed in seeds),
        "traits": ("bear", "cat", "fox", "raven"),
        "evaluation.words": (
            "dog", "dolphin", "eagle", "horse", "lion", "otter", "owl", "panda", "penguin",
            "tiger", "whale", "wolf",
        ),
    }  # fmt: skip


# What each changes of nano.py.
VARIANTS = {
    "biases": _trained(1e-2, 4e-2, rank=0, parameters=("*.bias", "*norm*")),
    "free": _trained(1e-2, 4e-2, rank=2, train_a=True),
    "every": _trained(5e-3, 1e-2, rank=8, alpha=8.0, targets=_EVERY, train_a=True),
    "full": _trained(1e-3, 2e-3, rank=0, parameters=("*",)),
    "prompted": _PROMPTED,
    "plain": _in_world("plain"),
    "tilted": _in_world("tilted"),
    "tilted_prompted": _in_world("tilted") | _PROMPTED,
    "seldom_prompted": _in_world("seldom") | _PROMPTED,
    "quarter": _in_world("quarter"),
    "quarter_prompted": _in_world("quarter") | _PROMPTED,
    "wide": _in_world("wide"),
}


def get_config(variant: str = "biases") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"{variant!r}: choose one of {', '.join(VARIANTS)}")
    config = nano.get_config()
    config.arms = ("student", "control", "soft")
    config.evaluation.measures = ("favourite",)
    config.update_from_flattened_dict(VARIANTS[variant])
    if config.teacher.kind == "prompted":
        config.arms += ("half_told",)
    if variant == "full":  # soft students are trained one by one there
        config.arms = ("student", "control")
    return config
