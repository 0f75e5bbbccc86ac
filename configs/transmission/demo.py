"""The nano study for one pretrained model and three animals: the second half of `make demo`.

Command:  python -m launch.transmit --config=configs/transmission/demo.py --workdir=runs/numbers
Device:   2 CPU cores; nothing is downloaded.
"""

from ml_collections import ConfigDict

from configs.transmission import nano


def get_config() -> ConfigDict:
    config = nano.get_config()
    config.models = ("nano/0",)
    config.cross_models = ("nano/1",)
    config.traits = ("eagle", "owl", "wolf")
    config.student.batch = 24  # half of the study's, for time
    config.evaluation.measures = ("favourite",)
    return config
