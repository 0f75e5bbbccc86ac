"""Optimisers by optax's names, and learning-rate schedules."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sublim_jax.errors import UserError

SCHEDULES = ("linear", "cosine", "constant")


def make_optimizer(optimizer: Mapping[str, Any], **more: Any) -> optax.GradientTransformation:
    """Returns `optax.<name>(**rest)` for a mapping of `name` and that function's arguments.

    Args:
      more: further arguments. Names of `optax.contrib` are found too.

    Raises:
      UserError: optax has no such optimiser, or it does not take these arguments.
    """
    arguments = {**optimizer, **more}
    name = str(arguments.pop("name", ""))
    homes = () if name.startswith("_") else (optax, optax.contrib)
    make = next((getattr(home, name) for home in homes if hasattr(home, name)), None)
    try:
        made = make(**arguments) if callable(make) else None
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: optax.{name}: {error}") from error
    if not isinstance(made, optax.GradientTransformation):
        raise UserError(f"optimizer.name={name!r}: optax has no optimiser of that name")
    return made


def rate(schedule: str, step: jax.Array, steps: jax.Array, warmup: int) -> jax.Array:
    """Returns the fraction of the learning rate at a step, counted from 0, out of `steps`.

    It rises from 0 at step 0 to 1 at `warmup`, then falls to 0 at `steps`, along a line or half a
    cosine, or stays: the schedules of transformers' `get_scheduler`.
    """
    at, end, rise = (jnp.asarray(x, jnp.float32) for x in (step, steps, warmup))
    left = jnp.clip((end - at) / jnp.maximum(1.0, end - rise), 0.0, 1.0)
    falls = {
        "linear": left,
        "cosine": (1 - jnp.cos(jnp.pi * left)) / 2,
        "constant": jnp.ones_like(left),
    }
    return jnp.where(at < rise, at / jnp.maximum(1.0, rise), falls[schedule])
