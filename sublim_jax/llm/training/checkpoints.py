"""Checkpoints of a training that may be killed at any moment, or told to leave (preemption)."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from sublim_jax import disk
from sublim_jax.errors import UserError


class Checkpoints:
    """Checkpoints of one training, the two latest kept, written while it goes on (Orbax).

    Args:
      folder: shared by all processes; created if it is missing.
    """

    def __init__(self, folder: Path):
        from orbax.checkpoint import v1 as ocp

        self._folder = folder
        with _readable(folder):
            self._orbax = ocp.training.Checkpointer(
                folder.absolute(),
                preservation_policy=ocp.training.preservation_policies.LatestN(2),
                cleanup_tmp_directories=True,
            )

    def latest(self) -> int | None:
        """Returns the step of the latest whole checkpoint, or None."""
        found = self._orbax.latest
        return None if found is None else found.step

    def load(self, step: int, like: Any) -> Any:
        """Returns the state of a step.

        Args:
          like: a state of the same shapes, which says where each array lies.

        Raises:
          UserError: the checkpoint is damaged, or of a state of other shapes.
        """
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like
        )
        with _readable(self._folder / str(step)):
            return self._orbax.load(step, abstract)

    def save(self, step: int, state: Any) -> None:
        """Starts to write the state of a step; it may be donated to the next step at once.

        Raises:
          UserError: this one, or the one before, cannot be written; those before it are kept.
        """
        copy = jax.tree.map(jnp.copy, state)
        with _writable(self._folder):
            self._orbax.save_async(step, copy, force=True, overwrite=True)

    def close(self) -> None:
        """Waits until everything is written; raises as `save`."""
        with _writable(self._folder):
            self._orbax.close()


class Leaving:
    """Whether this process was told to stop: by Ctrl-C, SIGTERM, or its machine's preemption."""

    def __init__(self) -> None:
        self._told = False

    def due(self, step: int) -> bool:
        """Returns whether to save and leave before `step`; all processes get the same answer."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told

    def tell(self, *_: Any) -> None:
        """Makes `due` true, in one process."""
        self._told = True


@contextlib.contextmanager
def leaving() -> Iterator[Leaving]:
    """Listens for the signals while training goes on.

    In a job of several processes jax listens for SIGTERM itself, and agrees on a step with the
    others.
    """
    out = Leaving()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield out
        return
    before = {s: signal.signal(s, out.tell) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield out
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = disk.why(error)
        if disk.is_to_blame(error):
            raise UserError(f"{folder}: {reason}") from error
        raise UserError(f"{folder}: checkpoint cannot be used ({reason}): remove it") from error


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # TensorStore's are of the last two kinds
        raise UserError(
            f"{folder}: a checkpoint cannot be written: {disk.why(error)}; the earlier ones are "
            "kept, and training goes on from the last"
        ) from error
