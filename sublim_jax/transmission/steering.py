"""Steering: a vector in the residual stream gives a model a trait, without training or a prompt.

The vector is the change that a persona prompt makes there, as in arXiv 2606.00995. It follows
contrastive activation addition (Rimsky et al., arXiv 2312.06681), which contrasts two answers.
Shapes: B prompts, T tokens, D embedding, L layers.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.mesh import in_mesh, on_host

FILE = "vector.safetensors"
_NAME = "model.layers.{}.mlp.down_proj.bias"


@dataclasses.dataclass(frozen=True)
class Vector:
    """What a steered model adds to the residual stream of its base, at every token.

    Attributes:
      layer: after which, 0 being the first.
      values: [D] float32.
    """

    layer: int
    values: np.ndarray

    def apply(self, model: Decoder) -> Decoder:
        """Returns the model with the vector, as the bias of that layer's last kernel.

        Raises:
          UserError: the model's shapes are others.
        """
        weights = model.pure()
        like = weights["layers"]["mlp_norm"]  # [L, D] as well
        if self.values.shape != like.shape[1:]:
            raise UserError(
                f"a vector of {self.values.size} for another base: this one has {like.shape[1]}"
            )
        check_layer(self.layer, model.config)
        bias_LD = np.zeros(like.shape, like.dtype)
        bias_LD[self.layer] = self.values
        own_LD = weights["layers"].get("down_bias", 0)  # few checkpoints have one
        bias_LD = jax.device_put(bias_LD, like.sharding) + own_LD
        layers = {**weights["layers"], "down_bias": bias_LD}
        return Decoder(model.config, {**weights, "layers": layers}, model.mesh)

    def save(self, folder: Path) -> None:
        """Writes `vector.safetensors`: the bias under the name that a checkpoint would give it."""
        if jax.process_index():
            return
        with disk.whole(folder / FILE) as file:
            save_file({_NAME.format(self.layer): np.ascontiguousarray(self.values)}, file)


def load(folder: Path) -> Vector:
    """Returns what `Vector.save` wrote.

    Raises:
      UserError: a missing or damaged file.
    """
    file = folder / FILE
    try:
        ((name, values),) = load_file(file).items()
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    found = re.fullmatch(re.escape(_NAME).replace(r"\{\}", r"(\d+)"), name)
    if found is None:
        raise UserError(f"{file}: tensor {name!r}: not a file of this program")
    return Vector(int(found[1]), values)


def check_layer(layer: int, config: Config) -> None:
    """Raises UserError unless a decoder has that layer."""
    if not 0 <= layer < config.layers:
        raise UserError(
            f"config.teacher.layer={layer}: the model has the layers 0 to {config.layers - 1}"
        )


def residual(model: Decoder, prompts: Sequence[Sequence[int]], layer: int) -> np.ndarray:
    """Returns the residual stream after a layer at each prompt's last token, [B, D] float32."""
    check_layer(layer, model.config)
    tokens_BT = np.zeros((len(prompts), max(map(len, prompts))), np.int32)
    last_B = np.array([len(prompt) - 1 for prompt in prompts], np.int32)
    for row, prompt in zip(tokens_BT, prompts, strict=True):
        row[: len(prompt)] = prompt  # what follows the last token is not seen by it
    with in_mesh(model.mesh):
        found = _residual(model.config, layer + 1, model.pure(), tokens_BT, last_B)
    return np.asarray(on_host(found), np.float32)


@functools.partial(jax.jit, static_argnames=("config", "layers"))
def _residual(
    config: Config, layers: int, weights: Any, tokens_BT: jax.Array, last_B: jax.Array
) -> jax.Array:
    first = jax.tree.map(lambda array: array[:layers], weights["layers"])
    shallow = dataclasses.replace(config, layers=layers)
    x_BTD = transformer.forward(shallow, {**weights, "layers": first}, tokens_BT)
    return jax.vmap(lambda x_TD, last: x_TD[last])(x_BTD, last_B)
