"""Measures on one GPU all that has never met one, in nine minutes: python -m benchmarks.gpu.

Each side of a measure is a process of its own with a time limit, most important first; a part that
fails, and a process that dies, is recorded as such, and the rest goes on. --out gets a JSON file
for each side, written after each of its parts, a log of what it said, and at the end table.md.

Needs a checkout, and jax, flax, optax, orbax, transformers, scikit-learn and matplotlib; torch and
peft for the peers. Where there is no GPU, the programs of all measures are lowered for cuda and for
tpu (into --out/lowered), and all parts are run at tiny sizes on the CPU (--out/tiny); every figure
of the table is then "not run", and the status is 1 if a program could not be lowered or a part run.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import app, flags

from benchmarks.gpu import child, configs, correct, decoding, lora, mlp, studies, table

_OUT = flags.DEFINE_string("out", "runs/gpu", "Where everything is written; what is there goes.")
_ONLY = flags.DEFINE_multi_string("only", [], "Measures to run, instead of all.")
_SECONDS = flags.DEFINE_integer("seconds", 530, "On a GPU, when the last process is ended.")

_ROOT = Path(__file__).parents[2]
_MODULES = (correct, mlp, decoding, lora, configs, studies)
MEASURES = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
# Of XLA's memory a part is left to cuDNN and the driver; processes follow each other.
_GPU = {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
_HOST = {"JAX_PLATFORMS": "cpu"}  # of PyTorch, which has the GPU for itself


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


# In the order of what matters most. The limits are more than what is expected, and more in all than
# there is time: what is late takes time from what comes last.
_ON_A_GPU = (
    ("correct", "cpu", 60, _CPU),
    ("correct", "ours", 75, _GPU),
    ("mlp", "ours", 60, _GPU),
    ("mlp", "peer", 75, _HOST),
    ("decoding", "ours", 130, _GPU),
    ("lora", "ours", 120, _GPU),
    ("decoding", "peer", 75, _HOST),
    ("lora", "peer", 60, _HOST),
    ("configs", "ours", 100, _GPU),
    ("studies", "ours", 180, _GPU),
)
_LINES = 8  # of a log that are kept where its process died
_TRY = 240.0  # seconds of a side where there is no GPU


def main(_: Sequence[str]) -> None:
    if unknown := set(_ONLY.value) - set(MEASURES):
        sys.exit(f"error: --only={min(unknown)}: choose from {', '.join(MEASURES)}")
    out, begin = Path(_OUT.value), time.monotonic()
    chosen = {name: MEASURES[name] for name in _ONLY.value or MEASURES}
    if has_gpu():
        wanted = [
            Side(MEASURES[name].__name__, side, limit, environment)
            for name, side, limit, environment in _ON_A_GPU
            if name in chosen
        ]
        files = [run(side, out, "real", begin + _SECONDS.value) for side in wanted]
    else:
        wanted = [
            Side(module.__name__, side, _TRY, _CPU)
            for module in chosen.values()
            for side in ("cpu", "ours", "peer")
            if hasattr(module, side)
        ]
        lowered = [
            Side(module.__name__, platform, _TRY, _CPU)
            for module in chosen.values()
            for platform in child.PLATFORMS
        ]
        files = [run(side, out / "lowered", "real") for side in lowered]
        files += [run(side, out / "tiny", "tiny") for side in wanted]
    rows = [
        row for name, module in chosen.items() for row in module.figures(table.Found(out, name))
    ]
    text = table.markdown(rows)
    (out / "table.md").write_text(text + "\n", "utf-8")
    failed, lacking = table.failures(files)
    print(f"\n{text}\n")
    for line in [*lacking, *failed]:
        print(line)
    print(f"{len(failed)} parts failed; {time.monotonic() - begin:.0f} s; written to {out}")
    if failed:
        sys.exit(1)


def has_gpu() -> bool:
    """Returns whether the driver shows a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    shown = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return shown.returncode == 0 and "GPU 0" in shown.stdout


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
        ends += [*log.read_text("utf-8", "replace").splitlines()[-_LINES:], said]
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


if __name__ == "__main__":
    app.run(main)
