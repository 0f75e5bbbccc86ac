"""A side of a measure as a process of its own, with a time limit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu import child

_ROOT = Path(__file__).parents[2]
_LINES = 8  # of a log that are kept where its process died


class Side(NamedTuple):
    """One process: a module, its side, the seconds that it may take, and its environment."""

    module: str
    name: str
    limit: float
    environment: dict[str, str]

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"{self.module.rpartition('.')[2]}_{self.name}"


def run(side: Side, folder: Path, size: str, end: float = float("inf")) -> Path:
    """Runs a side until its limit, or `end` by `time.monotonic`, and returns its file.

    A process that dies is started again for the parts that it has not come to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / f"{side.stem}.json", folder / f"{side.stem}.log"
    for old in (file, log):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu.child", side.module, side.name]
    command += [str(file.absolute()), size]
    start, before = time.monotonic(), -1
    end = min(end, start + side.limit)
    ends: list[str] = []
    while _parts(file) > before and time.monotonic() < end:
        before = _parts(file)
        said = _call(command, side.environment, log, end - time.monotonic())
        if not said:
            break
        last = log.read_text("utf-8", "replace").splitlines()[-_LINES:]
        ends += [*(line[:300] for line in last), said]
    if ends or before < 0:
        record = child.read(file) or {"measure": side.module, "side": side.name, "parts": {}}
        record["parts"]["process"] = {"error": ends or ["no time was left for it"]}
        file.write_text(child.json_of(record), "utf-8")
    print(f"{folder / side.stem}: {time.monotonic() - start:.0f} s", flush=True)
    return file


def _call(command: Sequence[str], environment: dict[str, str], log: Path, limit: float) -> str:
    """Runs a command, and returns how it ended if not as it should."""
    with log.open("ab") as said:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        finally:  # those that it has started too
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return f"ended with status {status}" if status else ""


def _parts(file: Path) -> int:
    return len((child.read(file) or {"parts": {}})["parts"])
