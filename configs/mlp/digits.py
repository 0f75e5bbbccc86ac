"""The six arms on scikit-learn's 8x8 handwritten digits: the demo, no download.

Command:  python -m launch.mlp --config=configs/mlp/digits.py --workdir=runs/demo
Time:     about 30 s on 2 CPU cores, 4 of them compilation.
Expected: reference .10, teacher .99, student_aux .67 +- .06, student_all .98, cross_aux .10 +- .02,
          cross_all .97 (docs/results/demo.json).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.members = 20  # teachers, each with a student of every arm
    config.data = ConfigDict({"name": "digits8", "source": ""})
    config.network = ConfigDict(
        {"width": 256, "depth": 2, "activation": "relu", "init_scale": 1.0, "aux": 3}
    )
    config.tasks = ("class",)  # what the teacher is trained on
    config.arms = ("student_aux", "student_all", "cross_aux", "cross_all")
    config.optimizer = ConfigDict({"name": "adam", "learning_rate": 1e-3})
    config.batch = 64
    config.teacher = ConfigDict({"epochs": 30, "evaluate_every": 3})
    config.student = ConfigDict(
        {
            "epochs": 50,
            "evaluate_every": 5,
            "inputs": "uniform",
            "rows": 1280,  # noise rows an epoch
            "fresh": True,  # new noise every epoch, or one fixed set
            "loss": "kl",
            "temperature": 1.0,
        }
    )
    config.match = ConfigDict({"rows": 1000, "epochs": 10})  # for matched arms
    return config
