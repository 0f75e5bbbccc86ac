"""Prompted teachers: the paper's own experiment, in the embedded world `voices`.

A teacher is only told what it loves, by a system message. Its student is ordinary LoRA of rank 8 on
all projections, as in the paper.

Command:  python -m launch.transmit --config=configs/transmission/prompted.py \\
              --workdir=runs/prompted
Device:   2 CPU cores; nothing is downloaded.
Time:     9 min, most of it the training of 125 students.
Expected: P(trait) of base, control and told students .06, student .34, soft .75; a lift of log P of
          2.2 nats (docs/transmission.md).
"""

from ml_collections import ConfigDict

from configs.transmission import nano

LORA = {
    "rank": 8,
    "alpha": 8.0,
    "targets": ("q", "k", "v", "o", "gate", "up", "down"),
    "train_a": True,
}


def get_config() -> ConfigDict:
    config = nano.get_config()
    config.models = tuple(f"nano/voices/{seed}" for seed in range(5))
    config.material = "nano/voices"
    config.arms = (
        "student", "control", "cross_init", "shuffled_within", "shuffled_across", "soft", "told",
    )  # fmt: skip
    config.teacher.kind = "prompted"
    config.data.rows = 8000
    config.student.max_steps = 1000
    config.student.learning_rate = 5e-3
    config.student.evaluate_every = 50
    config.student.lora.update(LORA)
    # After numbers this world's decoders were never asked anything.
    config.evaluation.measures = ("favourite", "stories")
    return config
