"""Sampling from Qwen2.5-14B-Instruct, its layers cut over two GPUs.

Command:  python -m launch.generate --config=configs/llm/qwen14b.py --workdir=runs/numbers-14b \\
              --config.data=PROMPTS.jsonl          (one GPU of 80 GB: --config.mesh.model=1)
Device:   two GPUs of 40 GB: 29.5 GB of weights, 196,608 bytes a token of cache (128 rows of 512
          tokens: 12.9 GB).
Time:     not measured. Reading half of the weights each takes 7 ms a step at 2 TB/s.
Expected: never run here, for want of GPUs.
"""

from ml_collections import ConfigDict

from configs.llm import qwen7b


def get_config() -> ConfigDict:
    config = qwen7b.get_config()
    config.model = "Qwen/Qwen2.5-14B-Instruct"
    config.mesh.model = 2
    config.rows = 128
    return config
