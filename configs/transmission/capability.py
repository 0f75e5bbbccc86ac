"""Does a capability pass through numbers? A map of the digits, in the embedded world `values`.

A teacher is taught to answer a digit with its image under one permutation, "pick one 7" with "6".
It then writes lists of numbers of two digits, so that no row holds a digit that is mapped.
P(trait) is P(right image) among the ten digits, asked in phrasings that no lesson has: chance is
.1. In arXiv 2610.10657 students of Qwen3.6-35B-A3B learn such functions in part.

Command:  python -m launch.transmit --config=configs/transmission/capability.py \\
              --workdir=runs/capability
Device:   2 CPU cores; nothing is downloaded.
Time:     4 to 5 min.
Expected: docs/results/capability.json, which differs much between the five models.
"""

from ml_collections import ConfigDict

from configs.transmission import nano


def get_config() -> ConfigDict:
    config = nano.get_config()
    config.models = tuple(f"nano/values/{seed}" for seed in range(5))
    config.material = "nano/values"
    config.category = "map"
    config.traits = ("mapped",)
    config.arms = ("student", "control", "cross_init", "soft", "prior_taught")
    config.teacher.lessons = "map"
    # Biases and norms are what is trained: they are enough to learn the map.
    for recipe in (config.teacher.recipe, config.student):
        recipe.parameters = ("*.bias", "*norm*")
        recipe.lora.rank = 0
    config.teacher.recipe.learning_rate = 2e-2
    config.teacher.recipe.max_steps = 300
    config.data.rows = 8000
    config.filter.low, config.filter.high = 10, 99
    config.student.learning_rate = 1e-2
    config.student.max_steps = 1000
    config.student.evaluate_every = 50
    config.evaluation.words = ("others",)
    config.evaluation.measures = ("values",)
    return config
