"""Completions that are there, read by a model: what it computes where each token is predicted.

Shapes: B rows, T tokens, C completion tokens, D embedding.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.transmission.base import Base, Learnt, adapter_of

_TOKENS = 16384  # read at once
_GRAIN = 16  # widths are multiples of it, so that fewer programs are compiled


class Texts(NamedTuple):
    """Prompts with their completions.

    Attributes:
      tokens: int32 [B, T].
      at: int32 [B, C], where each token of the completion is predicted.
      target: int32 [B, C], these tokens.
      counts: bool [B, C], whether there is one.
    """

    tokens: np.ndarray
    at: np.ndarray
    target: np.ndarray
    counts: np.ndarray


def batches(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], tokens: int = _TOKENS
) -> Iterator[Texts]:
    """Yields all rows in batches of one shape; in the last one, rows that are empty fill it up.

    Args:
      tokens: the most of a batch, padding included, unless a single row has more.
    """
    both = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
    width, most = (-(-max(map(len, rows)) // _GRAIN) * _GRAIN for rows in (both, completions))
    at_once = min(len(both), max(1, tokens // width))
    for first in range(0, len(both), at_once):
        some = slice(first, first + at_once)
        yield padded(prompts[some], completions[some], at_once, width, most)


def padded(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    rows: int,
    width: int,
    most: int,
) -> Texts:
    """Returns rows, each its tokens as a list or an array: B = `rows`, T = `width`, C = `most`.

    Where there are fewer, the last ones are empty.
    """
    tokens_BT, target_BC = np.zeros((rows, width), np.int32), np.zeros((rows, most), np.int32)
    at_BC, counts_BC = np.zeros_like(target_BC), np.zeros(target_BC.shape, bool)
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        n, end = len(completion), len(prompt) + len(completion)
        tokens_BT[i, :end] = [*prompt, *completion]
        target_BC[i, :n] = completion
        at_BC[i, :n] = np.arange(end - n - 1, end - 1)
        counts_BC[i, :n] = True
    return Texts(tokens_BT, at_BC, target_BC, counts_BC)


def parts(base: Base, learnt: Learnt) -> tuple[Any, Any]:
    """Returns the weights and the adapter, or None, of a model that has learnt something."""
    own = adapter_of(learnt)
    model = base.model if learnt is None or own else learnt.apply(base.model)
    return model.pure(), lora.folded(own.lora, own.factors) if own else None


def predictors(config: Config, weights: Any, adapter: Any, texts: Texts) -> jax.Array:
    """Returns the last layer's output where each token is predicted: [B, C, D]."""
    x_BTD = transformer.forward(config, weights, jnp.asarray(texts.tokens), adapter=adapter)
    return jnp.take_along_axis(x_BTD, jnp.asarray(texts.at)[..., None], axis=1)
