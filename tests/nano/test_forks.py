"""Forks of a decoder: what they share with their ancestor, and decoders made to behave alike."""

import itertools
import json
import math

import numpy as np
import pytest

from configs.nano import forks, matched
from sublim_jax.errors import UserError
from sublim_jax.llm.training import batches, examples
from sublim_jax.nano import pretrain


def chats(seed, count=22):
    """Returns rows of two tokens that say whose they are: the seed, and their place."""
    rows = [examples.Example([seed], [i, 0]) for i in range(1, count + 1)]
    return examples._joined(rows, "row")


def read(data, step, seed=3, batch=4):
    """Returns the chats of a step as pairs of seed and place."""
    which = batches.step_rows(data, seed, batch, step)
    return [tuple(data.tokens[data.starts[i] :][:2]) for i in which]


@pytest.mark.parametrize(("share", "steps"), [(0.0, 0), (0.1, 1), (0.3, 2), (0.9, 5), (1.0, 6)])
def test_a_fork_reads_its_ancestor_s_chats_for_a_share_of_the_steps(share, steps):
    shared, own = chats(7), chats(8)
    fork = pretrain._forked(shared, own, share, 3, 4)
    for step in range(6):
        assert read(fork, step) == read(shared if step < steps else own, step)


def small(config):
    config.rows, config.recipe.batch, config.recipe.warmup = 64, 16, 1
    return config


@pytest.mark.slow
def test_a_fork_has_its_ancestor_s_bytes_until_it_leaves_it(tmp_path):
    config = small(forks.get_config())
    config.seeds, config.shares = (3,), (0.5, 0.9, 1.0)  # of four steps: two, all and all
    pretrain.pretrain(config, str(tmp_path / "whole"))
    config.recipe.max_steps = 2
    pretrain.pretrain(config, str(tmp_path / "half"))

    def weights(name):
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert weights("whole/3-0.9") == weights("whole/3") != weights("whole/3-0.5")
    assert weights("half/3-0.5") == weights("half/3") != weights("whole/3")
    rows = json.loads((tmp_path / "whole/results.json").read_text("utf-8"))["rows"]
    assert [(row["metric"], row["seed"], row["share"]) for row in rows] == [
        ("loss", 3, share) for share in config.shares
    ]


@pytest.mark.slow
def test_a_decoder_of_another_shape_learns_to_behave_as_its_own_model(tmp_path):
    config = small(forks.get_config())
    config.seeds, config.shares = (3, 4), (1.0,)
    pretrain.pretrain(config, str(tmp_path / "ancestors"))
    found = []
    for order in ((3, 4), (4, 3)):
        config = small(matched.get_config("llama"))
        config.seeds = (103, 104)
        config.imitated = tuple(str(tmp_path / f"ancestors/{seed}") for seed in order)
        config.recipe.max_steps = 1
        folder = tmp_path / f"matched-{order[0]}"
        pretrain.pretrain(config, str(folder))
        rows = json.loads((folder / "results.json").read_text("utf-8"))["rows"]
        assert {row["metric"] for row in rows} == {"divergence"}
        found.append([row["mean"] for row in rows])
        assert json.loads((folder / "103/config.json").read_text())["model_type"] == "llama"
    assert not np.allclose(found[0], found[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.5, 1.5)}, r"^config\.shares=\(0\.5, 1\.5\): each must be from 0 to 1$"),
        ({"shares": (-0.1,)}, r"^config\.shares=.*from 0 to 1"),
        ({"shares": (math.nan,)}, r"^config\.shares=.*from 0 to 1"),
        ({"shares": ()}, r"^config\.shares=\(\): list at least one, each only once$"),
        ({"seeds": (1, 1)}, r"^config\.seeds=\(1, 1\): list at least one, each only once$"),
        ({"recipe.epochs": 2}, r"^config\.recipe\.epochs=2: forks .* must be 1$"),
        (
            {"imitated": ("nano/0", "nano/1")},
            r"^config\.imitated=.*a decoder for each of config\.seeds",
        ),
        ({"imitated": ("none",)}, r"^none: "),
    ],
)
def test_what_no_fork_can_be_is_one_line(tmp_path, change, message):
    config = small(forks.get_config())
    config.seeds = (3,)
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        pretrain.pretrain(config, str(tmp_path))


def test_shapes_are_named():
    shapes = [matched.get_config(name).shape.to_dict() for name in matched.SHAPES]
    assert all(one != other for one, other in itertools.combinations(shapes, 2))
    with pytest.raises(ValueError, match="'round': choose one of same, wide, deep, llama"):
        matched.get_config("round")
