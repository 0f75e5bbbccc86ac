"""Many independent trainings as one program: jobs spread over the devices, in turn on each."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_ALONE, _WHOLE = PartitionSpec("student"), PartitionSpec()


def compiled(
    one: Callable[..., Any], jobs: Any, data: Any, mesh: Mesh, at_once: int
) -> Callable[[Any], Any]:
    """Returns the compiled program of `one(job, data)` over jobs like those given.

    Args:
      one: pure; what it returns for a job does not depend on the others.
      jobs: a tree, or its shapes, whose leaves have a leading axis that the mesh's axis `student`
        divides.
      data: a tree of arrays that every job reads; put on the devices here.
      mesh: its other axes have size 1.
      at_once: of the jobs of one device. A CPU does one after the other: its state stays in the
        cache, and a batch axis of one costs a sixth of the speed.
    """

    def local(jobs: Any, data: Any) -> Any:
        def each(job: Any) -> Any:
            return one(job, data)

        return lax.map(each, jobs, batch_size=at_once if at_once > 1 else None)

    program = jax.shard_map(
        local, mesh=mesh, in_specs=(_ALONE, _WHOLE), out_specs=_ALONE, check_vma=False
    )
    placed = jax.device_put(data, NamedSharding(mesh, _WHOLE))
    made = jax.jit(program).lower(jobs, placed).compile()
    return lambda jobs: made(jobs, placed)


def derangement(seed: int, members: int) -> np.ndarray:
    """Returns int32 [members]: for each member another one, every member once.

    A random cycle through all of them, so that for two members or more none meets itself (the
    official script's plain permutation leaves one in place on average).
    """
    cycle = np.random.default_rng(seed).permutation(members)
    other = np.empty(members, np.int32)
    other[cycle] = np.roll(cycle, 1)
    return other
