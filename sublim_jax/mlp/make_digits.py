"""Scikit-learn's digits as a larger set of 28x28 images, in the four files that MNIST comes in."""

import math

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from sublim_jax.errors import UserError
from sublim_jax.mlp.data import load
from sublim_jax.rundir import RunDir

SIDE = 28
_DIGIT, _FROM = 20, 8  # the side of a digit within it, as MNIST's; and of scikit-learn's
_ANGLE, _SCALE, _SHIFT = math.radians(10), 1.1, 2.0  # the most; the shift in pixels


def make(config: ConfigDict, workdir: str) -> None:
    """Writes `config.train` and `config.test` images, drawn by `config.seed`, as IDX files.

    Each is one of scikit-learn's 1,797 digits, enlarged, turned, scaled and shifted a little. Those
    of the test set come from digits of which the training set has none (the split of `digits8`).
    `data.load("idx", workdir)` reads them.

    Raises:
      UserError: a count below 1, a negative seed; or as `RunDir`.
    """
    for name, least in (("train", 1), ("test", 1), ("seed", 0)):
        if config[name] < least:
            raise UserError(f"config.{name}={config[name]}: must be at least {least}")
    digits, rng = load("digits8"), np.random.default_rng(config.seed)
    run_dir = RunDir(workdir, "make_digits", config.to_dict())
    for stem, x, y, count in (
        ("train", digits.train_x, digits.train_y, config.train),
        ("t10k", digits.test_x, digits.test_y, config.test),
    ):
        which = rng.integers(len(x), size=count)
        images = np.stack([_moved(x[i].reshape(_FROM, _FROM), rng) for i in which])
        run_dir.write(f"{stem}-images-idx3-ubyte", _idx(images))
        run_dir.write(f"{stem}-labels-idx1-ubyte", _idx(y[which].astype(np.uint8)))
    print(f"written to {run_dir.path}: {config.train} training and {config.test} test images")


def _moved(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns an image uint8 [SIDE, SIDE] of one [8, 8]."""
    angle = rng.uniform(-_ANGLE, _ANGLE)
    scale = _SCALE ** rng.uniform(-1, 1) * _DIGIT / _FROM
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    back = turn / scale  # from a pixel of the new image to a place in the old one
    centre = (SIDE - 1) / 2 + rng.uniform(-_SHIFT, _SHIFT, size=2)
    offset = (_FROM - 1) / 2 - back @ centre
    drawn = ndimage.affine_transform(
        grey.astype(np.float64), back, offset, (SIDE, SIDE), order=1, mode="grid-constant"
    )
    return np.rint(drawn).astype(np.uint8)


def _idx(array: np.ndarray) -> bytes:
    """Returns an array of uint8 as an IDX file, which `data.read_idx` reads."""
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 0x08, array.ndim]) + shape + array.tobytes()
