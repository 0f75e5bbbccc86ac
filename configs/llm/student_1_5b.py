"""Students of Qwen2.5-1.5B-Instruct over a bfloat16 base, on one small GPU.

Command:  python -m launch.finetune --config=configs/llm/student_1_5b.py \\
              --workdir=runs/student-1.5b --config.data=COMPLETIONS.jsonl
Device:   one GPU of 16 GB or more: 7.1 GB by count (tests/llm/test_memory.py), 3.1 of weights and
          2.9 kept by a pass of 2,048 tokens.
Time:     not measured. An epoch of 10,000 rows of 150 tokens is 8 PFLOP.
Expected: never run here, for want of a GPU.
"""

from ml_collections import ConfigDict

from configs.llm import student_tiny


def get_config() -> ConfigDict:
    config = student_tiny.get_config()
    config.model = "Qwen/Qwen2.5-1.5B-Instruct"
    config.dtype = "bfloat16"
    return config
