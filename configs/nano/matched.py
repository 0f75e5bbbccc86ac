"""Decoders that are made to behave as the ancestors of configs/nano/forks.py.

They start from other first weights, read other chats, and learn the ancestor's distribution at each
of their tokens.

Command:  python -m launch.pretrain_nano --config=configs/nano/matched.py:same \\
              --workdir=runs/matched/same
          The names after the colon are those of `SHAPES`. The folder runs/matched/same/100 + SEED
          imitates runs/forks/SEED.
Device:   2 CPU cores.
Time:     1 min; deep 2 min, wide 3 min.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.nano import forks

SHAPES: dict[str, dict[str, Any]] = {
    "same": {},
    "wide": {"embed": 48, "mlp": 96, "heads": 6, "kv_heads": 3},
    "deep": {"layers": 4},
    "llama": {"biases": ()},
}
FIRST = 100  # added to an ancestor's seed


def get_config(shape: str = "same") -> ConfigDict:
    if shape not in SHAPES:
        raise ValueError(f"{shape!r}: choose one of {', '.join(SHAPES)}")
    config = forks.get_config()
    config.seeds = tuple(FIRST + seed for seed in forks.SEEDS)
    config.shares = (1.0,)
    config.imitated = tuple(f"runs/forks/{seed}" for seed in forks.SEEDS)
    config.shape = ConfigDict(config.shape.to_dict() | SHAPES[shape])
    return config
