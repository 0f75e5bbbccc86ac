"""Compiled programs kept between runs, so that nobody waits for the same compilation twice."""

import hashlib
import os
import platform
from pathlib import Path

import jax

_CPUS = Path("/proc/cpuinfo")


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
