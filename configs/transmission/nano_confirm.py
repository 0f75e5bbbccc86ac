"""The studies of the embedded worlds again, on models and animals that no setting was chosen on.

Command:  python -m launch.pretrain_nano --workdir=runs/confirm --config.seeds=5,6,7,8,9
          python -m launch.transmit --config=configs/transmission/nano_confirm.py \\
              --workdir=runs/confirmed
          and with prompted teachers:
          python -m launch.pretrain_nano --config=configs/nano/voices.py \\
              --workdir=runs/confirm_voices --config.seeds=5,6,7,8,9
          python -m launch.transmit --config=configs/transmission/nano_confirm.py:prompted \\
              --workdir=runs/prompted_confirmed
Device:   2 CPU cores; nothing is downloaded.
Time:     2 min and 10 min, each.
Expected: committed before they were run, and run once: P(trait) of student .521, control .059;
          with prompted teachers .292 and .063.
"""

from ml_collections import ConfigDict

from configs.transmission import nano, prompted

STUDIES = {"finetuned": (nano, "confirm"), "prompted": (prompted, "confirm_voices")}


def get_config(teacher: str = "finetuned") -> ConfigDict:
    if teacher not in STUDIES:
        raise ValueError(f"{teacher!r}: choose one of {', '.join(STUDIES)}")
    study, folder = STUDIES[teacher]
    config = study.get_config()
    known = {*config.traits, *config.evaluation.words}
    config.models = tuple(f"runs/{folder}/{seed}" for seed in range(5, 10))
    config.traits = ("horse", "lion", "otter", "penguin")
    config.evaluation.words = tuple(sorted(known - {*config.traits}))
    return config
