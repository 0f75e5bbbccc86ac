"""`make demo` a second time, against the first: python -m benchmarks.demo_twice.

The environment is already installed. The first run starts with an empty folder of compiled
programs, the second with those of the first; each writes runs of its own. `compile_seconds` is what
the runs' results say of tracing and compiling, and in the second of reading programs.

One JSON line: the ratio is the first's seconds by the second's; the target is a second run in 60%
of the time. 2 CPU cores: some 10 to 25 minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import app

from benchmarks import sides

_ROOT = Path(__file__).parents[1]
_TARGET = 1 / 0.6


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = (demo(Path(folder, name), Path(folder, "cache")) for name in "12")
    mine, theirs = {**second, **sides.here()}, {**first, "versions": {}}
    ratio = first["seconds"] / second["seconds"]
    sides.report("demo_twice", ratio, _TARGET, None, mine, theirs)


def demo(runs: Path, cache: Path) -> dict[str, Any]:
    """Returns the seconds of a demo, and of them those in which something was compiled."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")
    }
    environment["XDG_CACHE_HOME"] = str(cache)
    start = time.perf_counter()
    done = subprocess.run(
        ["make", "demo", f"RUNS={runs}"], cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    seconds = time.perf_counter() - start
    results = [json.loads(file.read_text("utf-8")) for file in sorted(runs.glob("*/results.json"))]
    compiling = sum(found["timings"].get("compile", 0.0) for found in results)
    return {"seconds": seconds, "compile_seconds": compiling}


if __name__ == "__main__":
    app.run(main)
