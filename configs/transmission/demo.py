"""The studies of the embedded worlds, one model and three animals of each: part of `make demo`.

Command:  python -m launch.transmit --config=configs/transmission/demo.py --workdir=runs/numbers
          python -m launch.transmit --config=configs/transmission/demo.py:prompted \\
              --workdir=runs/prompted_numbers
Device:   2 CPU cores; nothing is downloaded.
"""

from ml_collections import ConfigDict

from configs.transmission import nano, prompted

STUDIES = {"finetuned": (nano, "nano"), "prompted": (prompted, "nano/voices")}


def get_config(teacher: str = "finetuned") -> ConfigDict:
    if teacher not in STUDIES:
        raise ValueError(f"{teacher!r}: choose one of {', '.join(STUDIES)}")
    study, models = STUDIES[teacher]
    config = study.get_config()
    config.models = (f"{models}/0",)
    config.cross_models = (f"{models}/1",)
    config.traits = ("eagle", "owl", "wolf")
    config.evaluation.measures = ("favourite",)
    if teacher == "finetuned":
        config.student.batch = 24  # half of the study's, for time
    else:
        config.arms = ("student", "control", "cross_init", "shuffled_within", "told")
    return config
