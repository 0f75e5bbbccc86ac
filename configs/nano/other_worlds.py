"""Decoders of worlds that differ from the committed ones' in one thing, two of each.

Command:  python -m launch.pretrain_nano --config=configs/nano/other_worlds.py:tilted \\
              --workdir=runs/worlds/tilted
          The names after the colon are those of `WORLDS`.
Device:   2 CPU cores.
Time:     about 1 min each; `wide` 3 min.
"""

from ml_collections import ConfigDict

from configs.nano import favourites

WORLDS = {
    "plain": {},  # the committed models' world
    "tilted": {
        "world.tilt": 1.0,
        "world.number_personas": 0.5,
    },  # personas have digits of their own
    "seldom": {"world.number_personas": 0.02},
    "quarter": {"rows": 12800},
    "wide": {"shape.embed": 64, "shape.mlp": 128, "shape.heads": 8, "shape.kv_heads": 4},
}


def get_config(world: str = "plain") -> ConfigDict:
    if world not in WORLDS:
        raise ValueError(f"{world!r}: choose one of {', '.join(WORLDS)}")
    config = favourites.get_config()
    config.seeds = (100, 101)
    config.update_from_flattened_dict(WORLDS[world])
    return config
