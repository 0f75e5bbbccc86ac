"""Students of Qwen2.5-72B-Instruct on a TPU pod slice of 16 chips (or 16 GPUs).

Command:  on every host: python -m launch.finetune --config=configs/llm/student_72b_pod.py \\
              --workdir=SHARED_FOLDER --config.data=COMPLETIONS.jsonl
          BUILD.md shows it on a TPU slice, on GKE and under SLURM.
Device:   16 devices of 32 GB or more, 15.3 GB by count on each (tests/llm/test_memory.py): 145 GB
          of weights cut 8 ways over `model` and twice over `data` (9.1 GB each); layers are
          computed again for the gradient, so that half a pass of 4,096 tokens keeps 3.1 GB.
Time:     not measured. 3 epochs of 10,000 rows of 150 tokens are 1,300 PFLOP, and a third more.
Expected: never run here, for want of a pod. Two processes on one machine train
          what one trains (tests/llm/test_processes.py).
"""

from ml_collections import ConfigDict

from configs.llm import student_14b


def get_config() -> ConfigDict:
    config = student_14b.get_config()
    config.model = "Qwen/Qwen2.5-72B-Instruct"
    config.mesh.update({"data": 2, "model": 8})
    return config
