"""What the students look at: noise made on the device from each row's own key, or images.

A row is named by an integer and drawn from (key, row) alone, so noise is never stored: a fixed set
of rows is the same few integers again, a fresh one counts on.

Shapes: B rows, P pixels, N images.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sublim_jax.mlp.data import to_input

Inputs = Callable[[jax.Array, jax.Array], jax.Array]
NOISE = ("uniform", "gaussian", "perlin")
KINDS = (*NOISE, "images", "shuffled_pixels")


def make_inputs(kind: str, images_NP: jax.Array) -> Inputs:
    """Returns `inputs(key, row_B) -> x_BP`, float32.

    Args:
      kind: `uniform` on the 256 grey levels of [-1, 1] (an image has no others); `gaussian` with
        unit variance; `perlin`, gradient noise in [-1, 1], whose neighbours are alike (Perlin,
        1985), in a square; `images`, the given ones; `shuffled_pixels`, the given ones with
        the pixels of each permuted by its own permutation.
      images_NP: uint8; rows index them for the two kinds that need images, and noise takes its
        width from them.
    """
    pixels = images_NP.shape[1]

    def each_row(draw: Callable[[jax.Array], jax.Array]) -> Inputs:
        return lambda key, row_B: jax.vmap(lambda row: draw(jax.random.fold_in(key, row)))(row_B)

    def words(key: jax.Array) -> jax.Array:
        return jax.random.bits(key, (-(-pixels // 4),), jnp.uint32)

    def uniform(key: jax.Array, row_B: jax.Array) -> jax.Array:
        # Four grey levels from each 32-bit word: a float32 draw a pixel would cost as much as the
        # forward pass.
        grey = jax.lax.bitcast_convert_type(each_row(words)(key, row_B), jnp.uint8)
        return to_input(grey.reshape(len(row_B), -1)[:, :pixels])

    def images(key: jax.Array, row_B: jax.Array) -> jax.Array:
        del key
        return to_input(images_NP[row_B])

    def shuffled(key: jax.Array, row_B: jax.Array) -> jax.Array:
        order_BP = each_row(lambda k: jax.random.permutation(k, pixels))(key, row_B)
        return jnp.take_along_axis(images(key, row_B), order_BP, axis=1)

    def perlin(key: jax.Array) -> jax.Array:
        side = math.ceil(math.sqrt(pixels))
        cells = max(2, side // 7)
        angle_II = jax.random.uniform(key, (cells + 1, cells + 1), maxval=2 * math.pi)
        place_S = (jnp.arange(side, dtype=jnp.float32) + 0.5) * (cells / side)
        within_S, cell_S = place_S % 1, place_S.astype(jnp.int32)
        fade_S = within_S**3 * (within_S * (6 * within_S - 15) + 10)

        def corner(down: int, right: int) -> jax.Array:
            angle_SS = angle_II[cell_S[:, None] + down, cell_S[None] + right]
            towards = jnp.cos(angle_SS) * (within_S - right)[None]
            towards += jnp.sin(angle_SS) * (within_S - down)[:, None]
            weight_SS = jnp.abs(1 - down - fade_S)[:, None] * jnp.abs(1 - right - fade_S)[None]
            return weight_SS * towards

        corners = jnp.stack([corner(*at) for at in ((0, 0), (0, 1), (1, 0), (1, 1))])
        return math.sqrt(2) * corners.sum(0).ravel()[:pixels]

    return {
        "uniform": uniform,
        "gaussian": each_row(lambda key: jax.random.normal(key, (pixels,))),
        "perlin": each_row(perlin),
        "images": images,
        "shuffled_pixels": shuffled,
    }[kind]
