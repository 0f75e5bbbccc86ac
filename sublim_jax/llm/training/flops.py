"""Floating-point operations of a training step, and what a device can do of them a second."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training.examples import Examples

# Dense bfloat16, from the vendors' data sheets.
_PEAK = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def needed(config: Config, tokens: float, seen: float, targets: float, kernels: bool) -> float:
    """Returns the operations that one pass and its gradient cannot do without.

    Args:
      tokens: real ones, without padding.
      seen: earlier tokens of its own example that a token sees, on average, itself included.
      targets: positions at which the vocabulary is predicted.
      kernels: whether the kernels' own gradients are needed (not for LoRA, whose own few operations
        are left out).
    """
    layers = parameters.declare(config)["layers"]
    size = sum(math.prod(a.shape) for a in layers.values() if len(a.shape) == 3)
    head = config.vocab * config.embed
    attention = 2 * config.layers * config.heads * config.head_dim * seen
    passes = 3 if kernels else 2
    # The products of attention have two gradients each whatever is trained.
    return 2 * passes * (size * tokens + head * targets) + 2 * 3 * attention * tokens


def per_token(config: Config, data: Sequence[Examples], kernels: bool, prefix: int = 0) -> float:
    """Returns what is `needed` for a token of some data sets, on average; `kernels` as there.

    Args:
      prefix: of the tokens, those at the start of each row that are shared: nothing is needed.
    """
    lengths = np.concatenate([own.lengths for own in data]).astype(np.float64)
    targets = float(lengths.sum() - sum(own.prompts.sum() for own in data))
    read = lengths - 1  # a row's last token is predicted, and predicts nothing
    own = float((read - prefix).sum())
    seen = float(((read * (read + 1) - prefix * (prefix + 1)) / 2).sum()) / own
    return needed(config, own, seen, targets, kernels) / float(read.sum())


def per_seen(config: Config) -> float:
    """Returns the operations of attention for each token seen, as a part of a token's others.

    Without the head's and the kernels' own gradients, as in `needed`.
    """
    few = (needed(config, 1.0, seen, 0.0, kernels=False) for seen in (0.0, 1.0))
    others, one = few
    return (one - others) / others


def peak(device: jax.Device) -> float | None:
    """Returns the bfloat16 operations a second of a device, or None where it is not known."""
    kinds = [kind for kind in _PEAK if device.device_kind.startswith(kind)]
    return _PEAK[max(kinds, key=len)] if kinds else None
