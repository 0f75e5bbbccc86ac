"""Where students start: the teacher's initialisation, changed in one way or another.

Parameters are those of `mlp.network`: layers of a kernel [inputs, outputs] and a bias.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Params = Any


def layers(params: Params) -> list[dict[str, jax.Array]]:
    """Returns the layers in order."""
    return [params["layers"][i] for i in sorted(params["layers"])]


def scaled(params: Params, factor: jax.Array) -> Params:
    """Returns fresh parameters with another `init_scale`; biases are zero."""
    return jax.tree.map(lambda leaf: leaf * factor, params)


def start(
    own: Params,
    other: Params,
    values: Mapping[str, jax.Array],
    classes: int,
    key: jax.Array,
) -> Params:
    """Returns a student's start, as the fields of `cell.Cell` say.

    Args:
      own: the teacher's initialisation.
      other: another member's.
      values: `blend`, `noise`, `fresh_hidden`, `fresh_class`, `fresh_aux`, `permuted`, `rescaled`,
        `init_scale`.
      classes: outputs of the class head, which come first.
    """
    share = values["blend"]
    kept = jnp.sqrt(jnp.square(share) + jnp.square(1 - share))
    mixed = jax.tree.map(lambda a, b: ((1 - share) * a + share * b) / kept, own, other)
    mixed = _joined(mixed, other, values, classes)
    out = []
    for i, layer in enumerate(layers(mixed)):
        inputs = layer["kernel"].shape[0]
        drawn = jax.random.normal(jax.random.fold_in(key, i), layer["kernel"].shape)
        own_deviation = values["init_scale"] / math.sqrt(inputs)
        out.append({**layer, "kernel": layer["kernel"] + values["noise"] * own_deviation * drawn})
    return _of(_symmetric(out, values, jax.random.fold_in(key, len(out))))


def of_depth(own: Params, fresh: Params) -> Params:
    """Returns `fresh`, its layers from both ends replaced by those of `own`.

    With more layers than own, those in the middle stay fresh; with fewer, own's middle ones are
    left out.
    """
    mine, theirs = layers(fresh), layers(own)
    front = (min(len(mine), len(theirs)) + 1) // 2
    back = min(len(mine), len(theirs)) - front
    return _of([*theirs[:front], *mine[front : len(mine) - back], *theirs[len(theirs) - back :]])


def with_head(fresh: Params, own: Params) -> Params:
    """Returns `fresh`, its last layer replaced by that of `own`."""
    return _of([*layers(fresh)[:-1], layers(own)[-1]])


def _joined(own: Params, other: Params, values: Mapping[str, jax.Array], classes: int) -> Params:
    """Returns `own` with the hidden layers, the class head or the auxiliary head of `other`."""
    *hidden, last = [
        {name: (a[name], b[name]) for name in a}
        for a, b in zip(layers(own), layers(other), strict=True)
    ]

    def either(pair: tuple[jax.Array, jax.Array], which: jax.Array) -> jax.Array:
        return jnp.where(which > 0, pair[1], pair[0])

    out = [{name: either(pair, values["fresh_hidden"]) for name, pair in x.items()} for x in hidden]
    is_class = jnp.arange(last["bias"][0].size) < classes
    which_O = jnp.where(is_class, values["fresh_class"], values["fresh_aux"])
    kernel, bias = either(last["kernel"], which_O[None]), either(last["bias"], which_O)
    return _of([*out, {"kernel": kernel, "bias": bias}])


def _symmetric(
    of: list[dict[str, jax.Array]], values: Mapping[str, jax.Array], key: jax.Array
) -> list[dict[str, jax.Array]]:
    """Returns a network of the same function: hidden units change places, and are rescaled."""
    out = [dict(layer) for layer in of]
    for i, (before, after) in enumerate(itertools.pairwise(out)):
        order_key, factor_key = jax.random.split(jax.random.fold_in(key, i))
        units = before["bias"].size
        order = jnp.where(
            values["permuted"] > 0, jax.random.permutation(order_key, units), jnp.arange(units)
        )
        factor = jnp.exp(values["rescaled"] * jax.random.normal(factor_key, (units,)))
        before["kernel"] = before["kernel"][:, order] * factor[None, :]
        before["bias"] = before["bias"][order] * factor
        after["kernel"] = after["kernel"][order] / factor[:, None]
    return out


def _of(some: list[dict[str, jax.Array]]) -> Params:
    return {"layers": dict(enumerate(some))}
