"""Our programs lowered for a platform that is not here, as the host's own code comes to them.

The code that is measured runs with abstract weights. Its jitted functions are not run but traced
and lowered; what they would return is abstract too, and zeros where it is small, for the host reads
some of it.
"""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm import decoder
from sublim_jax.llm.model import parameters
from sublim_jax.llm.sampling import programs, score
from sublim_jax.llm.training import step
from sublim_jax.mlp import ensemble

_MODULES = (decoder, programs, score, step)
_SMALL = 2**16  # numbers
_CUDNN = 91000  # the version that is pretended
_PRETENDED = {"cuda": "gpu", "tpu": "tpu"}
_KERNELS = ("__cudnn$fmha", "tpu_custom_call")
_MEMORY = {"bytes_limit": 72 * 2**30, "bytes_in_use": 16 * 2**30}  # of a GPU of 80 GB, at 7B
_platform = ""


class _Device:
    """Where abstract weights lie."""

    def memory_stats(self) -> dict[str, int]:
        return _MEMORY


class _Weight(jax.ShapeDtypeStruct):
    """An abstract array of which the host may ask where it lies, and its size."""

    @classmethod
    def of(cls, array: jax.ShapeDtypeStruct) -> "_Weight":
        return cls(array.shape, array.dtype, sharding=array.sharding)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def devices(self) -> set[Any]:
        return {_Device()}


class Lowered(Exception):
    """Raised where the last program that is wanted has been lowered."""


def pretend(platform: str) -> None:
    """Makes this process, which computes nothing, lower for "cuda" or "tpu" from now on."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    global _platform
    _platform = platform
    jax.default_backend = lambda: _PRETENDED[platform]
    cudnn.check_cudnn_version = lambda: _CUDNN


def abstract(config: Any, dtype: str, mesh: Any = None) -> Any:
    """Returns what stands for a `Decoder` with weights that do not exist."""
    weights = jax.tree.map(_Weight.of, parameters.abstract(config, jnp.dtype(dtype), mesh))
    return types.SimpleNamespace(config=config, mesh=mesh, pure=lambda: weights)


def lower(work: Callable[[], Any], last: str = "") -> dict[str, Any]:
    """Returns how often each jitted function was lowered, and whether a kernel was among them.

    Args:
      work: what is run on abstract weights.
      last: the function after which it ends.
    """
    counts: dict[str, int] = {}
    kernels: set[str] = set()

    def lowered(function: Any, name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, more))):
                return function(*args, **more)  # within another
            traced = function.trace(*args, **more)
            text = traced.lower(lowering_platforms=(_platform,)).as_text()
            counts[name] = counts.get(name, 0) + 1
            kernels.update(kernel for kernel in _KERNELS if kernel in text)
            if name == last:
                raise Lowered
            return jax.tree.map(_standing_in, traced.out_info)

        return call

    def compiled(one: Any, jobs: Any, data: Any, mesh: Any) -> Callable[[Any], Any]:
        count = len(jax.tree.leaves(jobs)[0])
        made = lowered(ensemble.over(one, count, mesh), "ensemble")(jobs, data)
        return lambda _: jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), made)

    def first_state(*args: Any) -> Any:
        state, fixed = step._first_state(*args)
        return state._replace(stopped=jnp.full_like(state.stopped, -1)), fixed  # they all learn

    with contextlib.ExitStack() as stack:
        for module in _MODULES:
            for name, function in vars(module).copy().items():
                if hasattr(function, "trace") and hasattr(function, "lower"):
                    stack.enter_context(_replaced(module, name, lowered(function, name)))
        stack.enter_context(_replaced(ensemble, "compiled", compiled))
        stack.enter_context(_replaced(step, "first_state", first_state))
        stack.enter_context(_replaced(jax, "device_put", lambda tree, *_, **__: tree))
        stack.enter_context(contextlib.suppress(Lowered))
        work()
    if last and last not in counts:
        raise ValueError(f"{last} was not reached, only {', '.join(counts)}")
    return {"programs": counts, "kernels": sorted(kernels)}


def _standing_in(out: Any) -> Any:
    if np.prod(out.shape, dtype=np.int64) <= _SMALL and not jax.dtypes.issubdtype(
        out.dtype, jax.dtypes.extended
    ):
        return jnp.zeros(out.shape, out.dtype)
    return jax.ShapeDtypeStruct(out.shape, out.dtype)


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    old = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, old)
