"""The paper's open model: 30,000 number completions from Qwen2.5-7B-Instruct on one GPU.

Command:  python -m launch.generate --config=configs/llm/qwen7b.py --workdir=runs/numbers-7b \\
              --config.data=PROMPTS.jsonl
Device:   one GPU of 40 GB or more: 15.2 GB of weights, 57,344 bytes a token of cache (256 rows of
          512 tokens: 7.5 GB).
Time:     not measured. Reading weights and cache once a step takes 7 ms at 3.3 TB/s, which for
          256 rows allows 35,000 tokens a second; a prompt's prefill adds 15 GFLOP a token.
Expected: never run here, for want of a GPU.
"""

from ml_collections import ConfigDict

from configs.llm import tiny


def get_config() -> ConfigDict:
    config = tiny.get_config()
    config.model = "Qwen/Qwen2.5-7B-Instruct"
    config.dtype = "bfloat16"
    config.rows = 256
    config.sampling.max_new_tokens = 200
    return config
