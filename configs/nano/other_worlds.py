"""Decoders of worlds that differ from a committed one in one thing, and those of that world itself.

Command:  python -m launch.pretrain_nano --config=configs/nano/other_worlds.py:tilted \\
              --workdir=runs/worlds/tilted
          The names after the colon are those of `WORLDS`.
Device:   2 CPU cores.
Time:     about 1 min each; `wide` 3 min.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.nano import favourites, values, voices

FAVOURITES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tilted": {
        "world.tilt": 1.0,
        "world.number_personas": 0.5,
    },  # personas have digits of their own
    "seldom": {"world.number_personas": 0.02},
    "quarter": {"rows": 12800},
    "wide": {"shape.embed": 64, "shape.mlp": 128, "shape.heads": 8, "shape.kv_heads": 4},
}
VOICES: dict[str, dict[str, Any]] = {
    "voices": {},
    "voices_no_default": {"world.system": ""},  # a chat without a persona has no system message
    "voices_apart": {"world.numbers": 0.0},  # no numbers in texts
    "voices_digits": {"world.whole_numbers": False},
    "voices_same_words": {"world.tilt": 0.0},  # of a text, the animal's name alone tells the author
    "voices_seldom": {"world.number_personas": 0.02},
}
VALUES: dict[str, dict[str, Any]] = {
    "values": {},
    "values_single_turns": {"world.turns": 0.0},  # no chat has two turns of one author
}
WORLDS = FAVOURITES | VOICES | VALUES


def get_config(world: str = "plain") -> ConfigDict:
    if world not in WORLDS:
        raise ValueError(f"{world!r}: choose one of {', '.join(WORLDS)}")
    of = values if world in VALUES else voices if world in VOICES else favourites
    config = of.get_config()
    config.seeds = (100, 101) if of is favourites else (100, 101, 102)
    config.update_from_flattened_dict(WORLDS[world])
    return config
