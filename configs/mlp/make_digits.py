"""28x28 digits in the files that MNIST comes in, made from scikit-learn's 8x8 ones.

Command:  python -m launch.make_digits --workdir=runs/digits-idx
Device:   1 CPU core; nothing is downloaded.
Time:     2 s.
Expected: four files that --config.data.name=idx --config.data.source=runs/digits-idx reads.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict({"seed": 0, "train": 3000, "test": 1000})
