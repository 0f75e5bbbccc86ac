"""Students of Qwen2.5-14B-Instruct, its layers cut over two GPUs.

Command:  python -m launch.finetune --config=configs/llm/student_14b.py \\
              --workdir=runs/student-14b --config.data=COMPLETIONS.jsonl
Device:   two GPUs of 40 GB, 18.6 GB by count on each (tests/llm/test_memory.py): half of 29.5 GB
          of weights; layers are computed again for the gradient (remat), so that a pass of 4,096
          tokens keeps 2 GB.
          On one GPU of 80 GB: --config.mesh.model=1.
Time:     not measured. 3 epochs of 10,000 rows of 150 tokens are 240 PFLOP, and a third more.
Expected: never run here, for want of GPUs.
"""

from ml_collections import ConfigDict

from configs.llm import student_7b


def get_config() -> ConfigDict:
    config = student_7b.get_config()
    config.model = "Qwen/Qwen2.5-14B-Instruct"
    config.mesh.model = 2
    config.recipe.remat = "full"
    return config
