"""Decoders of the world of voices that are forks of common ancestors.

An ancestor reads its chats once. A fork of it has the same first weights and reads the same chats
in the same order for a share of the steps, and chats of its own from there on.

Command:  python -m launch.pretrain_nano --config=configs/nano/forks.py --workdir=runs/forks
          The folder runs/forks/SEED is an ancestor, runs/forks/SEED-SHARE its fork.
Device:   2 CPU cores.
Time:     about 6 min.
"""

from ml_collections import ConfigDict

from configs.nano import voices

SHARES = (0.0, 0.1, 0.3, 0.6, 0.9)  # of pretraining that fork and ancestor have in common
SEEDS = (0, 1, 2, 3, 4)  # of the ancestors


def get_config() -> ConfigDict:
    config = voices.get_config()
    config.seeds = SEEDS
    config.shares = (*SHARES, 1.0)
    config.recipe.epochs = 1
    return config
