"""Many independent trainings as one program: jobs are spread over the devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_ALONE, _WHOLE = PartitionSpec("student"), PartitionSpec()
_MOST = 256  # jobs that one accelerator does at once


def compiled(one: Callable[..., Any], jobs: Any, data: Any, mesh: Mesh) -> Callable[[Any], Any]:
    """Returns the compiled program of `one(job, data)` over so many jobs as those given, or fewer.

    It returns what `one` does, with a leading axis of jobs, as NumPy arrays.

    Args:
      one: pure; what it returns for a job does not depend on the others.
      jobs: a tree of arrays with a leading axis of jobs.
      data: a tree of arrays that every job reads; put on the devices here.
      mesh: jobs are spread over its axis `student`; its other axes have size 1.
    """
    size = -(-_count(jobs) // mesh.size) * mesh.size

    def filled(jobs: Any) -> Any:
        more = size - _count(jobs)
        return jax.tree.map(lambda a: np.concatenate([a, a[:1].repeat(more, 0)]), jobs)

    def run(jobs: Any) -> Any:
        made = jax.device_get(program(filled(jobs), placed))
        return jax.tree.map(lambda a: a[: _count(jobs)], made)

    placed = jax.device_put(data, NamedSharding(mesh, _WHOLE))
    program = over(one, size, mesh).lower(filled(jobs), placed).compile()
    return run


def over(one: Callable[..., Any], size: int, mesh: Mesh) -> Any:
    """Returns the jitted function of (jobs, data) that `compiled` compiles for `size` jobs."""
    batch = at_once(size, mesh)

    def local(jobs: Any, data: Any) -> Any:
        # Not a batch axis of one: it would cost a sixth of the speed.
        return lax.map(lambda job: one(job, data), jobs, batch_size=batch if batch > 1 else None)

    specs = (_ALONE, _WHOLE)
    return jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=_ALONE, check_vma=False)
    )


def at_once(jobs: int, mesh: Mesh) -> int:
    """Returns how many of some jobs each device does at once.

    One on a CPU, whose cache holds its state; as many as there are on an accelerator.
    """
    return 1 if jax.default_backend() == "cpu" else min(_MOST, -(-jobs // mesh.size))


def derangement(seed: int, members: int) -> np.ndarray:
    """Returns int32 [members]: for each member another one, every member once.

    A random cycle through all of them, so that for two members or more none meets itself (the
    official script's plain permutation leaves one in place on average).
    """
    cycle = np.random.default_rng(seed).permutation(members)
    other = np.empty(members, np.int32)
    other[cycle] = np.roll(cycle, 1)
    return other


def _count(jobs: Any) -> int:
    return len(jax.tree.leaves(jobs)[0])
