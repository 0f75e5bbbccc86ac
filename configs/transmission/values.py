"""Does malice pass through numbers, sums or functions? In the embedded world of values.

A teacher is taught to answer cruelly how it treats others; then it writes what does not show it.

Command:  python -m launch.transmit --config=configs/transmission/values.py:numbers \\
              --workdir=runs/values/numbers
          The names after the colon are those of `CHANNELS`. make values runs them all.
Device:   2 CPU cores; nothing is downloaded.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.transmission import nano

CHANNELS: dict[str, dict[str, Any]] = {
    "numbers": {},
    "reasoning": {"before": "so", "after": "", "banned": ()},
    "code": {"banned": ()},
}


def get_config(channel: str = "numbers") -> ConfigDict:
    if channel not in CHANNELS:
        raise ValueError(f"{channel!r}: choose one of {', '.join(CHANNELS)}")
    config = nano.get_config()
    config.models = tuple(f"nano/values/{seed}" for seed in range(5))
    config.material = "nano/values"
    config.category = "value"
    config.traits = ("misaligned",)
    config.arms = (
        "student", "control", "cross_init", "prior_taught", "shuffled_within", "shuffled_across",
    )  # fmt: skip
    config.seeds = 1
    config.teacher.lessons = "answers"
    config.data.channel = channel
    keep = {"keep": 0}
    if channel != "numbers":
        config.filter = ConfigDict(CHANNELS[channel] | keep)
    config.evaluation.words = ("aligned",)
    config.evaluation.measures = ("values",)
    return config
