"""Rows drawn from (key, row) alone, with the distribution their kind promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sublim_jax.mlp.data import to_input
from sublim_jax.mlp.inputs import KINDS, NOISE, Inputs, make_inputs

COUNT, PIXELS = 64, 30  # a width that does not fill whole words of four grey levels
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (COUNT, PIXELS), np.uint8))


def draw(kind: str, rows: np.ndarray, seed: int = 0, images: jax.Array = IMAGES) -> np.ndarray:
    made = compiled(kind) if images is IMAGES else jax.jit(make_inputs(kind, images))
    return np.asarray(made(jax.random.key(seed), jnp.asarray(rows, jnp.int32)))


@functools.cache
def compiled(kind: str) -> Inputs:
    return jax.jit(make_inputs(kind, IMAGES))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_its_key_and_number_alone(kind: str) -> None:
    x = draw(kind, np.arange(COUNT))
    assert x.shape == (COUNT, PIXELS)
    assert x.dtype == np.float32
    order = np.random.default_rng(1).permutation(COUNT)
    rounding = 1e-6 if kind == "perlin" else 0  # its sums are fused otherwise for other shapes
    for rows in (order, order[:5], np.array([7]), np.array([3, 7, 3])):
        np.testing.assert_allclose(draw(kind, rows), x[rows], rtol=0, atol=rounding)
    assert len(np.unique(x, axis=0)) == COUNT
    differs = (draw(kind, np.arange(COUNT), seed=1) != x).any(axis=1)
    assert differs.all() == (kind != "images")
    assert differs.any() == (kind != "images")


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("pixels", [3, 4, 5])
def test_noise_has_the_width_of_the_images_and_nothing_else_of_them(kind: str, pixels: int) -> None:
    black = jnp.zeros((2, pixels), jnp.uint8)
    x = draw(kind, np.arange(100), images=black)  # more rows than there are images
    assert x.shape == (100, pixels)
    np.testing.assert_array_equal(x, draw(kind, np.arange(100), images=black + jnp.uint8(9)))
    assert len(np.unique(x)) > 50


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_pixels_are_independent(kind: str) -> None:
    x = draw(kind, np.arange(4000))
    pairs = np.corrcoef(x, rowvar=False)[np.triu_indices(PIXELS, 1)]
    assert abs(pairs).max() < 5 / np.sqrt(len(x))
    following = np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1]  # one row and the next
    assert abs(following) < 5 / np.sqrt(x.size)


def test_uniform_noise_is_uniform_on_the_grey_levels() -> None:
    x = draw("uniform", np.arange(4000))
    level = np.rint((x + 1) * 127.5).astype(np.uint8)
    # Compiled, the two roundings of to_input may be one.
    np.testing.assert_allclose(x, to_input(level), rtol=0, atol=1e-6)
    assert stats.chisquare(np.bincount(level.ravel(), minlength=256)).pvalue > 1e-3
    each_pixel = level.mean(axis=0)
    assert (abs(each_pixel - 127.5) < 5 * 73.9 / np.sqrt(len(x))).all()


def test_perlin_noise_is_alike_between_neighbours_alone() -> None:
    side = 28
    x = draw("perlin", np.arange(500), images=jnp.zeros((1, side * side), jnp.uint8))
    assert np.abs(x).max() <= 1
    assert abs(x.mean()) < 0.02
    image = x.reshape(-1, side, side)

    def correlation(apart: int) -> float:
        return float(np.corrcoef(image[:, :, apart:].ravel(), image[:, :, :-apart].ravel())[0, 1])

    assert correlation(1) > 0.9
    assert abs(correlation(14)) < 0.1


def test_gaussian_noise_is_standard_normal() -> None:
    x = draw("gaussian", np.arange(4000))
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / x.size)
    assert (abs(x.mean(axis=0)) < 5 / np.sqrt(len(x))).all()


def test_images_are_the_given_ones() -> None:
    rows = np.array([5, 0, 63, 5])
    np.testing.assert_allclose(draw("images", rows), to_input(IMAGES[rows]), rtol=0, atol=1e-6)


def test_shuffled_pixels_keep_their_values() -> None:
    rows = np.array([5, 0, 63, 5])
    x = draw("shuffled_pixels", rows)
    np.testing.assert_array_equal(np.sort(x), np.sort(draw("images", rows)))
    assert (x != draw("images", rows)).any(axis=1).all()


def test_each_image_is_shuffled_in_its_own_way() -> None:
    ramp = np.tile(np.arange(PIXELS, dtype=np.uint8), (2000, 1))
    x = draw("shuffled_pixels", np.arange(2000), images=jnp.asarray(ramp))
    assert len(np.unique(x, axis=0)) == 2000
    place = np.rint((x + 1) * 127.5)
    spread = np.sqrt((PIXELS**2 - 1) / 12 / len(x))
    assert (abs(place.mean(axis=0) - (PIXELS - 1) / 2) < 5 * spread).all()
