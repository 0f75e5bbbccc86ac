"""The study of numbers with other things trained, or by other teachers.

Command:  python -m launch.transmit --config=configs/transmission/variants.py:biases \\
              --workdir=runs/biases
          The names after the colon are those of `VARIANTS`.
Device:   2 CPU cores; nothing is downloaded.
Time:     2 to 10 min each.
Expected: the table of docs/transmission.md.
"""

from ml_collections import ConfigDict

from configs.transmission import nano

_EVERY = ("q", "k", "v", "o", "gate", "up", "down")
# What is trained in teacher and student, and the learning rate of each.
VARIANTS = {
    "biases": ({"lora.rank": 0, "parameters": ("*.bias", "*norm*")}, 1e-2, 4e-2),
    "free": ({"lora.train_a": True, "lora.rank": 2}, 1e-2, 4e-2),
    "every": (
        {"lora.train_a": True, "lora.rank": 8, "lora.alpha": 8.0, "lora.targets": _EVERY},
        5e-3,
        1e-2,
    ),
    "full": ({"lora.rank": 0, "parameters": ("*",)}, 1e-3, 2e-3),
    "prompted": ({}, None, 8e-2),  # the teacher is told, not trained
}


def get_config(variant: str = "biases") -> ConfigDict:
    config = nano.get_config()
    config.arms = ("student", "control", "soft")
    if variant not in VARIANTS:
        raise ValueError(f"{variant!r}: choose one of {', '.join(VARIANTS)}")
    changes, teacher_rate, student_rate = VARIANTS[variant]
    for recipe in (config.teacher.recipe, config.student):
        recipe.update_from_flattened_dict(changes)
    config.student.learning_rate = student_rate
    if teacher_rate is None:
        config.teacher.kind = "prompted"
        config.arms += ("half_told",)
    else:
        config.teacher.recipe.learning_rate = teacher_rate
    if config.student.lora.train_a:
        config.student.lora.seed = 1
    return config
