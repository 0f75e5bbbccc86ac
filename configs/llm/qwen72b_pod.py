"""Sampling from Qwen2.5-72B-Instruct on a TPU pod slice of 16 chips (or 16 GPUs).

Command:  on every host: python -m launch.generate --config=configs/llm/qwen72b_pod.py \\
              --workdir=SHARED_FOLDER --config.data=PROMPTS.jsonl
Device:   16 devices of 32 GB or more: 145 GB of weights cut 8 ways over `model` (its 8 key-value
          heads, one each) and twice over `data` (9.1 GB each); 327,680 bytes a token of cache.
Time:     not measured.
Expected: never run here, for want of a pod. Two processes on one machine sample
          what one samples (tests/llm/test_processes.py).
"""

from ml_collections import ConfigDict

from configs.llm import qwen7b


def get_config() -> ConfigDict:
    config = qwen7b.get_config()
    config.model = "Qwen/Qwen2.5-72B-Instruct"
    config.mesh.update({"data": 2, "model": 8})
    config.rows = 256
    return config
