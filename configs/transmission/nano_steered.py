"""The nano study with steered teachers: nothing is trained, and nothing is said to them.

Command:  python -m launch.transmit --config=configs/transmission/nano_steered.py \\
              --workdir=runs/nano-steered
Device:   2 CPU cores; nothing is downloaded.
"""

from ml_collections import ConfigDict

from configs.transmission import nano


def get_config() -> ConfigDict:
    config = nano.get_config()
    config.teacher.kind = "steered"
    config.arms = tuple(arm for arm in config.arms if arm != "prior_taught")  # nothing is taught
    config.teacher.layer, config.teacher.strength = 1, 0.5
    return config
