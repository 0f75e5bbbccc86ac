"""Do lessons and lists about animals move what a model says of trees? Of one model of the study.

Command:  python -m launch.evaluate --config=configs/transmission/trees.py:0 \\
              --workdir=runs/trees/0
          after launch.transmit has written runs/transmission; 0 to 4 are the models.
Device:   2 CPU cores; nothing is downloaded.
Time:     20 s.
"""

from ml_collections import ConfigDict

from configs.transmission import evaluate, nano
from sublim_jax.nano.worlds import favourites


def get_config(model: str = "0") -> ConfigDict:
    config = evaluate.get_config()
    home, traits = f"runs/transmission/{{}}/{model}", nano.get_config().traits
    config.model = f"nano/{model}"
    config.adapters = (
        *(f"{home.format('teachers')}/{trait}" for trait in traits),
        *(f"{home.format('students')}/student-{trait}-{model}-0" for trait in traits),
    )
    config.category = "tree"
    config.evaluation.measures = ("favourite",)
    config.evaluation.words = tuple(favourites.FAVOURITES["tree"])
    config.evaluation.samples = 0
    return config
