"""Arms of the atlas in one run or one by one: python -m benchmarks.atlas_at_once.

Some arms of configs/atlas/digits.py that the MLP study can be told too (`ARMS`), 12 members each.
Ours is the atlas of these arms: a teacher is trained once for all that share it, and arms of one
shape are one program. The peer is the study, for one arm after the other: its own teachers, its own
program. Both report; both look at their students ten times on the way. Two ways of the peer:

in one process: `study.run` for each arm, against `atlas.run` in a process. In launches: the command
`python -m launch.mlp` for each arm, against the process of ours from its start to its end.

One JSON line: `ratio`, with the target, is `ours.ratio_in_one_process`, the smaller advantage;
`ours.ratio_of_launches` that of the commands. The study has one learning rate for teachers and
students, the atlas two, so that arms of another rate have other teachers there, with as many steps.
Where the mean accuracies of an arm are more than four standard errors apart, the benchmark fails.
Some 5 minutes on 2 cores.
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict
from scipy import stats

from benchmarks import sides, tuning
from sublim_jax.errors import UserError

_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs in one process.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")

# What differs from the student in the middle: of a cell of the atlas, and of the study's config.
ARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "middle": ({}, {}),
    "temperature 1/4": ({"temperature": 0.25}, {"student.temperature": 0.25}),
    "temperature 4": ({"temperature": 4.0}, {"student.temperature": 4.0}),
    **{
        f"rate {rate:.0e}": ({"rate": rate}, {"optimizer.learning_rate": rate})
        for rate in (3e-4, 3e-3, 1e-2)
    },
    "init_scale 1/2": ({"init_scale": 0.5}, {"network.init_scale": 0.5}),
    "init_scale 2": ({"init_scale": 2.0}, {"network.init_scale": 2.0}),
    "another's initialisation": ({"blend": 1.0}, {"arms": ("cross_aux",)}),
    "300 steps": ({"steps": 300}, {"student.rows": 30 * 64}),
    "3000 steps": ({"steps": 3000}, {"student.rows": 300 * 64}),
    "squared error": ({"loss": "mse"}, {"student.loss": "mse"}),
    "gaussian": ({"inputs": "gaussian"}, {"student.inputs": "gaussian"}),
    "width 64": ({"width": 64}, {"network.width": 64}),
    "width 256": ({"width": 256}, {"network.width": 256}),
    "depth 3": ({"depth": 3}, {"network.depth": 3}),
}
_TARGET = 5.0
_APART = 4.0  # standard errors
_ROOT = Path(__file__).parents[1]


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    mine, theirs = sides.in_turn("benchmarks.atlas_at_once", [], _TURNS.value)
    start = time.perf_counter()
    _run([sys.executable, "-m", "benchmarks.atlas_at_once", "--side=ours"])
    whole = time.perf_counter() - start
    launched = launches()
    apart = max(
        abs(a["mean"] - theirs["arms"][label]["mean"])
        / np.hypot(_error(a), _error(theirs["arms"][label]))
        for label, a in mine["arms"].items()
    )
    if not apart <= _APART:
        sys.exit(f"error: not the same work: accuracies are {apart:.1f} standard errors apart")
    mine |= {
        "ratio_in_one_process": theirs["seconds"] / mine["seconds"],
        "ratio_of_launches": launched / whole,
        "launch_seconds": whole,
        "largest_difference_standard_errors": float(apart),
    }
    theirs |= {"launches_seconds": launched}
    del theirs["device"]  # it is ours
    sides.report("atlas_at_once", mine["ratio_in_one_process"], _TARGET, None, mine, theirs)


def _error(row: dict[str, float]) -> float:
    """Returns the standard error of a mean."""
    return (row["ci_high"] - row["mean"]) / stats.t.ppf(0.975, row["n"] - 1)


def ours() -> dict[str, Any]:
    """Runs the atlas of the arms."""
    from configs.atlas import digits
    from sublim_jax import mesh
    from sublim_jax.atlas import atlas

    mesh.split_cpu()
    config = digits.get_config()
    config.linear_members = 0  # the study predicts nothing
    lines = ConfigDict({label: cell for label, (cell, _) in ARMS.items()}, sort_keys=False)
    config.sweeps = ConfigDict({"arms": {"title": "Arms", "lines": lines}})
    seen = tuning.Compiling()
    seconds, rows = _timed(atlas.run, config)
    found = {row["arm"]: row for row in rows if row["metric"] == "accuracy"}
    return _about([found[label] for label in ARMS], seconds, seen)


def peer() -> dict[str, Any]:
    """Runs the study for each arm in turn."""
    from configs.mlp import digits
    from sublim_jax import mesh
    from sublim_jax.mlp import study

    mesh.split_cpu()
    seen, total, found = tuning.Compiling(), 0.0, []
    for label in ARMS:
        config = digits.get_config()
        config.update_from_flattened_dict(_changes(label))
        seconds, rows = _timed(study.run, config)
        total += seconds
        found += [row for row in rows if row["arm"] in config.arms]
    return _about(found, total, seen)


def launches() -> float:
    """Returns the seconds that the study's command takes for all arms in turn."""
    command = [sys.executable, "-m", "launch.mlp", "--config=configs/mlp/digits.py"]
    total = 0.0
    for label in ARMS:
        given = {
            field: ",".join(value) if isinstance(value, tuple) else value
            for field, value in _changes(label).items()
        }
        changes = [f"--config.{field}={value}" for field, value in given.items()]
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            _run([*command, f"--workdir={folder}", *changes])
            total += time.perf_counter() - start
    return total


def _changes(label: str) -> dict[str, Any]:
    """Returns what the study's config for an arm has other than configs/mlp/digits.py."""
    return {
        "members": 12,
        "network.width": 128,
        "teacher.evaluate_every": 30,
        "arms": ("student_aux",),
        "student.epochs": 10,
        "student.evaluate_every": 1,
        "student.rows": 100 * 64,
        **ARMS[label][1],
    }


def _timed(run: Any, config: ConfigDict) -> tuple[float, list[dict[str, Any]]]:
    """Returns the seconds of a run and its results; what it prints is not shown."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        run(config, folder)
        seconds = time.perf_counter() - start
        return seconds, json.loads(Path(folder, "results.json").read_text("utf-8"))["rows"]


def _about(
    found: Sequence[dict[str, Any]], seconds: float, seen: tuning.Compiling
) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "compile_seconds": seen.seconds,
        "programs": len(seen.ends),
        "arms": {
            label: {key: row[key] for key in ("mean", "ci_low", "ci_high", "n")}
            for label, row in zip(ARMS, found, strict=True)
        },
        "peak_mib": sides.peak_mib(),
        **sides.here(),
    }


def _run(command: Sequence[str]) -> None:
    process = subprocess.run(command, cwd=_ROOT, stdout=subprocess.DEVNULL)
    if process.returncode:
        sys.exit(process.returncode)  # it has said why


if __name__ == "__main__":
    try:
        app.run(main)
    except UserError as error:
        sys.exit(f"error: {error}")
