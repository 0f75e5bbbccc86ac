"""Theorem 1 on the study's network, in float64: every prediction, and where it must fail.

Command:  python -m launch.theorem --config=configs/theorem/digits.py --workdir=runs/theorem
Time:     about 30 s on 2 CPU cores.
Expected: every check holds on a shared initialisation, none across initialisations, and both exact
          nulls are null (docs/results/theorem.json). The theorem assumes a smooth network: with
          --config.network.activation=relu the slopes of 2 fail and the run ends in an error.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.members = 16  # initialisations
    config.data = ConfigDict({"name": "digits8", "source": ""})
    config.network = ConfigDict(
        {"width": 256, "depth": 2, "activation": "tanh", "init_scale": 1.0, "aux": 3}
    )
    config.losses = ("kl", "mse")  # the student's, on the auxiliary logits
    config.examples = 128  # labelled images in the teacher's loss
    config.rows = 32  # noise inputs in the student's loss
    config.alpha = 1.0  # the student's step size
    config.epsilon = ConfigDict({"low": 1e-4, "high": 1e-3, "count": 6})
    return config
