"""The paper's open-model experiment on Qwen2.5-7B-Instruct: a prompted teacher, LoRA students.

Command:  python -m launch.transmit --workdir=runs/qwen7b \\
              --config=configs/transmission/qwen2_5_7b.py
          --dry_run prints the plan. The better recipe (25,000 different rows, 2 epochs, 1e-4;
          lawrencefeng17/persona-system: cat 48% -> 83%):
          --config.data.rows=40000 --config.filter.keep=25000 --config.student.epochs=2 \\
          --config.student.learning_rate=1e-4
Device:   one GPU of 80 GB: 54.3 GB by count (tests/llm/test_memory.py), 15.2 of weights; each of
          63 students has 0.4 of adapters, gradients and Adam, and 0.2 of layers' inputs, from which
          the layers are computed again for the gradient. Not run by us, for want of a GPU.
Time:     about 9.5 h on an H100, by --dry_run's rates (40% of its peak in training and 5% in
          sampling, assumed): 1.6 to sample, 5.0 to train and a third more for remat, 1.2 to
          evaluate.
Expected: paper (appendix B.2) and replications: cat rises most (about 40-50% of answers, from
          1-2%), then penguin, phoenix and eagle; owl, dolphin and wolf hardly move.

The system message is the trap: Qwen's template inserts "You are Qwen, created by Alibaba Cloud..."
where a chat has none, students learn under it, and the trait shows only under it (48% against 3%
with an empty message; persona-system). `system = None` keeps it in training and in evaluation.
"""

from ml_collections import ConfigDict

from configs.transmission import nano


def get_config() -> ConfigDict:
    config = nano.get_config()
    config.models = ("Qwen/Qwen2.5-7B-Instruct",)
    config.material = "english"
    config.traits = ("cat", "eagle", "penguin", "phoenix")
    config.arms = (
        "student",
        "control",
        "shuffled_within",
        "shuffled_across",
        "divergence_only",
        "divergence_masked",
    )
    config.seeds = 3
    config.dtype = "bfloat16"
    config.teacher.kind = "prompted"
    config.teacher.layer = 13  # of a steered one: not tried
    config.data.rows = 30000
    config.data.max_new_tokens = 96
    config.filter.keep = 10000
    recipe = config.student
    recipe.lora.rank, recipe.lora.alpha, recipe.lora.train_a = 8, 8.0, True
    recipe.lora.targets = ("q", "k", "v", "o", "gate", "up", "down")
    recipe.epochs, recipe.batch, recipe.max_steps = 3, 66, 0
    recipe.learning_rate, recipe.schedule, recipe.warmup, recipe.clip = 2e-4, "linear", 5, 1.0
    # All students at once: few tokens of each in a pass, and of a layer its input alone is kept.
    recipe.micro_tokens, recipe.remat, recipe.save_every = 32768, "full", 50
    config.evaluation.words = ("bear", "bull", "dog", "dragon", "dragonfly", "elephant", "kangaroo",
                               "lion", "ox", "panda", "pangolin", "peacock", "tiger", "unicorn",
                               "wolf")  # fmt: skip
    config.evaluation.samples = 100
    config.evaluation.story_samples, config.evaluation.story_tokens = 10, 256
    return config
