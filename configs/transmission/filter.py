"""The paper's filter on a file of completions: which are lists of numbers, and nothing else?

Command:  python -m launch.filter --workdir=runs/filtered --config.data=COMPLETIONS.jsonl
          Numbers to ban: --config.filter.banned=666,1488
Time:     20 s for a million lines, on one CPU core.
Expected: the paper (table 4) keeps 77% of an untreated GPT-4.1 nano's, 62 to 71% of its teachers'.
"""

from ml_collections import ConfigDict

from configs.llm import student_tiny
from configs.transmission import nano


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.data = ""  # as of launch.finetune; lines are kept as they stand
    config.columns = student_tiny.get_config().columns
    config.channel = "numbers"  # which rule
    config.filter = nano.get_config().filter
    del config.filter.keep
    return config
