"""Measures on one GPU all that has never met one, in nine minutes: python -m benchmarks.gpu.

Each side of a measure is a process of its own with a time limit, most important first; a part that
fails, and a process that dies, is recorded as such, and the rest goes on. --out gets a JSON file
for each side, written after each of its parts, a log of what it said, and at the end table.md.

Needs a checkout, and jax, flax, optax, orbax, transformers, scikit-learn and matplotlib; torch and
peft for the peers. Where there is no GPU, the programs of all measures are lowered for cuda and for
tpu (into --out/lowered), and all parts are run at tiny sizes on the CPU (--out/tiny); every figure
of the table is then "not run", and the status is 1 if a program could not be lowered or a part run.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import app, flags

from benchmarks.gpu import child, configs, correct, decoding, lora, mlp, studies, table
from benchmarks.gpu.processes import Side, run

_OUT = flags.DEFINE_string("out", "runs/gpu", "Where everything is written; what is there goes.")
_ONLY = flags.DEFINE_multi_string("only", [], "Measures to run, instead of all.")
_SECONDS = flags.DEFINE_integer("seconds", 530, "On a GPU, when the last process is ended.")

_MODULES = (correct, mlp, decoding, lora, configs, studies)
MEASURES = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
# Of XLA's memory a part is left to cuDNN and the driver; processes follow each other.
_GPU = {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
_HOST = {"JAX_PLATFORMS": "cpu"}  # of PyTorch, which has the GPU for itself
# In the order of what matters most; those in one line at once. The limits are more than what is
# expected, and more in all than there is time: what is late takes time from what comes last.
_ON_A_GPU: tuple[tuple[tuple[str, str, float, dict[str, str]], ...], ...] = (
    (("correct", "ours", 90, _GPU), ("correct", "cpu", 90, _CPU)),
    (("mlp", "ours", 60, _GPU),),
    (("mlp", "peer", 75, _HOST),),
    (("decoding", "ours", 120, _GPU),),
    (("lora", "ours", 120, _GPU),),
    (("decoding", "peer", 70, _HOST),),
    (("lora", "peer", 60, _HOST),),
    (("configs", "ours", 75, _GPU), ("configs", "cpu", 75, _CPU)),
    (("studies", "ours", 240, _GPU),),
)
_TRY = 240.0  # seconds of a side where there is no GPU


def main(_: Sequence[str]) -> None:
    if unknown := set(_ONLY.value) - set(MEASURES):
        sys.exit(f"error: --only={min(unknown)}: choose from {', '.join(MEASURES)}")
    out, begin = Path(_OUT.value), time.monotonic()
    chosen = {name: MEASURES[name] for name in _ONLY.value or MEASURES}
    measured = out if has_gpu() else None
    files: list[Path] = []
    if measured:
        for line in _ON_A_GPU:
            at_once = [
                Side(MEASURES[one[0]].__name__, *one[1:]) for one in line if one[0] in chosen
            ]
            with ThreadPoolExecutor() as pool:
                end = begin + _SECONDS.value
                files += pool.map(lambda side, end=end: run(side, out, "real", end), at_once)
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
        with ThreadPoolExecutor(2) as pool:
            files += pool.map(lambda side: run(side, out / "lowered", "real"), lowered)
            files += pool.map(lambda side: run(side, out / "tiny", "tiny"), wanted)
    found = (module.figures(table.Found(measured, name)) for name, module in chosen.items())
    text = table.markdown(row for rows in found for row in rows)
    (out / "table.md").write_text(text + "\n", "utf-8")
    failed, lacking = table.failures(files)
    print(f"\n{text}\n")
    for said in [*lacking, *failed]:
        print(said)
    print(f"{len(failed)} parts failed; {time.monotonic() - begin:.0f} s; written to {out}")
    if failed:
        sys.exit(1)


def has_gpu() -> bool:
    """Returns whether the driver shows a GPU."""
    if not shutil.which("nvidia-smi"):
        return False
    shown = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return shown.returncode == 0 and "GPU 0" in shown.stdout


if __name__ == "__main__":
    app.run(main)
