"""Theorem 1 on the study's network, in float64: every prediction, and where it must fail.

Command:  python -m launch.theorem --config=configs/theorem/digits.py --workdir=runs/theorem
Time:     about 20 s on 2 CPU cores.
Expected: every check holds on a shared initialisation and none across initialisations; both exact
          nulls are null. The network is smooth, as the theorem asks; with
          --config.network.activation=relu the two slopes of 2 come out anywhere between 1 and
          3.5: a piecewise linear network has hardly any second order until an input crosses a
          kink. The run then ends in an error, as it should.
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
