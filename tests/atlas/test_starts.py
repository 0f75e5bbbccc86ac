"""Changed initialisations: which functions and which parts stay the same."""

import chex
import jax
import numpy as np
import pytest

from sublim_jax.atlas import starts
from sublim_jax.mlp import network

CLASSES, HEADS = 4, 3
SIZES = (6, 32, 32, CLASSES + HEADS)
NOTHING = dict.fromkeys(
    ("blend", "noise", "fresh_hidden", "fresh_class", "fresh_aux", "permuted", "rescaled"), 0.0
) | {"init_scale": 1.0}
INIT, APPLY = network.functional(SIZES)
OWN, OTHER = (INIT(jax.random.key(i)) for i in (0, 1))
X = jax.random.normal(jax.random.key(2), (9, 6))


def started(**values):
    given = {name: np.float32(value) for name, value in (NOTHING | values).items()}
    return starts.start(OWN, OTHER, given, CLASSES, jax.random.key(3))


def last(params):
    return np.split(np.asarray(starts.layers(params)[-1]["kernel"]), [CLASSES], axis=1)


def test_unchanged_it_is_the_teachers():
    chex.assert_trees_all_equal(started(), OWN)


@pytest.mark.parametrize("change", [{"permuted": 1}, {"rescaled": 0.7},
                                    {"permuted": 1, "rescaled": 0.7}])  # fmt: skip
def test_a_symmetry_keeps_the_function_and_not_the_parameters(change):
    params = started(**change)
    chex.assert_trees_all_close(APPLY(params, X), APPLY(OWN, X), atol=1e-4, rtol=1e-4)
    for mine, theirs in zip(starts.layers(params), starts.layers(OWN), strict=True):
        assert np.abs(mine["kernel"] - theirs["kernel"]).max() > 0.3


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_blend_keeps_the_variance(share):
    first = np.asarray(starts.layers(started(blend=share))[1]["kernel"])
    assert first.std() == pytest.approx(32**-0.5, rel=0.1)
    alike = np.corrcoef(first.ravel(), np.asarray(starts.layers(OWN)[1]["kernel"]).ravel())[0, 1]
    assert alike == pytest.approx((1 - share) / np.hypot(share, 1 - share), abs=0.08)


def test_noise_is_in_units_of_each_layer():
    for mine, own in zip(starts.layers(started(noise=0.5)), starts.layers(OWN), strict=True):
        change = np.asarray(mine["kernel"] - own["kernel"])
        assert change.std() == pytest.approx(0.5 * change.shape[0] ** -0.5, rel=0.2)


@pytest.mark.parametrize("part", ["hidden", "class", "aux"])
def test_a_part_is_anothers(part):
    params = started(**{f"fresh_{part}": 1})
    expected = {name: (OTHER if name == part else OWN) for name in ("hidden", "class", "aux")}
    chex.assert_trees_all_equal(starts.layers(params)[:-1], starts.layers(expected["hidden"])[:-1])
    for found, source, i in zip(last(params), ("class", "aux"), (0, 1), strict=True):
        assert np.array_equal(found, last(expected[source])[i])


@pytest.mark.parametrize(("depth", "own"), [(1, {0: 0, 1: 2}), (2, {0: 0, 1: 1, 2: 2}),
                                            (4, {0: 0, 1: 1, 4: 2})])  # fmt: skip
def test_layers_are_the_teachers_from_both_ends(depth, own):
    init, apply = network.functional((6, *[32] * depth, CLASSES + HEADS))
    fresh = init(jax.random.key(4))
    params = starts.of_depth(OWN, fresh)
    assert apply(params, X).shape == (9, CLASSES + HEADS)
    for i, layer in enumerate(starts.layers(params)):
        source = starts.layers(OWN)[own[i]] if i in own else starts.layers(fresh)[i]
        chex.assert_trees_all_equal(layer, source)
