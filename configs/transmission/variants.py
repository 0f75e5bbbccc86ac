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
from configs.transmission import nano, prompted

_HARD = ("student", "control")
_PROMPTED: dict[str, Any] = {
    "teacher.kind": "prompted",  # the teacher is told, not trained
    "arms": (*_HARD, "soft", "half_told"),
}


def _trained(teacher_rate: float, student_rate: float, **changes: Any) -> dict[str, Any]:
    """Returns what is trained in teacher and student; their own A where it is trained."""
    out = _recipe("teacher.recipe", teacher_rate, **changes) | _recipe(
        "student", student_rate, **changes
    )
    return out | ({"student.lora.seed": 1} if changes.get("train_a") else {})


def _recipe(name: str, rate: float, **changes: Any) -> dict[str, Any]:
    """Returns what is trained in teachers or students: the recipe's `parameters` or its `lora`."""
    out = {f"{name}.learning_rate": rate, f"{name}.parameters": changes.pop("parameters", ())}
    return out | {f"{name}.lora.{field}": value for field, value in changes.items()}


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
FAVOURITES = {
    "biases": _trained(1e-2, 4e-2, rank=0, parameters=("*.bias", "*norm*")),
    "free": _trained(1e-2, 4e-2, rank=2, train_a=True),
    "every": _trained(5e-3, 1e-2, **prompted.LORA),
    # Soft students of all parameters would be trained one by one.
    "full": _trained(1e-3, 2e-3, rank=0, parameters=("*",)) | {"arms": _HARD},
    "prompted": _PROMPTED,
    "prompted_every": _PROMPTED
    | _recipe("student", 5e-3, **prompted.LORA)
    # All as in prompted.py, but the world.
    | {"data.rows": 8000, "student.max_steps": 1000, "arms": _HARD},
    "plain": _in_world("plain"),
    "tilted": _in_world("tilted"),
    "tilted_prompted": _in_world("tilted") | _PROMPTED,
    "seldom_prompted": _in_world("seldom") | _PROMPTED,
    "quarter": _in_world("quarter"),
    "quarter_prompted": _in_world("quarter") | _PROMPTED,
    "wide": _in_world("wide"),
    "trees": {
        "category": "tree",
        "traits": ("birch", "maple", "oak", "willow"),
        "evaluation.words": ("ash", "cedar", "elm", "pine"),
    },
}
# What each changes of prompted.py.
VOICES = {world: _in_world(world) for world in other_worlds.VOICES} | {
    "voices_biases": _in_world("voices")
    | _recipe("student", 4e-2, rank=0, parameters=("*.bias", "*norm*")),
    "voices_confined": _in_world("voices")
    | _recipe("student", 8e-2, rank=1, alpha=1.0, targets=("v", "o"), train_a=False),
}
VARIANTS = FAVOURITES | VOICES


def get_config(variant: str = "biases") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"{variant!r}: choose one of {', '.join(VARIANTS)}")
    config = (prompted if variant in VOICES else nano).get_config()
    config.arms = _HARD if variant in VOICES else (*_HARD, "soft")
    config.evaluation.measures = ("favourite",)
    config.update_from_flattened_dict(VARIANTS[variant])
    return config
