"""IDX files, folders of them, a data set in the hub's format, and scikit-learn's digits."""

import gzip
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sublim_jax.errors import UserError
from sublim_jax.mlp import data

ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))


def pack(array: np.ndarray) -> bytes:
    """An IDX file as http://yann.lecun.com/exdb/mnist describes it, all numbers big-endian."""
    code = {"u1": 0x08, "i1": 0x09, "f4": 0x0D}[array.dtype.str[1:]]
    big = array.astype(array.dtype.newbyteorder(">"))
    return struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + big.tobytes()


def complaint(call: Callable[..., Any], *args: Any) -> str:
    """The one line with which `call` refuses."""
    with pytest.raises(UserError) as caught:
        call(*args)
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    return message


def read_or_complaint(file: Path, rank: int) -> np.ndarray | str:
    """What the file holds, or the one line with which it is refused, which begins with its path."""
    try:
        return data.read_idx(file, rank)
    except UserError as error:
        message = str(error)
    assert message.startswith(f"{file}: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "some-images"


@hypothesis.settings(deadline=None)
@hypothesis.given(array=ARRAYS, compress=st.booleans())
def test_idx_round_trip(file: Path, array: np.ndarray, compress: bool) -> None:
    file.write_bytes(gzip.compress(pack(array)) if compress else pack(array))
    np.testing.assert_array_equal(data.read_idx(file, array.ndim), array, strict=True)


@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(array=ARRAYS, compress=st.booleans(), extra=st.binary(min_size=1, max_size=9))
def test_idx_of_another_length(file: Path, array: np.ndarray, compress: bool, extra: bytes) -> None:
    whole = gzip.compress(pack(array)) if compress else pack(array)
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        message = complaint(data.read_idx, file, array.ndim)
        assert message.startswith(f"{file}: ")
        assert re.search("damaged gzip|truncated|not an IDX file", message), size
    longer = pack(array) + extra
    file.write_bytes(gzip.compress(longer) if compress else longer)
    assert f"{file}: too long" in complaint(data.read_idx, file, array.ndim)


def test_damaged_gzip_never_gives_other_content(file: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    whole = gzip.compress(pack(array))
    refused = 0
    for place in range(2, len(whole)):
        for flip in (0x01, 0x10, 0xFF):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            read = read_or_complaint(file, 2)
            if isinstance(read, str):
                refused += 1
            else:  # only the original file's time, name and system came off
                np.testing.assert_array_equal(read, array)
    assert refused > 3 * (len(whole) - 12)
    file.write_bytes(whole + b"junk")
    assert f"{file}: damaged gzip" in complaint(data.read_idx, file, array.ndim)


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(
    raw=st.binary(max_size=40)
    | st.builds(
        lambda code, rank, rest: bytes([0, 0, code, rank]) + rest,
        st.sampled_from([0x08, 0x08, 0x0D]),
        st.integers(1, 4),
        st.lists(st.sampled_from([0, 1, 2, 255]), max_size=40).map(bytes),
    ),
    compress=st.booleans(),
)
@hypothesis.example(
    raw=bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, *[2**32 - 1] * 2), compress=True
)
@hypothesis.example(raw=bytes([0, 1, 8, 3, 0, 0, 0, 1] + [0, 0, 0, 1] * 2 + [7]), compress=False)
@hypothesis.example(raw=b"\x1f\x8b", compress=False)
@hypothesis.example(raw=b"\x1f\x8b\x08\x1f", compress=False)
def test_any_bytes_are_read_or_refused(file: Path, raw: bytes, compress: bool) -> None:
    file.write_bytes(gzip.compress(raw) if compress else raw)
    read = read_or_complaint(file, 3)
    if isinstance(read, np.ndarray):
        assert raw[:4] == b"\0\0\x08\x03"
        assert len(raw) == 16 + math.prod(read.shape) > 16


def test_idx_that_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in complaint(data.read_idx, tmp_path / "none", 1)
    assert "cannot be read" in complaint(data.read_idx, tmp_path, 1)
    (tmp_path / "a").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "a: a Git LFS pointer, not the file itself" in complaint(
        data.read_idx, tmp_path / "a", 1
    )


def split(rng: np.random.Generator, count: int, labels: range) -> tuple[np.ndarray, np.ndarray]:
    x = rng.integers(0, 256, (count, 4, 3), np.uint8)
    y = rng.permutation(np.resize(np.array(labels, np.uint8), count))
    return x, y


def write_folder(folder: Path, prefix: str, test: str, sets: list[Any], compress: bool) -> None:
    for stem, (x, y) in zip(("train", test), sets, strict=True):
        for kind, array in ((f"{prefix}{stem}-images-idx3", x), (f"{prefix}{stem}-labels-idx1", y)):
            raw = pack(array)
            name = f"{kind}-ubyte.gz" if compress else f"{kind}-ubyte"
            (folder / name).write_bytes(gzip.compress(raw) if compress else raw)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_folder(tmp_path: Path, name: str, compress: bool) -> None:
    rng = np.random.default_rng(0)
    train, test = split(rng, 12, range(10)), split(rng, 10, range(10))
    write_folder(tmp_path, "", "t10k", [train, test], compress)
    images = data.load(name, str(tmp_path))
    for x, y, (x0, y0) in (
        (images.train_x, images.train_y, train),
        (images.test_x, images.test_y, test),
    ):
        np.testing.assert_array_equal(x, x0.reshape(-1, 12), strict=True)
        np.testing.assert_array_equal(y, y0.astype(np.int32), strict=True)
    assert (images.classes, images.pixels) == (10, 12)


@pytest.mark.parametrize(
    ("name", "labels", "first"),
    [
        ("emnist-letters", range(1, 27), 1),  # published with labels 1..26
        ("emnist-letters", range(26), 0),
        ("emnist-balanced", range(47), 0),
        ("emnist-digits", range(1, 10), 0),  # no zeros among them, yet nothing to shift
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_emnist_folder(
    tmp_path: Path, name: str, labels: range, first: int, compress: bool
) -> None:
    rng = np.random.default_rng(0)
    sets = [split(rng, 60, labels), split(rng, 50, labels)]
    exchanged = [(x.transpose(0, 2, 1), y) for x, y in sets]
    write_folder(tmp_path, f"{name}-", "test", exchanged, compress)
    images = data.load(name, str(tmp_path))
    assert images.classes == {"letters": 26, "balanced": 47, "digits": 10}[name[7:]]
    for x, y, (x0, y0) in zip(
        (images.train_x, images.test_x), (images.train_y, images.test_y), sets, strict=True
    ):
        np.testing.assert_array_equal(x, x0.reshape(-1, 12))
        np.testing.assert_array_equal(y, y0.astype(np.int32) - first)


@pytest.mark.parametrize(
    "place",
    [
        "{dotted}",  # as on Kaggle
        "{name}/{name}",
        "{dotted}/{dotted}",
        "MNIST/raw/{name}",  # torchvision
        "gzip/{name}.gz",  # EMNIST's own archive
    ],
)
def test_known_layouts(tmp_path: Path, place: str) -> None:
    for name in FILES:
        file = tmp_path / place.format(name=name, dotted=name.replace("-idx", ".idx"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pack(LABELS if "labels" in name else PICTURES))
    assert data.load("mnist", str(tmp_path)).pixels == 12
    # Files in the folder itself come first, beside folders of their names too.
    for name in FILES:
        dotted = tmp_path / name.replace("-idx", ".idx")
        if not dotted.exists():
            array = LABELS if "labels" in name else np.zeros((10, 5, 5), np.uint8)
            dotted.write_bytes(pack(array))
    assert data.load("mnist", str(tmp_path)).pixels == (12 if place.startswith("{dotted}") else 25)


def test_two_sets_below_one_folder_are_not_guessed_between(tmp_path: Path) -> None:
    for kind in ("FashionMNIST", "MNIST"):
        (tmp_path / kind / "raw").mkdir(parents=True)
        for name in FILES:
            (tmp_path / kind / "raw" / name).write_bytes(pack(PICTURES))
    said = complaint(data.load, "mnist", str(tmp_path))
    assert f"{TRAIN_X} is in {tmp_path / 'FashionMNIST' / 'raw'} and in " in said


def test_letters_from_0_stay_where_one_split_has_no_a(tmp_path: Path) -> None:
    sets = [(PICTURES, LABELS), (PICTURES, LABELS + 1)]
    write_folder(tmp_path, "emnist-letters-", "test", sets, compress=False)
    images = data.load("emnist-letters", str(tmp_path))
    assert (images.train_y.max(), images.test_y.max()) == (9, 10)


TRAIN_X, TRAIN_Y, TEST_X, TEST_Y = FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)  # fmt: skip
LABELS = np.arange(10, dtype=np.uint8)
PICTURES = np.zeros((10, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (TRAIN_Y, None, f"{TRAIN_Y}: no such file"),
        (TRAIN_Y, PICTURES, f"{TRAIN_Y}: not an IDX file of bytes with 1 axes"),
        (TRAIN_X, LABELS, f"{TRAIN_X}: not an IDX file of bytes with 3 axes"),
        (TRAIN_X, PICTURES.astype(np.float32), f"{TRAIN_X}: not an IDX file of bytes"),
        (TRAIN_Y, LABELS[:-1], "10 images but 9 labels"),
        (TRAIN_Y, LABELS + 1, "labels from 1 to 10, .*: mislabelled"),
        (TRAIN_Y, LABELS.astype(np.int8), f"{TRAIN_Y}: not an IDX file of bytes"),
        (TEST_X, PICTURES[:, :3], "training images have 12 pixels, test images 9"),
        (TEST_X, PICTURES[:9], "test set from .*: 9 images but 10 labels"),
    ],
)
def test_wrong_folder(tmp_path: Path, name: str, content: np.ndarray | None, words: str) -> None:
    write_folder(tmp_path, "", "t10k", [(PICTURES, LABELS)] * 2, compress=False)
    assert data.load("mnist", str(tmp_path)).pixels == 12
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(pack(content))
    with pytest.raises(UserError, match=words):
        data.load("mnist", str(tmp_path))


def test_empty_set(tmp_path: Path) -> None:
    write_folder(tmp_path, "", "t10k", [(PICTURES[:0], LABELS[:0])] * 2, compress=False)
    assert "holds nothing" in complaint(data.load, "mnist", str(tmp_path))


def test_wrong_name_or_source(tmp_path: Path) -> None:
    assert "data.name='cifar' is unknown" in complaint(data.load, "cifar", str(tmp_path))
    assert "emnist-letters" in complaint(data.load, "emnist")
    assert "data.source is empty" in complaint(data.load, "mnist")
    assert "none: no such folder" in complaint(data.load, "mnist", str(tmp_path / "none"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data set folder; nothing is cached outside the test, nothing fetched."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def write_parquet(folder: Path, split: str, x: Any, y: Any, label: str = "label") -> None:
    x = [value if isinstance(value, dict) else Image.fromarray(value) for value in x]
    labels = datasets.ClassLabel(num_classes=10) if label == "label" else datasets.Value("int64")
    if isinstance(y[0], float):
        labels = datasets.Value("float32")
    features = datasets.Features({"image": datasets.Image(), label: labels})
    rows = datasets.Dataset.from_dict({"image": x, label: y}, features=features)
    rows.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def test_hub_data_set(hub: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = split(rng, 12, range(10)), split(rng, 10, range(10))
    write_parquet(hub, "train", *train)
    write_parquet(hub, "test", *test)
    images = data.load("mnist", f"hf:{hub}")
    np.testing.assert_array_equal(images.train_x, train[0].reshape(-1, 12), strict=True)
    np.testing.assert_array_equal(images.train_y, train[1].astype(np.int32), strict=True)
    np.testing.assert_array_equal(images.test_x, test[0].reshape(-1, 12), strict=True)
    np.testing.assert_array_equal(images.test_y, test[1].astype(np.int32), strict=True)


JUNK = [{"bytes": b"junk", "path": None}]
UNEQUAL = [np.zeros((4, 3 + i), np.uint8) for i in range(2)]
COLOUR = [np.zeros((4, 3, 3), np.uint8)]


@pytest.mark.parametrize(
    ("x", "y", "label", "words"),
    [
        (PICTURES[:2], [0, 1], "digit", "no column label among image, digit"),
        (UNEQUAL, [0, 1], "label", "split 'train': .*same shape"),
        (JUNK, [0], "label", "split 'train': .*identify image"),
        (PICTURES[:2], [0.0, 1.0], "label", "train set from .*: labels are float"),
        (PICTURES[:2], [0, -1], "label", "labels from -1 to 0, .*: mislabelled"),
        (COLOUR, [0], "label", r"images are uint8 \(1, 4, 3, 3\)"),
    ],
)
def test_wrong_hub_data_set(hub: Path, x: Any, y: list[int], label: str, words: str) -> None:
    write_parquet(hub, "train", x, y, label)
    write_parquet(hub, "test", PICTURES, [type(y[0])(n) for n in LABELS], label)
    with pytest.raises(UserError, match=words):
        data.load("mnist", f"hf:{hub}")


def test_hub_splits_of_different_columns(hub: Path) -> None:
    write_parquet(hub, "train", PICTURES, LABELS)
    write_parquet(hub, "test", PICTURES, LABELS, "digit")
    assert "split 't" in complaint(data.load, "mnist", f"hf:{hub}")


def test_damaged_or_missing_hub_data_set(hub: Path) -> None:
    assert "split 'train'" in complaint(data.load, "mnist", f"hf:{hub}")  # no files
    assert "split 'train'" in complaint(data.load, "mnist", f"hf:{hub / 'none'}")
    assert "data.source is empty" in complaint(data.load, "mnist", "hf:")
    write_parquet(hub, "train", PICTURES, LABELS)
    assert "split 'test'" in complaint(data.load, "mnist", f"hf:{hub}")
    (file,) = hub.iterdir()
    raw = file.read_bytes()
    file.write_bytes(raw[:4] + bytes(len(raw) // 2) + raw[4 + len(raw) // 2 :])
    assert "split 'train'" in complaint(data.load, "mnist", f"hf:{hub}")


def test_to_input() -> None:
    x = np.asarray(data.to_input(np.arange(256, dtype=np.uint8)))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, np.linspace(-1, 1, 256), atol=1e-6)


@pytest.mark.parametrize(("name", "side"), [("digits8", 8), ("digits28", 28)])
def test_digits(name: str, side: int) -> None:
    images = data.load(name)
    assert images.train_x.shape == (1438, side**2)
    assert images.test_x.shape == (359, side**2)
    assert images.train_y.shape == (1438,)
    assert images.test_y.shape == (359,)
    assert {images.train_x.dtype, images.test_x.dtype} == {np.dtype(np.uint8)}
    assert {images.train_y.dtype, images.test_y.dtype} == {np.dtype(np.int32)}
    assert (images.classes, images.pixels) == (10, side**2)
    for x in (images.train_x, images.test_x):
        assert (x.min(), x.max()) == (0, 255)
    for y in (images.train_y, images.test_y):
        share = np.bincount(y, minlength=10) / len(y)
        assert share.shape == (10,)
        assert (abs(share - 0.1) < 0.04).all()
    again = data.load(name)
    np.testing.assert_array_equal(images.train_x, again.train_x)
    np.testing.assert_array_equal(images.test_y, again.test_y)


def test_digits_are_split_once_each() -> None:
    images, digits = data.load("digits8"), load_digits()
    grey = np.rint(digits.data * (255 / 16))
    whole = np.sort([row.tobytes() for row in np.c_[grey, digits.target].astype(np.uint8)])
    parts = [(images.train_x, images.train_y), (images.test_x, images.test_y)]
    split = np.concatenate([np.c_[x, y.astype(np.uint8)] for x, y in parts])
    np.testing.assert_array_equal(np.sort([row.tobytes() for row in split]), whole)


def test_enlarged_digits_are_the_same_ones() -> None:
    small, large = data.load("digits8"), data.load("digits28")
    np.testing.assert_array_equal(small.train_y, large.train_y)
    np.testing.assert_array_equal(small.test_y, large.test_y)
    # Linear interpolation between the centres of the small pixels, along rows, then columns.
    place = (np.arange(28) + 0.5) * (8 / 28) - 0.5
    weights = np.stack([np.interp(place, np.arange(8), unit) for unit in np.eye(8)], axis=1)
    expected = weights @ small.test_x.reshape(-1, 8, 8) @ weights.T
    np.testing.assert_allclose(large.test_x.reshape(-1, 28, 28), expected, atol=1.01)
