"""The 28x28 digits that are made from scikit-learn's, read back as any set in MNIST's files."""

import chex
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.neighbors import KNeighborsClassifier

from configs.mlp import make_digits as config
from sublim_jax.errors import UserError
from sublim_jax.mlp import data, make_digits


def made(folder, **changes):
    given = config.get_config()
    given.update(changes)
    make_digits.make(given, str(folder))
    return data.load("idx", str(folder))


def test_they_are_digits_that_their_neighbours_name(tmp_path):
    """Test images come from other digits than training images do, and are like those of a kind."""
    images = made(tmp_path / "one", train=1500, test=300)
    assert images.train_x.shape == (1500, 28 * 28)
    assert images.test_x.shape == (300, 28 * 28)
    assert images.train_x.max() > 240
    edge = images.train_x.reshape(-1, 28, 28)[:, 0]
    assert edge.mean() < images.train_x.mean() / 10
    reader = KNeighborsClassifier(1).fit(images.train_x / 255, images.train_y)
    assert 0.8 < reader.score(images.test_x / 255, images.test_y) < 1
    assert len(np.unique(images.train_x, axis=0)) > 1490


def test_the_seed_draws_them(tmp_path):
    one, again, other = (
        made(tmp_path / name, train=20, test=10, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    chex.assert_trees_all_equal(one.arrays, again.arrays)
    assert not np.array_equal(one.train_x, other.train_x)


@pytest.mark.parametrize("change", [{"train": 0}, {"test": -1}, {"seed": -1}])
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, change):
    (name,) = change
    with pytest.raises(UserError, match=f"config.{name}=.*: must be at least") as error:
        make_digits.make(ConfigDict({**config.get_config(), **change}), str(tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
