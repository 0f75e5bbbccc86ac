"""What can be compared only at a learning rate of its own: each at the best of four.

Command:  python -m launch.atlas --config=configs/atlas/rates.py --workdir=runs/atlas_rates
Device:   2 CPU cores; nothing is downloaded.
Time:     12 minutes.
Expected: docs/atlas.md; Muon .82, Adam .69, plain gradient descent .40 (at a rate of 1).
"""

from ml_collections import ConfigDict

from configs.atlas import digits
from configs.atlas.digits import MANY, Fields, sweep

_BEST = {"rate": (3e-4, 1e-3, 3e-3, 1e-2)}
_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0, 100.0)
_OPTIMIZERS = {"sgd": "SGD", "momentum": "momentum", "sign_sgd": "sign of the gradient",
               "rmsprop": "RMSprop", "adam": "Adam", "muon": "Muon"}  # fmt: skip
_ANCHORS = {"images": "images", "shuffled_pixels": "shuffled images", "perlin": "Perlin noise",
            "gaussian": "Gaussian noise", "uniform": "uniform noise"}  # fmt: skip


def get_config() -> ConfigDict:
    config = digits.base()
    config.linear_members = 0
    add_sweeps(config)
    return config


def add_sweeps(config: ConfigDict) -> None:
    """Adds those in which the best learning rate differs."""
    student: dict[str, Fields] = {"student": {}}
    sweep(
        config,
        "loss",
        "KL or squared error?",
        {"KL": MANY, "squared error": {**MANY, "loss": "mse"}},
        "aux",
        (1, 2, 3, 5, 10, 20, 64),
        best=_BEST,
    )
    sweep(
        config,
        "optimizer",
        "Which optimisers transfer, at which learning rate?",
        {label: {"optimizer": name} for name, label in _OPTIMIZERS.items()},
        "rate",
        _RATES,
    )
    sweep(
        config,
        "best_optimizer",
        "And each at the best of these?",
        student,
        "optimizer",
        tuple(_OPTIMIZERS),
        best={"rate": _RATES},
    )
    batches = (8, 16, 32, 64, 128, 256)
    steps = f"{config.cell.steps:,} steps"
    sweep(config, "batch", "Batch size?", {steps: {}}, "batch", batches, best=_BEST)
    sweep(config, "width", "Width?", student, "width", (32, 64, 128, 256, 512), best=_BEST)
    sweep(config, "depth", "Depth?", student, "depth", (1, 2, 3, 4, 6), best=_BEST)
    kinds = ("relu", "gelu", "silu", "tanh")
    sweep(config, "activation", "Activation?", student, "activation", kinds, best=_BEST)
    anchors = {
        f"anchor on {label}": {"defence": "anchor", "anchor": kind}
        for kind, label in _ANCHORS.items()
    }
    sweep(
        config,
        "defence",
        "What keeps the trait out: a divergence from the start?",
        {**anchors, "liminal": {"defence": "liminal"}},
        "strength",
        (0.1, 1.0, 10.0, 100.0),
    )
