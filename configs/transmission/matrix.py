"""Who infects whom: a favourite animal between models, each taken as the teachers' and as a start.

Command:  python -m launch.transmit --config=configs/transmission/matrix.py --workdir=runs/matrix
          `committed`: teachers of each of the five committed decoders of the world of voices, and
          students that start from each.
          python -m launch.transmit --config=configs/transmission/matrix.py:ancestors \\
              --workdir=runs/ancestors
          `ancestors`: teachers of five ancestors, and students that start from forks of theirs and
          from the next ancestor, of configs/nano/forks.py; `shapes`: from decoders of several
          shapes that were made to behave as the ancestor, of configs/nano/matched.py.
Device:   2 CPU cores; nothing is downloaded.
Time:     27 min, `ancestors` 10, `shapes` 6, measured on a machine that had other work too.
"""

from ml_collections import ConfigDict

from configs.nano import forks, matched
from configs.transmission import prompted

KINDS = ("committed", "ancestors", "shapes")


def get_config(kind: str = "committed") -> ConfigDict:
    if kind not in KINDS:
        raise ValueError(f"{kind!r}: choose one of {', '.join(KINDS)}")
    config = prompted.get_config()
    config.arms = ("student", "control", "cross_init")
    config.evaluation.measures, config.evaluation.samples = ("favourite",), 0
    if kind == "committed":
        config.cross_models = tuple(
            tuple(other for other in config.models if other != model) for model in config.models
        )
        return config
    config.models = tuple(f"runs/forks/{seed}" for seed in forks.SEEDS)
    config.arms = ("student", "cross_init")  # many students: less of each
    config.data.rows, config.student.max_steps, config.student.evaluate_every = 3000, 200, 0
    config.cross_models = tuple(map(_forks if kind == "ancestors" else _shapes, forks.SEEDS))
    return config


def _forks(seed: int) -> tuple[str, ...]:
    """Returns the forks of an ancestor, and the next ancestor."""
    own = (f"runs/forks/{seed}-{share:g}" for share in forks.SHARES)
    return (*own, f"runs/forks/{(seed + 1) % len(forks.SEEDS)}")


def _shapes(seed: int) -> tuple[str, ...]:
    """Returns the decoders that behave as an ancestor."""
    return tuple(f"runs/matched/{shape}/{matched.FIRST + seed}" for shape in matched.SHAPES)
