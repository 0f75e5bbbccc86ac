"""The multilayer perceptron, as a Flax module and as the pair of pure functions studies use."""

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


class MLP(nnx.Module):
    """Dense layers with an activation between them: x [..., sizes[0]] -> logits [..., sizes[-1]].

    Weights are drawn from N(0, (init_scale / sqrt(d_in))^2), biases are zero (paper, section 6.2;
    official code).
    """

    def __init__(self, sizes: Sequence[int], activation: str, init_scale: float, *, rngs: nnx.Rngs):
        self.layers = nnx.List(
            nnx.Linear(
                d_in,
                d_out,
                kernel_init=nnx.initializers.normal(init_scale / math.sqrt(d_in)),
                rngs=rngs,
            )
            for d_in, d_out in itertools.pairwise(sizes)
        )
        self.activation = ACTIVATIONS[activation]

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


def functional(
    sizes: Sequence[int], activation: str = "relu", init_scale: float = 1.0
) -> tuple[Callable[[jax.Array], Any], Callable[[Any, jax.Array], jax.Array]]:
    """Returns `init(key) -> params` and `apply(params, x) -> logits` of an `MLP`.

    Both are pure: `jax.vmap(init)` over keys gives an ensemble, `jax.vmap(apply)` runs it.
    """

    def build(key: jax.Array) -> MLP:
        return MLP(sizes, activation, init_scale, rngs=nnx.Rngs(key))

    graph = nnx.graphdef(nnx.eval_shape(build, jax.random.key(0)))

    def init(key: jax.Array) -> Any:
        return nnx.to_pure_dict(nnx.state(build(key)))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(x)

    return init, apply
