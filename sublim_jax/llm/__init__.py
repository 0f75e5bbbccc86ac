"""The engine: Qwen2 and Qwen2.5 that load, speak and score. It knows nothing of traits."""

from sublim_jax.llm import chat, hf
from sublim_jax.llm.qwen2 import Qwen2
from sublim_jax.llm.sampler import Sampler

__all__ = ["Qwen2", "Sampler", "chat", "hf"]
