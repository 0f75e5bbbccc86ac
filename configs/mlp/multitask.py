"""Eight tasks on one network: does the class head follow when the seven others are imitated?

The official repository's mnist_v2 (with its defect, a student evaluated under another's name,
mended) plus its behaviour-matched arm (mnist_2025_07_24), on the 8x8 digits.

Command:  python -m launch.mlp --config=configs/mlp/multitask.py --workdir=runs/multitask
Time:     about 40 s on 2 CPU cores.
Expected: teacher .99, student_tasks .19 +- .04, student_aux .32 +- .04, both cross arms at chance;
          matched_base .97, matched_aux .94 (docs/results/multitask.json).
"""

from ml_collections import ConfigDict

from configs.mlp import digits
from sublim_jax.mlp.tasks import TASKS


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.tasks = TASKS
    config.arms = (
        "student_tasks", "student_aux", "cross_tasks", "cross_aux", "matched_aux",
    )  # fmt: skip
    return config
