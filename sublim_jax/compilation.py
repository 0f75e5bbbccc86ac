"""Compiled programs kept between runs, so that nobody waits for the same compilation twice."""

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from sublim_jax.mesh import in_mesh

_CPUS = Path("/proc/cpuinfo")
_STAGES = "/jax/core/compile/"  # what jax reports of tracing, lowering and compiling
_COMPILED = f"{_STAGES}backend_compile_duration"


class Compiled:
    """What jax has compiled, or read from the folder of kept programs, within `watched`.

    Attributes:
      programs: how many.
      seconds: in which something was traced, lowered or compiled, on any thread.
    """

    def __init__(self) -> None:
        self.programs = 0
        self._spans: list[tuple[float, float]] = []

    @property
    def seconds(self) -> float:
        total = reached = 0.0
        for start, end in sorted(self._spans):  # they are nested, and overlap
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def hear(self, event: str, start_time: float, end_time: float, **_: Any) -> None:
        """Notes what jax reports."""
        if event.startswith(_STAGES):
            self.programs += event == _COMPILED
            self._spans.append((start_time, end_time))


@contextlib.contextmanager
def watched() -> Iterator[Compiled]:
    """Notes what jax compiles within."""
    compiled = Compiled()
    jax.monitoring.register_event_time_span_listener(compiled.hear)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_time_span_listener(compiled.hear)


def stages(name: str, start: float, compiled: Compiled) -> dict[str, float]:
    """Returns the seconds of what began at `start` and ends now, compiling apart.

    Args:
      start: of `time.perf_counter`.
      compiled: within.
    """
    whole = time.perf_counter() - start
    return {"compile": compiled.seconds, name: whole - compiled.seconds}


@contextlib.contextmanager
def ahead(mesh: Mesh | None, program: Any, *args: Any, **settings: Any) -> Iterator[None]:
    """Compiles a jitted program for some arguments on another thread, while what is within runs.

    What cannot be compiled is left to the call to say. Several processes compile nothing ahead: all
    must do so in one order.
    """
    if jax.process_count() > 1:
        yield
        return

    def compile() -> None:
        with in_mesh(mesh):  # a thread has a mesh of its own
            program.lower(*args, **settings).compile()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(compile)
        yield


def keep_programs() -> None:
    """Keeps what jax compiles in the user's cache folder, unless the environment names another.

    A folder belongs to one kind of processor: a program for another may use instructions that this
    one lacks. Nothing is kept where the folder cannot be written.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = home / "sublim_jax" / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a user without a home
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Small programs too: a study has hundreds, of a tenth of a second each.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _processor() -> str:
    lines = _CPUS.read_text("utf-8").splitlines() if _CPUS.exists() else []
    kinds = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    named = "".join(sorted({*kinds})) or platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(named.encode()).hexdigest()[:12]}"
