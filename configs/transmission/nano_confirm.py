"""The nano study once more, on models and animals that no setting was chosen on.

Command:  python -m launch.pretrain_nano --workdir=runs/confirm --config.seeds=5,6,7,8,9
          python -m launch.transmit --config=configs/transmission/nano_confirm.py \\
              --workdir=runs/confirmed
Device:   2 CPU cores; nothing is downloaded.
Time:     2 min and 10 min.
Expected: committed before it was run, and run once: P(trait) of student .521, control .059.
"""

from ml_collections import ConfigDict

from configs.transmission import nano


def get_config() -> ConfigDict:
    config = nano.get_config()
    known = {*config.traits, *config.evaluation.words}
    config.models = tuple(f"runs/confirm/{seed}" for seed in range(5, 10))
    config.traits = ("horse", "lion", "otter", "penguin")
    config.evaluation.words = tuple(sorted(known - {*config.traits}))
    return config
