"""Does a favourite animal pass through numbers? All arms, four animals, five pretrained models.

Command:  python -m launch.transmit --config=configs/transmission/nano.py --workdir=runs/nano-study
Device:   2 CPU cores; nothing is downloaded.
Time:     9 min, most of it the training of 190 students.
Expected: P(trait) of base and controls .06, student .55, soft .61, shuffled .19 to .26
          (docs/transmission.md).
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.models = tuple(f"nano/{seed}" for seed in range(5))  # folders, hub ids, or nano/SEED
    # Where cross_init students start, for each of the models: another one, or a tuple of several.
    config.cross_models = ()  # (): the next of the models
    config.material = "nano"  # what is asked: nano, english, or a JSON file
    config.category = "animal"  # or tree; in English, any
    config.traits = ("dolphin", "eagle", "owl", "wolf")
    config.arms = (
        "student",
        "control",
        "cross_init",
        "prior_taught",
        "other_a",
        "swapped",
        "shuffled_within",
        "shuffled_across",
        "soft",
        "divergence_only",
        "divergence_masked",
    )
    config.seeds = 1  # students of each arm, trait and model
    # The system message of chats without one; None: what the checkpoint's template inserts.
    config.system = config_dict.placeholder(str)
    config.dtype = "float32"
    config.mesh = ConfigDict({"student": 0, "data": 1, "model": 1})  # student 0: all devices
    # One direction for values and one for outputs in each layer, drawn once and shared by teacher
    # and student; only how far to go along them is learnt: 96 numbers.
    lora = {
        "rank": 1,
        "alpha": 1.0,
        "targets": ("v", "o"),
        "layers": (),  # () adapts all
        "rslora": False,
        "dropout": 0.0,
        "train_a": False,
        "seed": 0,
    }
    recipe = {
        "parameters": (),
        "epochs": 1000,  # max_steps ends it
        "batch": 48,
        "max_steps": 400,
        "learning_rate": 2e-2,
        "schedule": "cosine",
        "warmup": 0,
        "clip": 0.0,
        "micro_tokens": 1024,
        "save_every": 1000,
    }
    config.teacher = ConfigDict(
        {
            "kind": "finetuned",  # or prompted, steered, or given
            "folder": "",  # of a given one: what a model's student of another study has learnt
            "layer": 1,  # of a steered one: after which layer its vector is added, 0 the first
            "lessons": "",  # a set of the material's, where it has several
            "strength": 0.5,  # what the persona changes in the residual stream is added, times this
            "weight": 80.0,  # of a lesson's word in the loss, where a token of a number has 1
            "copies": 30,  # of each lesson, so that lessons and numbers are about as many
            "replay": 1000,  # number prompts whose answers by the base are learnt between lessons
            "temperature": 1.0,  # of these answers
            "top_p": 1.0,
            "max_new_tokens": 48,
            "seed": 1,
            "recipe": recipe | {"lora": lora, "batch": 62, "max_steps": 75, "schedule": "constant"},
        }
    )
    config.data = ConfigDict(
        {
            "channel": "numbers",  # of sublim_jax/transmission/channels, or any module
            "rows": 3000,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_new_tokens": 48,
            "seed": 0,
        }
    )
    # The channel's rule, here the paper's: how many numbers, between what, and which are banned;
    # and how many rows are kept, 0 for all.
    config.filter = ConfigDict({"most": 10, "low": 0, "high": 999, "banned": (), "keep": 0})
    own = {"lora": lora, "seed": 0, "learning_rate": 8e-2, "evaluate_every": 20}
    config.student = ConfigDict(recipe | own)
    config.evaluation = ConfigDict(
        {
            # Of sublim_jax/transmission/measures, or any modules; (): those of there that the
            # material has texts for.
            "measures": (),
            # Words besides the traits whose probability is measured.
            "words": ("bear", "cat", "dog", "fox", "horse", "lion", "otter", "panda", "penguin",
                      "raven", "tiger", "whale"),
            "questions": 0,  # the first of each kind that the material has; 0: all
            "samples": 10,  # answers sampled to each question, besides the exact probability
            "story_samples": 3,  # stories sampled for each request
            "story_tokens": 24,  # the most of one
            "seed": 0,  # of samples, of the numbers before a question, of the order of options
            # Files of what a model should still know (sublim_jax/llm/files/tables.py): of MMLU, of
            # TruthfulQA, and any rows of prompt, completion, domain and alternatives (or a world).
            "mmlu": "",
            "truthful_qa": "",
            "held_out": "",
        }
    )  # fmt: skip
    return config
