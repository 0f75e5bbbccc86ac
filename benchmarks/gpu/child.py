"""One side of a measure, part by part: python -m benchmarks.gpu.child MODULE SIDE FILE SIZE.

The file is written anew before and after each part, so that it holds what was found and where a
process ended. Parts that it has already are not run again. SIDE is a function of the module, or the
platform (cuda, tpu) for which its programs are lowered; SIZE is `real` or `tiny`.
"""

import gc
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu import stand_in
from sublim_jax import disk, rundir

PLATFORMS = ("cuda", "tpu")
_LINES = 12  # of a traceback that are kept


def main(module: str, side: str, file: Path, size: str) -> None:
    """Runs the parts that the file does not have yet."""
    stand_in.install()
    record = read(file) or {"measure": module, "side": side, "size": size, "parts": {}}

    def write() -> None:
        disk.write(file, json_of(record))

    try:
        measure = importlib.import_module(module)
        if side in PLATFORMS:
            from benchmarks.gpu import lowering

            lowering.pretend(side)
            parts = measure.lowered()
        else:
            parts = getattr(measure, side)(size == "tiny")
        record["here"] = rundir.environment()
    except Exception as error:
        parts = []
        record["parts"]["start"] = failure(error)
    write()
    for name, part in parts:
        if name in record["parts"]:
            continue
        record["parts"][name] = {"error": ["the process ended in this part"]}
        write()
        start = time.perf_counter()
        try:
            found = part()
        except Exception as error:
            found = failure(error)
        record["parts"][name] = {**found, "wall_seconds": time.perf_counter() - start}
        write()
        gc.collect()  # the memory of what is over


def failure(error: Exception) -> dict[str, Any]:
    """Returns what is kept of an error: the package that is missing, or the traceback's end."""
    if isinstance(error, ModuleNotFoundError):
        return {"missing": error.name}
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"error": [line[:300] for line in lines[-_LINES:]]}


def read(file: Path) -> Any:
    """Returns what a side has written, or None."""
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def json_of(record: dict[str, Any]) -> str:
    """Returns a record as text."""
    return json.dumps(rundir.finite(record), indent=1) + "\n"


if __name__ == "__main__":
    _module, _side, _file, _size = sys.argv[1:]
    main(_module, _side, Path(_file), _size)
    sys.stdout.flush()
    os._exit(0)  # what libraries do as they end is not measured, and may fail
