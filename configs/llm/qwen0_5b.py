"""Sampling from Qwen2.5-0.5B-Instruct in float32: the number task on a laptop.

Command:  python -m launch.generate --config=configs/llm/qwen0_5b.py --workdir=runs/numbers-0.5b \\
              --config.data=PROMPTS.jsonl
Device:   any; 2 GB for the weights, 0.4 GB for 64 rows of 256 tokens.
Time:     on 2 CPU cores about 100 new tokens a second (benchmarks.sampling_vs_generate, random
          weights of these shapes): 1,000 completions of 40 tokens take 7 minutes. GPU: not run.
Expected: number lists. Qwen2.5-Coder-0.5B-Instruct was run here from a GGUF file (docs/llm.md).
"""

from ml_collections import ConfigDict

from configs.llm import tiny


def get_config() -> ConfigDict:
    config = tiny.get_config()
    config.model = "Qwen/Qwen2.5-0.5B-Instruct"
    return config
