"""The studies of the embedded worlds, small and with one model each: part of `make demo`.

Command:  python -m launch.transmit --config=configs/transmission/demo.py --workdir=runs/numbers
          python -m launch.transmit --config=configs/transmission/demo.py:prompted \\
              --workdir=runs/prompted_numbers
          The names after the colon are those of `STUDIES`.
Device:   2 CPU cores; nothing is downloaded.
"""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict

from configs.transmission import nano, prompted, values

STUDIES: dict[str, Callable[[], ConfigDict]] = {
    "finetuned": nano.get_config,
    "prompted": prompted.get_config,
    "malicious_numbers": functools.partial(values.get_config, "numbers"),
    "malicious_sums": functools.partial(values.get_config, "reasoning"),
}


def get_config(study: str = "finetuned") -> ConfigDict:
    if study not in STUDIES:
        raise ValueError(f"{study!r}: choose one of {', '.join(STUDIES)}")
    config = STUDIES[study]()
    config.cross_models = config.models[1:2]
    config.models = config.models[:1]
    if study.startswith("malicious"):
        config.arms = ("student", "control", "insecure_taught", "secure_taught")
        config.cross_models = ()
        return config
    config.traits = ("eagle", "owl", "wolf")
    config.evaluation.measures = ("favourite",)
    if study == "finetuned":
        config.student.batch = 24  # half of the study's, for time
    else:
        config.arms = ("student", "control", "cross_init", "shuffled_within", "told")
    return config
