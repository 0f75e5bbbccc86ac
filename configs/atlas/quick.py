"""A small atlas that a test runs: the facts that must come out whatever the device.

Command:  python -m launch.atlas --config=configs/atlas/quick.py --workdir=runs/atlas-quick
Device:   2 CPU cores; nothing is downloaded.
Time:     45 s.
Expected: one logit .08, ten .73; permuted as the teacher's own .62; another's initialisation .12.
"""

from ml_collections import ConfigDict

from configs.atlas import digits


def get_config() -> ConfigDict:
    config = digits.get_config()
    config.members, config.linear_members = 6, 2
    config.cell.update({"width": 64, "steps": 500, "rate": 3e-3})
    sweeps = config.sweeps
    sweeps.aux.values = (1, 3, 10)
    sweeps.aux.lines = {"KL": {"heads": 10}}
    sweeps.noise.values = (0.0, 0.1, 1.0)
    sweeps.noise.lines = {"3 logits": {}}
    for name in set(sweeps) - {"aux", "noise", "symmetry"}:
        del sweeps[name]
    del sweeps.symmetry.lines["another's, behaviour matched"]
    return config
