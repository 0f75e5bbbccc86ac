"""Sampling from Qwen2.5-1.5B-Instruct in bfloat16, on one small GPU.

Command:  python -m launch.generate --config=configs/llm/qwen1_5b.py --workdir=runs/numbers-1.5b \\
              --config.data=PROMPTS.jsonl
Device:   one GPU of 8 GB or more: 3.1 GB of weights, 28,672 bytes a token of cache.
Time:     not measured. The floor of a step is reading the weights: 3 ms at 1 TB/s.
Expected: never run here, for want of a GPU.
"""

from ml_collections import ConfigDict

from configs.llm import tiny


def get_config() -> ConfigDict:
    config = tiny.get_config()
    config.model = "Qwen/Qwen2.5-1.5B-Instruct"
    config.dtype = "bfloat16"
    return config
