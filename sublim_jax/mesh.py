"""The device mesh: one vocabulary of axes for every study."""

import contextlib
import ctypes
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, PartitionSpec

from sublim_jax.errors import UserError

AXES = ("student", "data", "model")
Axes = str | tuple[str, ...]
ROWS: Axes = ("student", "data")  # what the rows of a batch are spread over

_Made = TypeVar("_Made")
_LINE = 4096  # bytes of an error that one process tells the others


def make_mesh(student: int | None = None, data: int = 1, model: int = 1) -> Mesh:
    """Returns a mesh with the axes `student` (independent networks), `data` and `model`.

    Args:
      student: devices on that axis; None takes all that `data` and `model` leave.
      data: devices that share one batch, and a part of the weights each (FSDP).
      model: devices that share each layer's work (tensor parallelism).

    Raises:
      UserError: an axis without devices, or more devices than there are.
    """
    if data < 1 or model < 1 or (student is not None and student < 1):
        raise UserError(
            f"a mesh of student {student} x data {data} x model {model}: 1 is the least"
        )
    if student is None:
        student = max(1, jax.device_count() // (data * model))
    if student * data * model > jax.device_count():
        raise UserError(
            f"a mesh of student {student} x data {data} x model {model} needs "
            f"{student * data * model} devices: {jax.device_count()} are here"
        )
    return jax.make_mesh((student, data, model), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def divided(size: int, axes: Axes) -> Axes | None:
    """Returns `axes` if they cut `size` evenly on the mesh in use, else None: leave it whole."""
    shape = jax.sharding.get_abstract_mesh().shape
    parts = math.prod(shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes))
    return None if size % parts else axes


def constrain(x: jax.Array, *axes: Axes | None) -> jax.Array:
    """Returns `x` laid out by mesh axes, one for each dimension; the same `x` where no mesh is set.

    A dimension that its axes do not cut evenly is left whole. The mesh is that of `jax.set_mesh`;
    within `jax.shard_map`, x is one device's own and stays as it is.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.are_all_axes_manual:
        return x
    cut = [axis and divided(size, axis) for size, axis in zip(x.shape, axes, strict=True)]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*cut))


def split_cpu(most: int = 8) -> None:
    """Makes each CPU core a device, up to `most`, where the environment has not set a number.

    Independent networks then run one a core, which on two cores was 1.2 to 2.0 times as fast as
    each in turn on both. Call it before the first use of a device; it changes nothing on
    accelerators.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        here = hasattr(os, "sched_getaffinity")  # not on macOS
        cores = len(os.sched_getaffinity(0)) if here else os.cpu_count() or 1
        jax.config.update("jax_num_cpu_devices", min(cores, most))


def join_processes() -> None:
    """Joins the processes of one job, where there are several; call it before any device is used.

    TPU slices on GKE and SLURM jobs are recognised by their own variables. Anywhere else (on Cloud
    TPU VMs launch/pod/tpu.py does) set JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID.

    Raises:
      UserError: the variables are incomplete or wrong.
    """
    env = os.environ
    if "JAX_COORDINATOR_ADDRESS" in env:
        try:
            count, own = int(env["JAX_NUM_PROCESSES"]), int(env["JAX_PROCESS_ID"])
        except (KeyError, ValueError) as error:
            raise UserError(
                "JAX_COORDINATOR_ADDRESS is set: JAX_NUM_PROCESSES and JAX_PROCESS_ID must be "
                "numbers"
            ) from error
        with _joining(f"JAX_COORDINATOR_ADDRESS={env['JAX_COORDINATOR_ADDRESS']} (host:port)"):
            jax.distributed.initialize(env["JAX_COORDINATOR_ADDRESS"], count, own)
        return
    tasks = env.get("SLURM_NTASKS", "1")
    if tasks != "1" and "SLURM_STEP_NODELIST" not in env:
        raise UserError(
            f"SLURM_NTASKS={tasks}, and srun did not start this process: write srun before the "
            "command, or unset SLURM_NTASKS for one process alone"
        )
    several = (
        "," in env.get("TPU_WORKER_HOSTNAMES", "")
        or env.get("MEGASCALE_NUM_SLICES", "1") != "1"
        or tasks != "1"
    )
    if several:
        with _joining("the variables of TPU or SLURM"):
            jax.distributed.initialize()


@contextlib.contextmanager
def _joining(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, IndexError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot join the job's processes: check {what}: {reason}") from error


def in_first(work: Callable[[], _Made]) -> _Made | None:
    """Returns what the first process makes of `work`, and None in the others; all must call.

    What `work` raises in the first process, the others raise as a `UserError` of the same line.
    """
    made, error, said = None, None, ""
    if jax.process_index() == 0:
        try:
            made = work()
        except Exception as raised:  # whatever it is: the others would wait for the first
            error, said = raised, str(raised) or type(raised).__name__
    if jax.process_count() > 1:
        line = np.frombuffer(said.encode(errors="replace")[:_LINE].ljust(_LINE, b"\0"), np.uint8)
        line = np.asarray(multihost_utils.broadcast_one_to_all(line))
        said = line.tobytes().rstrip(b"\0").decode(errors="ignore")
    if error:
        raise error
    if said:
        raise UserError(said)
    return made


def in_mesh(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """Returns the context in which programs are compiled for `mesh`."""
    set_already = mesh is None or jax.sharding.get_abstract_mesh() == mesh.abstract_mesh
    return contextlib.nullcontext() if set_already else jax.set_mesh(mesh)


def on_host(x: jax.Array | np.ndarray) -> np.ndarray:
    """Returns the whole array, also where other processes hold parts of it; all must call."""
    if isinstance(x, np.ndarray) or x.is_fully_addressable:
        return np.asarray(x)
    if x.is_fully_replicated:
        return np.asarray(x.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


@contextlib.contextmanager
def out_of_memory(what: str, remedy: str) -> Iterator[None]:
    """Turns a device's running out of memory into a `UserError` of one line."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"out of memory with {what}: {remedy}") from error


def release_memory() -> None:
    """Gives freed memory back to the system where the C library can (glibc).

    XLA's compiler frees some 200 MB that the allocator would otherwise keep for the whole run.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
