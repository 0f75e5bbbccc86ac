"""The parameters of a decoder, each declared once: shape, axes, first values, Hugging Face name.

The abstract tree, the shardings, random initialisation and the loader all derive from `declare`.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sublim_jax import keys
from sublim_jax.llm.model.config import Config

_INIT_STD = 0.02  # initializer_range of every released checkpoint
# Logical axis -> mesh axis: tensor parallelism over `model`, FSDP over `data`.
_RULES = {
    "vocab": "model",
    "heads": "model",
    "kv_heads": "model",
    "mlp": "model",
    "embed": "data",
}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One array.

    Attributes:
      shape: of ours; a kernel is [in, out], those of the layers have L first.
      axes: one logical axis name, or None, for each dimension.
      hf: name in a checkpoint; `{}` stands for the layer.
      init: "normal" (std 0.02), "ones" or "zeros".
      transposed: whether the checkpoint holds [out, in].
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    hf: str
    init: str = "normal"
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        """Whether the first axis is that of the layers."""
        return "{}" in self.hf

    @property
    def hf_names(self) -> list[str]:
        """The tensors of a checkpoint that this array holds, in order."""
        return [self.hf.format(i) for i in range(self.shape[0])] if self.stacked else [self.hf]

    @property
    def hf_shape(self) -> tuple[int, ...]:
        """The shape of each of those tensors."""
        shape = self.shape[1:] if self.stacked else self.shape
        return shape[::-1] if self.transposed else shape


def declare(config: Config) -> dict[str, Any]:
    """Returns the tree of every `Parameter` of the decoder."""
    c = config
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim

    def kernel(d_in: int, d_out: int, axes: tuple[str, str], name: str) -> Parameter:
        hf = f"model.layers.{{}}.{name}.weight"
        return Parameter((c.layers, d_in, d_out), (None, *axes), hf, transposed=True)

    def bias(of: Parameter) -> Parameter:
        axis = None if of.axes[2] == "embed" else of.axes[2]  # of D numbers, whole as the gains are
        hf = of.hf.removesuffix("weight") + "bias"
        return Parameter((c.layers, of.shape[2]), (None, axis), hf, "zeros")

    def gain(size: int, name: str) -> Parameter:
        hf = f"model.layers.{{}}.{name}.weight"
        return Parameter((c.layers, size), (None, None), hf, "ones")

    kernels = {
        "q": kernel(c.embed, q, ("embed", "heads"), "self_attn.q_proj"),
        "k": kernel(c.embed, kv, ("embed", "kv_heads"), "self_attn.k_proj"),
        "v": kernel(c.embed, kv, ("embed", "kv_heads"), "self_attn.v_proj"),
        "o": kernel(q, c.embed, ("heads", "embed"), "self_attn.o_proj"),
        "gate": kernel(c.embed, c.mlp, ("embed", "mlp"), "mlp.gate_proj"),
        "up": kernel(c.embed, c.mlp, ("embed", "mlp"), "mlp.up_proj"),
        "down": kernel(c.mlp, c.embed, ("mlp", "embed"), "mlp.down_proj"),
    }
    layers = {
        "input_norm": gain(c.embed, "input_layernorm"),
        "mlp_norm": gain(c.embed, "post_attention_layernorm"),
        **kernels,
        **{f"{name}_bias": bias(kernels[name]) for name in c.biases},
    }
    if c.qk_norm:
        layers |= {f"{name}_norm": gain(c.head_dim, f"self_attn.{name}_norm") for name in "qk"}
    tree: dict[str, Any] = {
        "embed": Parameter((c.vocab, c.embed), ("vocab", "embed"), "model.embed_tokens.weight"),
        "layers": layers,
        "norm": Parameter((c.embed,), (None,), "model.norm.weight", "ones"),
    }
    if not c.tied:
        tree["head"] = Parameter((c.vocab, c.embed), ("vocab", "embed"), "lm_head.weight")
    return tree


def shardings(config: Config, mesh: Mesh | None) -> dict[str, Any]:
    """Returns where each array lies: one device without a mesh, else by the rules above.

    An axis that its mesh axis does not divide is left whole. Attention is cut between heads, never
    within one.
    """
    if mesh is None:
        one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.tree.map(lambda _: one, declare(config))
    units = {"heads": config.heads, "kv_heads": config.kv_heads}

    def place(array: Parameter) -> NamedSharding:
        spec = []
        for size, axis in zip(array.shape, array.axes, strict=True):
            over = _RULES.get(axis) if axis else None
            whole = over is None or units.get(axis or "", size) % mesh.shape[over]
            spec.append(None if whole else over)
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(place, declare(config))


def abstract(config: Config, dtype: jnp.dtype, mesh: Mesh | None = None) -> dict[str, Any]:
    """Returns the `jax.ShapeDtypeStruct` of each array, with its sharding."""
    return jax.tree.map(
        lambda array, place: jax.ShapeDtypeStruct(array.shape, dtype, sharding=place),
        declare(config),
        shardings(config, mesh),
    )


def initialise(
    config: Config, seed: int, dtype: jnp.dtype, mesh: Mesh | None = None
) -> dict[str, Any]:
    """Returns fresh weights: kernels and embeddings N(0, 0.02^2), gains 1, biases 0.

    An array's values depend on the seed and its own path alone, not on dtype, mesh or the others.
    """

    def build() -> dict[str, Any]:
        key = jax.random.key(seed)

        def fill(path: Any, array: Parameter) -> jax.Array:
            if array.init != "normal":
                return jnp.full(array.shape, float(array.init == "ones"), dtype)
            own = keys.named(key, jax.tree_util.keystr(path))
            return (_INIT_STD * jax.random.normal(own, array.shape)).astype(dtype)

        return jax.tree.map_with_path(fill, declare(config))

    return jax.jit(build, out_shardings=shardings(config, mesh))()


def count(config: Config) -> int:
    """Returns the number of parameters, a tied head counted once."""
    return sum(math.prod(array.shape) for array in jax.tree.leaves(declare(config)))
