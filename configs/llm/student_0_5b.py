"""A student of Qwen2.5-0.5B-Instruct in float32: LoRA on a laptop.

Command:  python -m launch.finetune --config=configs/llm/student_0_5b.py \\
              --workdir=runs/student-0.5b --config.data=COMPLETIONS.jsonl
Device:   any with 8 GB of memory: 4.4 GB by count (tests/llm/test_memory.py).
Time:     see benchmarks.lora_vs_peft (random weights of these shapes, 2 CPU cores): 10,000 rows of
          the number task are some hours an epoch. GPU: not run.
Expected: the loss falls. The model of the name was not trained here (docs/llm.md: what was).
"""

from ml_collections import ConfigDict

from configs.llm import student_tiny


def get_config() -> ConfigDict:
    config = student_tiny.get_config()
    config.model = "Qwen/Qwen2.5-0.5B-Instruct"
    config.recipe.micro_tokens = 1024
    config.recipe.save_every = 10
    return config
