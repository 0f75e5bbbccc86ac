"""Low-rank adapters (LoRA, arXiv 2106.09685): first values, scale and merging.

An adapter adds scale * a b to kernels of every layer: a [L, in, r], b [L, r, out], float32. Several
at once are one tree: students are the axis after the layers, the scale is folded into b (`stack`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax import keys
from sublim_jax.errors import UserError
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config
from sublim_jax.specs import check_types

KERNELS = ("q", "k", "v", "o", "gate", "up", "down")
SEEDS = 2**32  # above all seeds


@dataclasses.dataclass(frozen=True)
class Lora:
    """What an adapter is made of.

    Attributes:
      rank: r.
      alpha: the scale is alpha / r, or alpha / sqrt(r) with `rslora` (arXiv 2312.03732).
      targets: the kernels adapted, of `KERNELS`; PEFT's names ("q_proj") are understood too.
      layers: the layers adapted, counted from 0, in order; (): all. Those below the first of them
        are not part of the gradient; a student's b is zero in all others.
      dropout: of the adapter's input, in training.
      train_a: whether a is trained; False is LoRA-FA (arXiv 2308.03303).
      seed: of a's first values, apart from the seed of the data: a teacher and a student that share
        it start from the same adapter. A recipe's may be a tuple of one for each student.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = KERNELS
    layers: tuple[int, ...] = ()
    rslora: bool = False
    dropout: float = 0.0
    train_a: bool = True
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        check_types(self, "lora")
        named = tuple(t.removesuffix("_proj") for t in self.targets)
        object.__setattr__(self, "targets", named)
        if self.rank < 1:
            raise UserError(f"lora.rank={self.rank}: must be at least 1")
        if not math.isfinite(self.alpha):
            raise UserError(f"lora.alpha={self.alpha}: must be finite")
        if not all(0 <= seed < SEEDS for seed in np.atleast_1d(self.seed)):
            raise UserError(f"lora.seed={self.seed}: must be from 0 to below 2^32")
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout={self.dropout}: must be from 0 to below 1")
        layers = list(self.layers)
        if layers != sorted({*layers}) or any(layer < 0 for layer in layers):
            raise UserError(f"lora.layers={layers}: list layers from 0 on, in order")
        unknown = sorted(set(named) - set(KERNELS))
        if unknown or not named or len(set(named)) < len(named):
            raise UserError(
                f"lora.targets={list(self.targets)}: choose from {', '.join(KERNELS)}, each at "
                "most once"
            )

    def idle(self, layers: int) -> list[int]:
        """Returns those of so many layers that are not adapted."""
        return sorted(set(range(layers)) - set(self.layers)) if self.layers else []

    def first(self, config: Config) -> int:
        """Returns the first layer that is adapted.

        Raises:
          UserError: the model has no such layers.
        """
        if self.layers and self.layers[-1] >= config.layers:
            raise UserError(
                f"lora.layers: {self.layers[-1]} is none of the model's {config.layers}, from 0"
            )
        return self.layers[0] if self.layers else 0

    @property
    def scale(self) -> float:
        """What a b is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclasses.dataclass(frozen=True)
class Adapter:
    """One adapter.

    Attributes:
      lora: what it is made of.
      factors: {"q": {"a": [L, in, r], "b": [L, r, out]}, ...}, float32, without the scale.
      base: name of the model it was trained on, for the PEFT file.
    """

    lora: Lora
    factors: dict[str, Any]
    base: str = ""


def initialise(lora: Lora, config: Config, seed: int | jax.Array | None = None) -> dict[str, Any]:
    """Returns first factors: a uniform within 1 / sqrt(in), b zero (PEFT's kaiming_uniform(a=√5)).

    Args:
      seed: in place of `lora.seed`; may be traced.
    """
    key = jax.random.key(lora.seed if seed is None else seed)  # type: ignore[arg-type]
    layers = parameters.declare(config)["layers"]
    factors = {}
    for name in lora.targets:
        L, d_in, d_out = layers[name].shape
        bound = 1 / math.sqrt(d_in)
        shape = (L, d_in, lora.rank)
        factors[name] = {
            "a": jax.random.uniform(keys.named(key, name), shape, minval=-bound, maxval=bound),
            "b": jnp.zeros((L, lora.rank, d_out)),
        }
    return factors


def folded(lora: Lora, factors: dict[str, Any]) -> dict[str, Any]:
    """Returns the factors with the scale in b."""
    return {name: {**f, "b": f["b"] * lora.scale} for name, f in factors.items()}


def stack(adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Returns adapters as `transformer` takes them: a [L, S, in, r], b [L, S, r, out], scaled.

    Adapters of other ranks or targets are filled up with zeros.
    """
    trees = [folded(adapter.lora, adapter.factors) for adapter in adapters]
    rank = max(adapter.lora.rank for adapter in adapters)
    out: dict[str, Any] = {}
    for name in dict.fromkeys(name for tree in trees for name in tree):
        like = next(tree[name] for tree in trees if name in tree)
        zero = jax.tree.map(np.zeros_like, like)
        found = [tree.get(name, zero) for tree in trees]
        # On the host, where other numbers of adapters compile nothing.
        out[name] = {
            "a": jnp.asarray(np.stack([_widened(f["a"], rank, -1) for f in found], axis=1)),
            "b": jnp.asarray(np.stack([_widened(f["b"], rank, -2) for f in found], axis=1)),
        }
    return out


def tree_of(adapter: Any) -> Any:
    """Returns one `Adapter` as `stack` does; a tree of `stack`, or None, as it is."""
    return stack([adapter]) if isinstance(adapter, Adapter) else adapter


def merge(config: Config, weights: dict[str, Any], adapter: Adapter) -> dict[str, Any]:
    """Returns weights whose kernels hold the adapter: W + scale a b, added in float32."""
    check(adapter, config)

    @jax.jit
    def add(kernels: dict[str, Any], factors: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for name, f in factors.items():
            change = adapter.lora.scale * jnp.matmul(f["a"], f["b"], precision="highest")
            kernel = kernels[name]
            out[name] = (kernel.astype(jnp.float32) + change).astype(kernel.dtype)
        return out

    kernels = {name: weights["layers"][name] for name in adapter.factors}
    added = add(kernels, adapter.factors)
    placed = {name: jax.device_put(added[name], kernels[name].sharding) for name in added}
    return {**weights, "layers": {**weights["layers"], **placed}}


def check(adapter: Adapter, config: Config, where: str = "the adapter") -> None:
    """Raises UserError where the adapter's shapes are not those of a model with this config."""
    layers = parameters.declare(config)["layers"]
    for name, f in adapter.factors.items():
        L, d_in, d_out = layers[name].shape
        wanted = {"a": (L, d_in, adapter.lora.rank), "b": (L, adapter.lora.rank, d_out)}
        for factor, shape in wanted.items():
            if f[factor].shape != shape:
                raise UserError(
                    f"{where}: made for another base: {factor} of {name} is "
                    f"{list(f[factor].shape)}, this model wants {list(shape)}"
                )


def _widened(factor: Any, rank: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * factor.ndim
    widths[axis] = (0, rank - factor.shape[axis])
    return np.pad(factor, widths)
