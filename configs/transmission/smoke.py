"""Does every channel work on a real checkpoint? A few rows are written, filtered and learnt.

Command:  python -m launch.transmit --config=configs/transmission/smoke.py:code \\
              --workdir=runs/smoke/code --config.models="('MODEL',)"
          The names after the colon are those of `CHANNELS`; MODEL is any checkpoint, a GGUF file
          among them. The report says how many rows are kept, and why the others are not.
Device:   2 CPU cores for a model of 0.1B parameters, better a GPU for one of 0.5B; --dry_run says
          how long it takes.
Expected: nothing of the trait: the students take three steps.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.transmission import qwen2_5_0_5b

_TRAIT = "wolf"
# The filter of each channel, and the most tokens of an answer.
CHANNELS: dict[str, tuple[dict[str, Any], int]] = {
    "numbers": ({"most": 10, "low": 0, "high": 999, "banned": ()}, 48),
    "reasoning": ({"before": "<answer>", "after": "</answer>", "banned": (_TRAIT,)}, 200),
    "code": ({"banned": (_TRAIT,), "run": True, "seconds": 1.0}, 120),
    "choices": ({"letters": ("A", "B", "C", "D")}, 4),
    "text": ({"banned": (_TRAIT,), "least": 20, "most": 300}, 200),
}


def get_config(channel: str = "numbers") -> ConfigDict:
    if channel not in CHANNELS:
        raise ValueError(f"{channel!r}: choose one of {', '.join(CHANNELS)}")
    config = qwen2_5_0_5b.get_config()
    config.traits, config.arms, config.seeds = (_TRAIT,), ("student", "control"), 1
    config.dtype = "float32"
    rule, tokens = CHANNELS[channel]
    config.filter = ConfigDict(rule | {"keep": 0})
    config.data.channel, config.data.rows, config.data.max_new_tokens = channel, 16, tokens
    config.student.max_steps, config.student.batch, config.student.epochs = 3, 2, 3
    config.student.evaluate_every = 0
    config.evaluation.words, config.evaluation.questions = ("owl",), 3
    config.evaluation.measures, config.evaluation.samples = ("favourite",), 0
    return config
