"""The decoder as an object: a Flax module that loads itself, and is called.

The module is thin on purpose. Training and sampling work on trees of plain arrays, with some
weights replaced, an adapter beside them or an axis of students in front; functions over such trees
are shorter than modules that are split and merged at every call. Flax gives the outside of it: the
usual `nnx.split`, `nnx.state` and `jax.jit` take a `Decoder` as they take any module.
"""

import functools
import os
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sublim_jax.llm.files import hf
from sublim_jax.llm.model import lora, parameters, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import Adapter
from sublim_jax.mesh import in_mesh, on_host, out_of_memory

Tree = dict[str, Any]


class Decoder(nnx.Module):
    """A decoder of the Qwen2, Qwen3 or Llama family: `model(tokens_BT) -> logits_BTV`.

    Attributes:
      config: its `Config`.
      mesh: where its weights lie; None for one device.
      weights: the tree of `parameters.declare`, as `nnx.Param`s; `pure()` gives plain arrays.
    """

    def __init__(self, config: Config, weights: Tree, mesh: Mesh | None = None):
        self.config = config
        self.mesh = mesh
        self.weights = nnx.data(jax.tree.map(nnx.Param, weights))

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike[str], dtype: str = "float32", mesh: Mesh | None = None
    ) -> Self:
        """Loads a checkpoint: a Hugging Face folder, a GGUF file, or the id of a model on the hub.

        Args:
          dtype: of the weights and of the computation: "float32" or "bfloat16".
          mesh: spreads the weights over its axes `data` and `model`; each process reads its part.

        Raises:
          UserError: a missing, truncated or unsupported file, or tensors that do not fit.
        """
        folder = hf.resolve(path)
        config = hf.read_config(folder)
        size = f"{parameters.count(config) / 1e9:.1f} billion weights in {dtype}"
        with out_of_memory(size, "cut them over more devices (--config.mesh), or use bfloat16"):
            return cls(config, hf.load_weights(folder, config, dtype, mesh), mesh)

    @classmethod
    def init(
        cls, config: Config, seed: int = 0, dtype: str = "float32", mesh: Mesh | None = None
    ) -> Self:
        """Returns a decoder with random weights."""
        return cls(config, parameters.initialise(config, seed, jnp.dtype(dtype), mesh), mesh)

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Writes `config.json` and safetensors, for `transformers` and others to load.

        The first of several processes writes; all must call. Other files there (a tokenizer) stay.

        Raises:
          UserError: the folder cannot be written.
        """
        weights = jax.tree.map(on_host, self.pure())
        if not jax.process_index():
            hf.save(self.config, weights, path)

    def merge(self, adapter: Adapter) -> Self:
        """Returns a decoder whose kernels hold the adapter: W + scale a b, added in float32.

        Raises:
          UserError: the adapter is of another base.
        """
        return type(self)(self.config, lora.merge(self.config, self.pure(), adapter), self.mesh)

    def pure(self) -> Tree:
        """Returns the weights as a tree of plain arrays."""
        return jax.tree.map(
            lambda p: p[...], self.weights, is_leaf=lambda x: isinstance(x, nnx.Param)
        )

    def __call__(
        self,
        tokens_BT: Any,
        segments_BT: Any = None,
        positions_BT: Any = None,
    ) -> jax.Array:
        """Returns the logits in float32, [B, T, V]; arguments as in `forward`."""
        if not isinstance(tokens_BT, jax.Array):
            tokens_BT = np.asarray(tokens_BT, np.int32)
        with in_mesh(self.mesh):
            return _logits(self.config, self.pure(), tokens_BT, segments_BT, positions_BT)


@functools.partial(jax.jit, static_argnames="config")
def _logits(
    config: Config, weights: Tree, tokens: jax.Array, segments: Any, positions: Any
) -> jax.Array:
    with transformer.precision(weights):
        return transformer.head(
            config, weights, transformer.forward(config, weights, tokens, segments, positions)
        )
