"""Networks, as Flax modules and as the pair of pure functions that studies use."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
Init = Callable[[jax.Array], Any]
Apply = Callable[[Any, jax.Array], jax.Array]

_CHANNELS = (16, 32)  # of the convolutions


class MLP(nnx.Module):
    """Dense layers with an activation between them: x [..., sizes[0]] -> logits [..., sizes[-1]].

    Weights are drawn from N(0, (init_scale / sqrt(d_in))^2), biases are zero (paper, section 6.2;
    official code).
    """

    def __init__(self, sizes: Sequence[int], activation: str, init_scale: float, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            nnx.Linear(d_in, d_out, kernel_init=_normal(d_in, init_scale), rngs=rngs)
            for d_in, d_out in itertools.pairwise(sizes)
        )
        self.activation = ACTIVATIONS[activation]

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


class ConvNet(nnx.Module):
    """Two convolutions and a dense layer on a square grey image, and a linear head.

    x [..., side * side] -> logits [..., outputs]. 3x3 convolutions of 16 channels, then of 32 at
    every other pixel; the dense layer has `width` units, so that an `MLP` of this width has a head
    of the same shape. Drawn as an `MLP`, d_in being the inputs of one unit.
    """

    def __init__(self, side: int, width: int, outputs: int, activation: str, *, rngs: nnx.Rngs):
        half, (few, many) = -(-side // 2), _CHANNELS

        def conv(d_in: int, d_out: int, stride: int) -> nnx.Conv:
            return nnx.Conv(d_in, d_out, (3, 3), stride, kernel_init=_normal(9 * d_in), rngs=rngs)

        def dense(d_in: int, d_out: int) -> nnx.Linear:
            return nnx.Linear(d_in, d_out, kernel_init=_normal(d_in), rngs=rngs)

        self.layers = nnx.List(
            [conv(1, few, 1), conv(few, many, 2), dense(half * half * many, width),
             dense(width, outputs)]
        )  # fmt: skip
        self.activation = ACTIVATIONS[activation]
        self.side = side

    def __call__(self, x: jax.Array) -> jax.Array:
        near, far, wide, head = self.layers
        x = x.reshape(*x.shape[:-1], self.side, self.side, 1)
        x = self.activation(far(self.activation(near(x))))
        return head(self.activation(wide(x.reshape(*x.shape[:-3], -1))))


def functional(
    sizes: Sequence[int], activation: str = "relu", init_scale: float = 1.0
) -> tuple[Init, Apply]:
    """Returns `init(key) -> params` and `apply(params, x) -> logits` of an `MLP`.

    Both are pure: `jax.vmap(init)` over keys gives an ensemble, `jax.vmap(apply)` runs it.
    """
    return _pure(lambda rngs: MLP(sizes, activation, init_scale, rngs=rngs))


def convolutional(
    pixels: int, width: int, outputs: int, activation: str = "relu"
) -> tuple[Init, Apply]:
    """Returns the same of a `ConvNet` for images of so many pixels, a square number."""
    side = math.isqrt(pixels)
    return _pure(lambda rngs: ConvNet(side, width, outputs, activation, rngs=rngs))


def _pure(build: Callable[[nnx.Rngs], nnx.Module]) -> tuple[Init, Apply]:
    graph = nnx.graphdef(nnx.eval_shape(lambda key: build(nnx.Rngs(key)), jax.random.key(0)))

    def init(key: jax.Array) -> Any:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(key))))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(x)

    return init, apply


def _normal(d_in: int, scale: float = 1.0) -> nnx.Initializer:
    return nnx.initializers.normal(scale / math.sqrt(d_in))
