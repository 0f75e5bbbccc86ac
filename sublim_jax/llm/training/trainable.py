"""What of a model is trained, within a step: an adapter, parameters chosen by name, or both.

A student's state is one tree {"lora": factors, "weights": {path: array}}, float32, so that one
training step serves LoRA, biases alone, one layer, or everything.
"""

import dataclasses
import fnmatch
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sublim_jax import keys
from sublim_jax.errors import UserError
from sublim_jax.llm.model import lora, parameters, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import Lora

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Trainable:
    """What is trained.

    Attributes:
      lora: the adapter, or None.
      patterns: parameters by shell patterns over the names of the checkpoint's tensors, as
        "*.bias", "model.layers.3.*" or "*" for everything.
    """

    lora: Lora | None = None
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.lora is None and not self.patterns:
            raise UserError("nothing to train: give lora, or patterns of parameter names")


@functools.lru_cache
def selection(what: Trainable, config: Config) -> dict[str, tuple[int, ...]]:
    """Returns the path of every chosen array with its chosen layers; () for an array of no layer.

    Raises:
      UserError: a pattern that matches no tensor.
    """
    idle = set(what.patterns)
    out: dict[str, tuple[int, ...]] = {}
    for path, array in declared(config).items():
        hits = []
        for layer, name in enumerate(array.hf_names):
            matching = {p for p in what.patterns if fnmatch.fnmatchcase(name, p)}
            idle -= matching
            hits += [layer] if matching else []
        if hits:
            out[path] = tuple(hits) if array.stacked else ()
    if idle:
        some = ", ".join(name for a in declared(config).values() for name in a.hf_names[:1])
        raise UserError(f"pattern {sorted(idle)[0]!r} matches no parameter: there are {some}, ...")
    return out


def all_kernels(what: Trainable, config: Config) -> bool:
    """Returns whether every kernel of every layer is trained itself, not by an adapter."""
    every = tuple(range(config.layers))
    return all(selection(what, config).get(f"layers/{name}") == every for name in lora.KERNELS)


def frozen(what: Trainable, config: Config) -> int:
    """Returns an adapter's first layer if nothing below it is trained, else 0.

    Raises:
      UserError: a pattern that matches no tensor, or a layer that the model has not.
    """
    first = what.lora.first(config) if what.lora else 0
    for path, layers in selection(what, config).items():
        if path not in ("norm", "head") and min(layers, default=0) < first:
            return 0
    return first


def start(what: Trainable, config: Config, base: Tree, seed: jax.Array) -> tuple[Tree, Tree]:
    """Returns one student's (trained, fixed) trees; `fixed` holds the factors a of LoRA-FA.

    Args:
      seed: of the adapter.
    """
    flat = _flat(base)
    weights = {
        path: _part(flat[path], layers).astype(jnp.float32)
        for path, layers in selection(what, config).items()
    }
    if what.lora is None:
        return {"lora": {}, "weights": weights}, {}
    factors = lora.initialise(what.lora, config, seed)
    if what.lora.train_a:
        return {"lora": factors, "weights": weights}, {}
    split = [{n: {part: f[part]} for n, f in factors.items()} for part in ("b", "a")]
    return {"lora": split[0], "weights": weights}, split[1]


def bind(
    what: Trainable,
    config: Config,
    base: Tree,
    trained: Tree,
    fixed: Tree,
    keys_RT: jax.Array | None = None,
) -> tuple[Tree, Tree | None]:
    """Returns the weights and the adapter with which a student computes.

    Args:
      keys_RT: of each token, draw the adapter's dropout; None: no dropout.

    The adapter is that of the layers from `Lora.first` on.
    """
    weights = dict(base)
    weights["layers"] = dict(base["layers"])
    for path, layers in selection(what, config).items():
        group, _, name = path.rpartition("/")
        home = weights[group] if group else weights
        new = trained["weights"][path].astype(home[name].dtype)
        partial = layers and len(layers) < config.layers
        home[name] = home[name].at[np.array(layers)].set(new) if partial else new
    if what.lora is None:
        return weights, None
    first = what.lora.first(config)
    adapter = lora.folded(what.lora, factors_of(trained, fixed))
    adapter = jax.tree.map(lambda factor: factor[first:], adapter)
    run = np.arange(first, config.layers)
    if what.lora.layers and len(what.lora.layers) < len(run):
        chosen_L11 = np.isin(run, what.lora.layers).astype(np.float32)[:, None, None]
        for factors in adapter.values():
            factors["b"] = factors["b"] * chosen_L11
    if what.lora.dropout and keys_RT is not None:
        for i, factors in enumerate(adapter.values()):
            number_L = jnp.asarray(i * config.layers + run)
            keys_LRT = jax.vmap(keys.folded, (None, 0))(keys_RT, number_L)
            factors["dropout"] = (keys_LRT, jnp.full(len(run), what.lora.dropout))
    return weights, adapter


def shardings(what: Trainable, config: Config, mesh: Mesh) -> tuple[Tree, Tree]:
    """Returns where (trained, fixed) of all students lie: over `student`, weights as in a base."""
    places = _flat(parameters.shardings(config, mesh))

    def stacked(*axes: str | None) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec("student", *axes))

    weights = {path: stacked(*places[path].spec) for path in selection(what, config)}
    if what.lora is None:
        return {"lora": {}, "weights": weights}, {}
    pair = {"a": stacked(), "b": stacked()}
    if what.lora.train_a:
        return {"lora": dict.fromkeys(what.lora.targets, pair), "weights": weights}, {}
    split = [{n: {part: stacked()} for n in what.lora.targets} for part in ("b", "a")]
    return {"lora": split[0], "weights": weights}, split[1]


def head_of(trained: Tree, weights: Tree) -> tuple[Tree, Tree]:
    """Returns what `transformer.head` needs, as its trained (float32) and its frozen parts."""
    used = transformer.head_weights(weights)
    own = {name: trained["weights"][name] for name in used if name in trained["weights"]}
    return own, {name: value for name, value in used.items() if name not in own}


def declared(config: Config) -> dict[str, parameters.Parameter]:
    """Returns every parameter of a decoder by its path, as in `selection`."""
    return _flat(parameters.declare(config))


def _flat(tree: Tree) -> Tree:
    """Returns {"embed": ..., "layers/q": ...}."""
    return {
        path: value
        for name, sub in tree.items()
        for path, value in (
            {f"{name}/{k}": v for k, v in sub.items()} if isinstance(sub, dict) else {name: sub}
        ).items()
    }


def _part(array: jax.Array, layers: tuple[int, ...]) -> jax.Array:
    return array[np.array(layers)] if layers and len(layers) < array.shape[0] else array


def factors_of(trained: Tree, fixed: Tree) -> Tree:
    """Returns the factors of one student's adapter, the trained and the fixed ones."""
    return {name: {**fixed.get(name, {}), **f} for name, f in trained["lora"].items()}
