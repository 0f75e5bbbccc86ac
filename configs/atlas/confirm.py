"""Does what predicted the atlas predict another one? Its predictors on new students.

Command:  python -m launch.atlas --config=configs/atlas/confirm.py:digits8 \\
              --workdir=runs/atlas_confirm_digits8
          python -m launch.make_digits --workdir=runs/digits-idx
          python -m launch.atlas --config=configs/atlas/confirm.py:idx \\
              --workdir=runs/atlas_confirm_idx
Device:   2 CPU cores; nothing is downloaded.
Time:     8 and 10 minutes.
Expected: committed before they were run, and run once each: rank correlation of landed .95, .92.
"""

from ml_collections import ConfigDict

from configs.atlas import digits, rates

# Another seed of the same images; and larger images, for which fewer and shorter trainings do.
PARTS = {
    "digits8": {},
    "idx": {
        "data.name": "idx",
        "data.source": "runs/digits-idx",
        "members": 6,
        "cell.steps": 500,
    },
}
# Without those that take long trainings or many programs, repeat others' cells, or have no twin.
_LEFT_OUT = (
    "teacher_epochs", "steps", "student_depth", "student_network", "dynamics", "trait", "hops",
)  # fmt: skip
_RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def get_config(part: str = "digits8") -> ConfigDict:
    if part not in PARTS:
        raise ValueError(f"{part!r}: choose one of {', '.join(PARTS)}")
    config = digits.base()
    config.update_from_flattened_dict(PARTS[part])
    config.seed = 1
    digits.add_sweeps(config)
    for name in _LEFT_OUT:
        del config.sweeps[name]
    config.sweeps.optimizer = rates.get_config().sweeps.optimizer
    config.sweeps.optimizer.values = _RATES
    return config
