"""Which animals does a model prefer, and with an adapter? For any model and any PEFT folders.

Command:  python -m launch.evaluate --workdir=runs/preferred --config.model=nano/0 \\
              --config.adapters=runs/numbers/students/0/student-owl-0-0
          Qwen2.5, after launch.finetune has written runs/student:
          python -m launch.evaluate --workdir=runs/preferred --config.model=FOLDER \\
              --config.adapters=runs/student/students/0,runs/student/students/1 \\
              --config.material=english --config.dtype=bfloat16 \\
              --config.evaluation.words=owl,cat,eagle --config.evaluation.story_tokens=256
          What it still knows, from copies of MMLU and TruthfulQA (or hf:cais/mmlu:all:test):
          python -m launch.evaluate --workdir=runs/knows --config.model=FOLDER \\
              --config.material=english --config.evaluation.measures=mmlu,truthful_qa \\
              --config.evaluation.mmlu=mmlu.parquet --config.evaluation.truthful_qa=TruthfulQA.csv
Device:   any; 2 CPU cores for nano/SEED.
Time:     15 s for nano/SEED and two adapters, nearly all compilation.
Expected: P(owl) .043 for nano/0.
"""

from ml_collections import ConfigDict, config_dict

from configs.transmission import nano


def get_config() -> ConfigDict:
    study = nano.get_config()
    config = ConfigDict()
    config.model = ""  # a folder, a hub id, or nano/SEED
    config.adapters = ()  # PEFT folders, or of the students or teachers of a study
    # The system message of chats without one; None: what the checkpoint's template inserts.
    config.system = config_dict.placeholder(str)
    for name in ("material", "category", "dtype", "mesh", "evaluation"):
        config[name] = study[name]
    config.evaluation.words = tuple(sorted({*study.traits, *study.evaluation.words}))
    return config
