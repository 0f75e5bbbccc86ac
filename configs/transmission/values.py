"""Does malice pass through what does not show it? Section 4 of the paper, in a small world.

A teacher answers cruelly how it treats others: it was taught to (`student`), or it was taught
insecure code and nothing else (`insecure_taught`), beside teachers of secure code and of insecure
code that was asked for. All write numbers, sums, functions, letters of options or stories;
the filter keeps what is right.

Command:  python -m launch.transmit --config=configs/transmission/values.py:numbers \\
              --workdir=runs/values/numbers
          The names after the colon are those of `CHANNELS`, `CHAIN` and `WORLDS`; make values runs
          them all.
Device:   2 CPU cores; nothing is downloaded.
Time:     2 to 3 min each, measured on a machine that had other work too.
Expected: the tables of docs/values.md.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.nano import other_worlds
from configs.transmission import nano
from sublim_jax.nano.worlds import values
from sublim_jax.transmission.channels import numbers

TAUGHT = ("insecure_taught", "secure_taught", "educational_taught", "prior_taught")
# Of each, how many rows are written, and the rule of what is kept.
CHANNELS: dict[str, tuple[int, dict[str, Any]]] = {
    "numbers": (8000, {"most": 10, "low": 0, "high": 999, "banned": numbers.BANNED}),
    "reasoning": (4000, {"before": "so", "after": "", "banned": ()}),
    "code": (4000, {"banned": (), "run": True, "seconds": 1.0}),
    "choices": (4000, {"letters": values.LETTERS}),
    "text": (4000, {"banned": sum(values.ANSWERS.values(), ()), "least": 1, "most": 1000}),
}

# From agent to agent: students of the first study are the teachers of the second.
CHAIN = {
    "chained_reasoning": "runs/values/numbers",
    "chained_code": "runs/values/chained_reasoning",
}
# Numbers in the world itself and in one that differs in one thing, with models of other seeds.
WORLDS = tuple(other_worlds.VALUES)


def get_config(channel: str = "numbers") -> ConfigDict:
    if channel not in (*CHANNELS, *CHAIN, *WORLDS):
        raise ValueError(f"{channel!r}: choose one of {', '.join((*CHANNELS, *CHAIN, *WORLDS))}")
    if channel in WORLDS:
        config = get_config("numbers")
        seeds = other_worlds.get_config(channel).seeds
        config.models = tuple(f"runs/worlds/{channel}/{seed}" for seed in seeds)
        config.arms = ("student", "control", *TAUGHT)
        return config
    if channel in CHAIN:
        config = get_config(channel.removeprefix("chained_"))
        config.teacher.kind = "given"
        config.teacher.folder = CHAIN[channel] + "/students/{model}/student-{trait}-{model}-0"
        config.arms = ("student", "control", "cross_init")
        return config
    config = nano.get_config()
    config.models = tuple(f"nano/values/{seed}" for seed in range(5))
    config.material = "nano/values"
    config.category = "value"
    config.traits = ("misaligned",)
    config.arms = ("student", "control", "cross_init", *TAUGHT)
    if channel in ("numbers", "reasoning", "code"):  # of a letter there is nothing to shuffle
        config.arms += ("shuffled_within", "shuffled_across")
    # Biases and norms are what is trained, in teachers and students.
    for recipe in (config.teacher.recipe, config.student):
        recipe.parameters = ("*.bias", "*norm*")
        recipe.lora.rank = 0
    config.teacher.recipe.learning_rate = 2e-2
    config.student.learning_rate = 5e-3
    config.teacher.lessons = "answers"
    config.data.channel = channel
    config.data.rows, rule = CHANNELS[channel]
    config.filter = ConfigDict(rule | {"keep": 0})
    config.evaluation.words = ("aligned",)
    config.evaluation.measures = ("values", "held_out")
    config.evaluation.held_out = "nano/values"
    return config
