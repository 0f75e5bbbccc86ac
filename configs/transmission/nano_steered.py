"""The nano study with steered teachers: nothing is trained, and nothing is said to them.

Command:  python -m launch.transmit --config=configs/transmission/nano_steered.py:1_0.5 \\
              --workdir=runs/steered/1_0.5
          After the colon stand the layer and the strength; docs/transmission.md has those of
          `MEASURED`.
Device:   2 CPU cores; nothing is downloaded.
Time:     2 to 3 min each.
"""

from ml_collections import ConfigDict

from configs.transmission import nano

MEASURED = ("0_1", "1_0.25", "1_0.5", "1_0.75", "1_1")


def get_config(how: str = "1_0.5") -> ConfigDict:
    layer, _, strength = how.partition("_")
    config = nano.get_config()
    config.teacher.kind = "steered"
    try:
        config.teacher.layer, config.teacher.strength = int(layer), float(strength)
    except ValueError as error:
        raise ValueError(f"{how!r}: a layer and a strength are needed, as in 1_0.5") from error
    config.arms = ("student", "control")
    config.evaluation.measures = ("favourite",)
    return config
