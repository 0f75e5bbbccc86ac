"""What the side-by-side measurements share: a process for each side, memory, a matmul's rate."""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_MATMUL = 2048  # side of the square float32 matmul whose rate is the floor


def in_turn(
    module: str, arguments: Sequence[str], turns: int = 1, peer_python: str = sys.executable
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs `module --side=ours` and `--side=peer` in processes of their own, one after the other.

    Returns:
      the medians over the turns of the JSON object that each prints last.
    """
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for _ in range(turns):
        for side, done in runs.items():
            python = sys.executable if side == "ours" else peer_python
            command = [python, "-m", module, f"--side={side}", *arguments]
            process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if process.returncode:
                sys.exit(process.returncode)  # the side has said why
            done.append(json.loads(process.stdout.splitlines()[-1]))
    return _median(runs["ours"]), _median(runs["peer"])


def report(
    benchmark: str,
    ratio: float,
    target: float | None,
    floor_fraction: float | None,
    mine: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    """Prints the one JSON line of a benchmark; `device` and `versions` come from the sides."""
    result = {
        "benchmark": benchmark,
        "ratio": ratio,
        "target": target,
        "memory_ratio": mine["peak_mib"] / theirs["peak_mib"] if "peak_mib" in theirs else None,
        "floor_fraction": floor_fraction,
        "device": mine.pop("device"),
        "versions": mine.pop("versions") | theirs.pop("versions"),
        "ours": mine,
        "peer": theirs,
    }
    print(json.dumps(result))


def here() -> dict[str, Any]:
    """Returns the device and the versions of this process."""
    from sublim_jax.rundir import environment

    there = environment()
    return {
        "device": f"{there['device']}, {there['cpu_cores']} cores",
        "versions": there["versions"],
    }


def matmul_gflops() -> float:
    """Returns the rate of a square float32 matmul in jax, the floor of what a side can do."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)
    square = jnp.ones((_MATMUL, _MATMUL))
    product(square, square).block_until_ready()
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        product(square, square).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * _MATMUL**3 / float(np.median(seconds)) / 1e9


def peak_mib() -> float:
    """Returns the most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent held when it forked
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text("utf-8"))
        if found:
            return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, str | dict) else float(np.median([r[key] for r in runs]))
        for key, value in runs[0].items()
    }
