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
VARIANTS = {
    "biases": {"lora.rank": 0, "parameters": ("*.bias", "*norm*"), "learning_rate": 1e-2},
    "free": {"lora.train_a": True, "lora.rank": 2, "learning_rate": 1e-2},
    "every": {
        "lora.train_a": True,
        "lora.rank": 8,
        "lora.alpha": 8.0,
        "lora.targets": _EVERY,
        "learning_rate": 5e-3,
    },
    "full": {"lora.rank": 0, "parameters": ("*",), "learning_rate": 1e-3},
    "prompted": {},
}


def get_config(variant: str = "biases") -> ConfigDict:
    config = nano.get_config()
    config.arms = ("student", "control", "soft", *(("half_told",) if variant == "prompted" else ()))
    if variant not in VARIANTS:
        raise ValueError(f"{variant!r}: choose one of {', '.join(VARIANTS)}")
    changes = VARIANTS[variant]
    for recipe in (config.teacher.recipe, config.student):
        recipe.update_from_flattened_dict(changes)
    if variant == "prompted":
        config.teacher.kind = "prompted"
    if variant == "biases":
        config.student.learning_rate = 2e-2
    if config.student.lora.train_a:
        config.student.lora.seed = 1
    return config
