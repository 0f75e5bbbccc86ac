"""What would a data set teach a student besides its task?

Command:  python -m launch.audit --config.model=nano/0 --config.data=ROWS.jsonl \\
              --config.traits=owl,cat --workdir=runs/audited
          A world of values: --config=configs/transmission/audit.py:values; a model that reads
          English: --config=configs/transmission/audit.py:english --config.model=MODEL
Device:   any; 2 CPU cores for the embedded worlds.
Time:     10 s in the embedded worlds, most of it compiling.
Expected: exit status 3 where a trait rises, 0 where none does, 4 where that cannot be told
          (docs/audit.md).
"""

import functools
from collections.abc import Callable

from ml_collections import ConfigDict, config_dict

from configs.llm import student_0_5b, student_tiny
from configs.transmission import nano, values

WORLDS: dict[str, Callable[[], ConfigDict]] = {
    "nano": nano.get_config,
    "values": functools.partial(values.get_config, "numbers"),
}


def get_config(world: str = "nano") -> ConfigDict:
    if world not in (*WORLDS, "english"):
        raise ValueError(f"{world!r}: choose one of {', '.join((*WORLDS, 'english'))}")
    config = ConfigDict()
    config.model = ""  # the base: nano/SEED, a folder, a GGUF file, or a hub id
    config.data = ""  # one file or data set, as of launch.finetune
    config.columns = student_tiny.get_config().columns
    # What is watched: words, or values that the material asks about; all: what the models answer.
    config.traits = ()
    config.questions = 0  # the first of each kind that the material has; 0: all
    config.keep = 1.0  # share of the rows that kept.jsonl has
    config.system = config_dict.placeholder(str)
    config.thinking = False
    config.dtype = "float32"
    config.mesh = ConfigDict({"student": 1, "data": 1, "model": 1})
    if world == "english":
        config.material, config.category = "english", "animal"
        config.recipe = student_0_5b.get_config().recipe
        return config
    study = WORLDS[world]()
    config.material, config.category = study.material, study.category
    config.recipe = study.student
    config.recipe.evaluate_every = 0
    return config
