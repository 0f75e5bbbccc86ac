"""sublim_jax: the laboratory for subliminal learning, in JAX."""

__version__ = "0.1.0"
