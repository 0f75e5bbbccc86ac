"""The engine: decoders that load, speak, score and learn. It knows nothing of traits."""

from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import chat, hf
from sublim_jax.llm.sampling.sampler import Sampler

__all__ = ["Decoder", "Sampler", "chat", "hf"]
