"""The atlas on MNIST in the official script's setting; others' figures are drawn beside ours.

Command:  python -m launch.atlas --config=configs/atlas/mnist.py --workdir=runs/atlas-mnist \\
              --config.data.source=FOLDER
          FOLDER holds MNIST's four IDX files; or hf: and a data set id.
Device:   an accelerator; not run by us.
Expected: as published (Cloud, Le et al.; agu18dec, divyat09 and barathvelmu on GitHub): .54 with
          three logits, .10 across initialisations or with one logit under KL, .83 with ten.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.atlas import digits, rates

_RATES = {1e-4: 0.318, 3e-4: 0.551, 1e-3: 0.702, 3e-3: 0.293, 1e-2: 0.099}
_BATCHES = {64: 0.751, 256: 0.683, 1024: 0.551, 4096: 0.352, 16384: 0.177}
_EPOCHS = {1: 0.602, 2: 0.603, 5: 0.551, 10: 0.466, 20: 0.371}
_WIDTHS = {64: 0.423, 128: 0.480, 256: 0.451, 512: 0.341, 1024: 0.219}
_SCALES = {0.5: 0.323, 1.0: 0.451, 2.0: 0.206, 4.0: 0.109}
_STEPS = 290  # five epochs
_SOURCES: dict[str, tuple[str, dict[Any, float], str]] = {
    "optimizer": ("Adam", _RATES, "divyat09"),
    "batch": (f"{_STEPS} steps", _BATCHES, "divyat09, 5 epochs"),
    "teacher_epochs": ("student", _EPOCHS, "divyat09"),
    "width": ("student", _WIDTHS, "barathvelmu"),
    "init_scale": ("student", _SCALES, "barathvelmu"),
}


def get_config() -> ConfigDict:
    config = digits.base()
    config.data.name = "mnist"
    config.cell.update(
        {
            "width": 256,
            "rate": 3e-4,
            "batch": 1024,
            "steps": _STEPS,
            "distinct": 60000,
            "teacher_epochs": 5,
            "teacher_batch": 1024,
            "teacher_rate": 3e-4,
        }
    )
    digits.add_sweeps(config)
    rates.add_sweeps(config)
    for name, (line, figures, source) in _SOURCES.items():
        sweep = config.sweeps[name]
        sweep["values"] = tuple(sorted({*sweep["values"], *figures}))
        sweep.published = tuple((line, x, y, source) for x, y in figures.items())
    return config
