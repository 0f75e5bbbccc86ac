"""Who infects whom: a favourite animal between models, each taken as the teachers' and as a start.

Command:  python -m launch.transmit --config=configs/transmission/matrix.py --workdir=runs/matrix
          `committed`: teachers of each of the five committed decoders of the world of voices, and
          students that start from each.
          python -m launch.transmit --config=configs/transmission/matrix.py:ancestors \
              --workdir=runs/ancestors
          `ancestors`: teachers of five ancestors, and students that start from forks of theirs,
          from the next ancestor, and from decoders of other shapes that behave alike; the models
          are those of configs/nano/forks.py and configs/nano/matched.py.
Device:   2 CPU cores; nothing is downloaded.
Time:     8 min and 15 min.
"""

from ml_collections import ConfigDict

from configs.nano import forks, matched
from configs.transmission import prompted

KINDS = ("committed", "ancestors")


def get_config(kind: str = "committed") -> ConfigDict:
    if kind not in KINDS:
        raise ValueError(f"{kind!r}: choose one of {', '.join(KINDS)}")
    config = prompted.get_config()
    config.arms = ("student", "control", "cross_init")
    config.evaluation.measures, config.evaluation.samples = ("favourite",), 0
    if kind == "ancestors":  # 220 students: less of each
        config.arms = ("student", "cross_init")
        config.data.rows, config.student.max_steps, config.student.evaluate_every = 3000, 200, 0
        config.models = tuple(f"runs/forks/{seed}" for seed in forks.SEEDS)
        config.cross_models = tuple(map(_others, forks.SEEDS))
    else:
        config.cross_models = tuple(
            tuple(other for other in config.models if other != model) for model in config.models
        )
    return config


def _others(seed: int) -> tuple[str, ...]:
    """Returns where students of an ancestor's teachers start, besides at the ancestor."""
    return (
        *(f"runs/forks/{seed}-{share:g}" for share in forks.SHARES),
        f"runs/forks/{(seed + 1) % len(forks.SEEDS)}",
        *(f"runs/matched/{shape}/{matched.FIRST + seed}" for shape in matched.SHAPES),
    )
