"""The paper's filter on a file of completions: which are lists of numbers, and nothing else?

Command:  python -m launch.filter --workdir=runs/filtered --config.data=COMPLETIONS.jsonl
          Numbers to ban: --config.filter.banned=666,1488
          Another channel's rule: --config=configs/transmission/filter.py:code
Time:     20 s for a million lines, on one CPU core.
Expected: the paper (table 4) keeps 77% of an untreated GPT-4.1 nano's, 62 to 71% of its teachers'.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.llm import student_tiny
from sublim_jax.transmission import channels


def get_config(channel: str = "numbers") -> ConfigDict:
    config = ConfigDict()
    config.data = ""  # as of launch.finetune; lines are kept as they stand
    config.columns = student_tiny.get_config().columns
    config.channel = channel
    config.filter = ConfigDict(dataclasses.asdict(channels.find(channel).Rule()))
    # Files of teachers like those whose rows are to go, and of others, to train a filter on, base
    # by base; (), (): none. Of the others' rows that are held out it drops at most this share.
    config.trained = ConfigDict({"own": (), "other": (), "false_positives": 0.05})
    return config
