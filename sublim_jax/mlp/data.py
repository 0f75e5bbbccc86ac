"""Labelled images: scikit-learn's handwritten digits, and the MNIST family from files or a hub.

Shapes: N images, P pixels an image.
"""

import dataclasses
import gzip
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax import digest, disk
from sublim_jax.errors import UserError

_GREY_LEVELS = 255
_DIGITS_MAX = 16  # scikit-learn's digits count the set pixels of 4x4 blocks
_TEST_FRACTION = 0.2
_UNSIGNED_BYTES = 0x08  # as an IDX file calls its type
_CLASSES = {
    "mnist": 10, "fashion_mnist": 10, "idx": 10, "emnist-balanced": 47, "emnist-byclass": 62,
    "emnist-bymerge": 47, "emnist-digits": 10, "emnist-letters": 26, "emnist-mnist": 10,
}  # fmt: skip
NAMES = ("digits8", "digits28", *_CLASSES)


class Arrays(NamedTuple):
    """The arrays of `Images`, as programs take them."""

    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any


@dataclasses.dataclass(frozen=True)
class Images:
    """A labelled image set, split in two.

    Attributes:
      train_x: uint8 [N, P], grey levels 0 (paper) to 255 (ink).
      train_y: int32 [N], labels in [0, classes).
      test_x: uint8 [N', P].
      test_y: int32 [N'].
      classes: number of labels.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int

    @property
    def arrays(self) -> Arrays:
        return Arrays(self.train_x, self.train_y, self.test_x, self.test_y)

    @property
    def pixels(self) -> int:
        return self.train_x.shape[1]

    @property
    def digest(self) -> str:
        """The digest of all images and labels."""
        return digest.of_arrays([self.train_x, self.train_y, self.test_x, self.test_y])


def to_input(grey: jax.Array) -> jax.Array:
    """Maps grey levels (uint8) to the network's input range [-1, 1], as the official code does."""
    return grey.astype(jnp.float32) * (2 / _GREY_LEVELS) - 1


def load(name: str, source: str = "") -> Images:
    """Loads one of `NAMES`.

    Args:
      name: `digits8` (8x8) and `digits28` (the same, enlarged to 28x28) come with scikit-learn and
        need no source; `idx` is any set of ten classes in files that are named as MNIST's, as
        `make_digits` makes one.
      source: for the others, a folder of IDX files (plain or gzip) under their published names, or
        as Kaggle and torchvision keep them; or `hf:` and a Hugging Face data set id (or local
        folder) with columns `image` and `label` and splits `train` and `test`.

    Raises:
      UserError: unknown name, or a missing, truncated or mislabelled file.
    """
    if name in ("digits8", "digits28"):
        return _digits(8 if name == "digits8" else 28)
    if name not in NAMES:
        raise UserError(f"data.name={name!r} is unknown: choose one of {', '.join(NAMES)}")
    if not source.removeprefix("hf:"):
        raise UserError(
            f"data.source is empty: {name} needs a folder of IDX files or hf:<data set id>"
        )
    if source.startswith("hf:"):
        splits = _from_hub(source.removeprefix("hf:"))
    else:
        splits = _from_folder(name, Path(source))
    (train_x, train_y), (test_x, test_y) = (
        _checked(x, y, _CLASSES[name], f"{name} {split} set from {source}")
        for split, (x, y) in splits.items()
    )
    if train_x.shape[1] != test_x.shape[1]:
        raise UserError(
            f"{name} from {source}: training images have {train_x.shape[1]} pixels, "
            f"test images {test_x.shape[1]}"
        )
    return Images(train_x, train_y, test_x, test_y, _CLASSES[name])


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Reads one IDX file of bytes with `rank` axes, plain or gzip (by its content, not its name).

    Raises:
      UserError: missing, truncated, overlong, empty or no such IDX file.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged gzip file ({error}): download it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if raw[:4] != bytes([0, 0, _UNSIGNED_BYTES, rank]):
        begin = repr(raw[:12])[2:-1] or "nothing"
        problem = (
            f"not an IDX file of bytes with {rank} axes (begins with {begin}): download it again"
        )
        raise disk.unreadable(path, problem)
    header = 4 + 4 * rank
    if len(raw) < header:
        raise UserError(f"{path}: truncated within its header: download it again")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", rank, offset=4))
    expected = header + math.prod(shape)
    if len(raw) != expected:
        problem = "truncated" if len(raw) < expected else "too long"
        raise UserError(
            f"{path}: {problem}: {len(raw)} bytes where its header {shape} announces {expected}"
        )
    if 0 in shape:
        raise UserError(f"{path}: holds nothing: its header announces {shape}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _digits(side: int) -> Images:
    from sklearn.datasets import load_digits  # a slow import that the MNIST family does not need

    digits = load_digits()
    grey = digits.images.astype(np.float32) * (_GREY_LEVELS / _DIGITS_MAX)
    if side != grey.shape[1]:
        grey = np.asarray(jax.image.resize(grey, (len(grey), side, side), "linear"))
    x = np.rint(grey).astype(np.uint8).reshape(len(grey), -1)
    y = digits.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [round(_TEST_FRACTION * len(x))])
    return Images(x[train], y[train], x[test], y[test], classes=10)


