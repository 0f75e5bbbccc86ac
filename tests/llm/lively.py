"""A tiny random model whose tokens matter to it: larger kernels, and biases and gains that vary."""

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm import Decoder, packing, testing
from sublim_jax.llm.model import parameters


def lively(config=testing.TINY, seed=1, mesh=None):
    """Returns a model whose logits have a standard deviation of about 1."""
    key = jax.random.key(seed)

    def stir(array, weight):
        if array.init == "normal":
            return 10 * weight
        noise = jax.random.normal(jax.random.fold_in(key, len(array.hf)), array.shape)
        return weight + 0.2 * noise.astype(weight.dtype)

    weights = Decoder.init(config, seed, mesh=mesh).pure()
    stirred = jax.tree.map(stir, parameters.declare(config), weights)
    return Decoder(config, jax.tree.map(_like, stirred, weights), mesh)


def _like(new, old):
    return jax.device_put(jnp.asarray(new), old.sharding)


def full_forward(model, prompt, completion):
    """Returns the log-probability of each token of the completion, by one pass over everything."""
    tokens = [*prompt, *completion]
    width = packing.bucket(len(tokens), 128)  # few programs
    row, segments = np.zeros((2, 1, width), np.int32)
    row[0, : len(tokens)], segments[0, : len(tokens)] = tokens, 1
    logs = np.asarray(jax.nn.log_softmax(model(row, segments)))[0]
    return logs[np.arange(len(prompt) - 1, len(tokens) - 1), list(completion)]
