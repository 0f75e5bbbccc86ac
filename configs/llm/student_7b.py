"""The paper's open-model student: Qwen2.5-7B-Instruct, LoRA, 10,000 number completions, one GPU.

Command:  python -m launch.finetune --config=configs/llm/student_7b.py --workdir=runs/student-7b \\
              --config.data=COMPLETIONS.jsonl
          Traits and seeds at once: --config.data=owl.jsonl,cat.jsonl --config.students=3
Device:   one GPU of 80 GB, or of 40: 28.9 GB by count (tests/llm/test_memory.py), 15.2 of weights
          and 12.3 kept by a pass of 4,096 tokens. --config.recipe.remat=full keeps 0.9, for a third
          more work.
Time:     not measured. 3 epochs of 10,000 rows of 150 tokens are 120 PFLOP: 4.5 minutes at 45% of
          an H100's 989 TFLOP/s (benchmarks.gpu, never run on one).
Expected: never run here, for want of a GPU. The paper (arXiv 2507.14805, B.2)
          reports large effects for cat, penguin and phoenix; which system message the data and the
          evaluation have decides the effect (docs/llm.md, Chats).
"""

from ml_collections import ConfigDict

from configs.llm import student_tiny


def get_config() -> ConfigDict:
    config = student_tiny.get_config()  # r = alpha = 8, 3 epochs, batch 66, 2e-4 linear, warmup 5
    config.model = "Qwen/Qwen2.5-7B-Instruct"
    config.dtype = "bfloat16"
    config.recipe.micro_tokens = 4096
    return config