def _from_folder(name: str, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not folder.is_dir():
        raise UserError(f"data.source={folder}: no such folder")
    emnist = name.startswith("emnist")
    stems = {"train": "train", "test": "test" if emnist else "t10k"}
    splits = {}
    for split, stem in stems.items():
        prefix = f"{name}-{stem}" if emnist else stem
        x = read_idx(_find(folder, f"{prefix}-images-idx3-ubyte"), 3)
        y = read_idx(_find(folder, f"{prefix}-labels-idx1-ubyte"), 1)
        if emnist:
            x = x.transpose(0, 2, 1)  # published with rows and columns exchanged
        splits[split] = (x, y)
    if name == "emnist-letters" and all(y.min() >= 1 for _, y in splits.values()):
        splits = {split: (x, y - 1) for split, (x, y) in splits.items()}  # published from 1 to 26
    return splits


def _find(folder: Path, name: str) -> Path:
    """Returns the file of a published name, in the folder or up to two folders below.

    Kaggle's copies have a dot for the first hyphen of `idx`, and a folder of that name around the
    file; torchvision keeps MNIST in MNIST/raw, and EMNIST comes in a folder gzip.
    """
    names = [n + end for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    for below in ("", "*/", "*/*/"):
        found = [f for n in names for f in sorted(folder.glob(below + n)) if f.is_file()]
        if len({file.parent for file in found}) > 1:
            one, other = found[0].parent, found[-1].parent
            raise UserError(f"{folder}: {name} is in {one} and in {other}: give one of them")
        if found:
            return found[0]
    raise UserError(f"{folder / name}: no such file, plain or .gz")


def _from_hub(name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    import datasets  # a slow import that the other sources do not need

    splits = {}
    for split in ("train", "test"):
        try:
            rows: Any = datasets.load_dataset(name, split=split)
            missing = {"image", "label"} - set(rows.column_names)
            if missing:
                raise UserError(
                    f"data.source=hf:{name}: no column {', '.join(sorted(missing))} "
                    f"among {', '.join(rows.column_names)}"
                )
            # Images are decoded here, so damaged ones and ones of different sizes fail here too.
            x = np.stack([np.asarray(image) for image in rows["image"]])
            splits[split] = (x, np.asarray(rows["label"]))
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"data.source=hf:{name}: split {split!r}: {reason}") from error
    return splits


def _checked(
    x: np.ndarray, y: np.ndarray, classes: int, where: str
) -> tuple[np.ndarray, np.ndarray]:
    if x.ndim != 3 or x.dtype != np.uint8:
        raise UserError(f"{where}: images are {x.dtype} {x.shape}, not uint8 [N, rows, columns]")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{where}: labels are {y.dtype} {y.shape}, not integers [N]")
    if len(x) != len(y):
        raise UserError(f"{where}: {len(x)} images but {len(y)} labels: files of different sets?")
    if y.min() < 0 or y.max() >= classes:
        raise UserError(
            f"{where}: labels from {y.min()} to {y.max()}, not within 0..{classes - 1}: mislabelled"
        )
    return x.reshape(len(x), -1), y.astype(np.int32)
