"""Students of any checkpoint folder in float32 on one device, by the paper's recipe.

Command:  python -m sublim_jax.llm.testing runs/tiny-model
          python -m launch.finetune --config=configs/llm/student_tiny.py --workdir=runs/student \\
              --config.model=runs/tiny-model --config.data=COMPLETIONS.jsonl
Device:   any; a laptop's CPU.
Time:     about 15 s for 1,000 rows on 2 CPU cores, mostly compilation.
Expected: the loss falls; the random model that the first command writes has nothing to pass on.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = ""  # a Hugging Face folder, a GGUF file, or a hub id
    # JSONL, CSV or Parquet of {"prompt", "completion"} or {"messages"}; or hf:NAME:CONFIG:SPLIT, a
    # `datasets` id or folder. Several, separated by commas: students for each, all trained at once.
    # sublim_jax/llm/files/rows.py says what a row has.
    config.data = ""
    # What the file calls these columns: for {"question", "response"}, prompt=question and so on.
    config.columns = ConfigDict(
        {"prompt": "prompt", "completion": "completion", "messages": "messages"}
    )
    config.students = 1  # for each data set; the n-th adds n to recipe.seed and recipe.lora.seed
    config.start = ""  # folders of students or PEFT adapters to go on from: one, or one for each
    config.teacher = ""  # of distillation: a model, or such folders: one, or one for each student
    config.merge = False  # whether whole models are written, beside what was trained
    config.dtype = "float32"  # of the base, or bfloat16; what is trained is float32 always
    config.mesh = ConfigDict({"student": 1, "data": 1, "model": 1})  # devices on each axis
    # The system message of chats without one; None: what the checkpoint's template inserts.
    config.system = config_dict.placeholder(str)
    config.thinking = False  # whether answers may begin with a thought, where the template knows it
    config.wandb = ""  # a Weights & Biases project
    config.profile = ConfigDict({"first": 10, "steps": 0})  # steps of a jax.profiler trace
    # sublim_jax/llm/training/recipe.py says what each of these means.
    config.recipe = ConfigDict(
        {
            "lora": ConfigDict(
                {
                    "rank": 8,  # 0: no adapter
                    "alpha": 8.0,
                    "targets": ("q", "k", "v", "o", "gate", "up", "down"),
                    "rslora": False,
                    "layers": (),  # () adapts all
                    "dropout": 0.0,
                    "train_a": True,
                    "seed": 0,
                }
            ),
            "parameters": (),
            "objective": "cross_entropy",
            "tokens": (),
            "epochs": 3,
            "batch": 66,
            "max_steps": 0,
            "learning_rate": 2e-4,
            "seed": 0,
            "schedule": "linear",
            "warmup": 5,
            "optimizer": ConfigDict({"name": "adam"}),
            "clip": 1.0,
            "micro_tokens": 2048,
            "remat": "none",
            "held_out": 0,
            "evaluate_every": 0,
            "patience": 0,
            "save_every": 100,
            "log_every": 10,
        }
    )
    return config
