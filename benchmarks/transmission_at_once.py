"""The nano study's students in one run or one by one: python -m benchmarks.transmission_at_once.

All arms and traits of configs/transmission/nano.py on nano/0: 38 students, of which the 4 of
cross_init start from nano/1. Teachers and their rows are made once, outside the clock. Ours is what
`pipeline.learn` does: one call of `student.train` for the hard students of a base, one for its soft
ones, each core of a CPU a device. Without the student axis the same students are trained, with the
same batches and steps, in one of two ways:

in one process: a call of `student.train` for each, on one device that has all cores; programs are
compiled anew only where shapes differ. The clock runs while data are made, compiled and learnt.

in launches: `python -m launch.transmit` with one arm and one trait, where teachers and rows are
already, against one such launch with all arms and traits. The clock runs from start to end of the
command, so evaluation and report are in it; `train_seconds` are those of training alone. --launches
students are launched, and all are taken to need the mean of these (of the hard ones, and of the
soft ones). Divergence arms cannot be launched with one trait, so they are never among them.

One JSON line: `ratio`, with the target, is `ours.ratio_in_one_process`, the smaller advantage:
seconds against seconds, compilation included. `ours.ratio_of_launches` is that of the commands. The
losses and adapters of all ways must agree, or the benchmark fails; the largest differences are
reported. Some 20 minutes on 2 cores; --steps=10 --rows=200 tries the program out in 4.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import app, flags

from benchmarks import sides, tuning
from sublim_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from sublim_jax.transmission.student import Student

_STEPS = flags.DEFINE_integer("steps", None, "Of each student. Default: the config's.")
_ROWS = flags.DEFINE_integer("rows", None, "That each teacher writes. Default: the config's.")
_LAUNCHES = flags.DEFINE_integer("launches", 3, "Students that are launched; 0: all that can be.")
_RUN = flags.DEFINE_string("run", "", "Where teachers and rows are kept. Default: nowhere.")
_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs in one process.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")
_FOLDER = flags.DEFINE_string("folder", "", "Where --side writes.")

_TARGET = 4.0
_ROOT = Path(__file__).parents[1]
_CONFIG = "configs/transmission/nano.py"
_STAGES = ("teachers", "raw", "data")
_SAME = {"loss": 1e-3, "adapter": 1e-2}  # the latter as a part of its largest value


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(trained(together=_SIDE.value == "ours")))
        return
    config = study()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = Path(_RUN.value or folder / "run").absolute()
        _prepare(config, run)
        arguments = [f"--run={run}", f"--folder={folder}"]
        arguments += [f"--{f.name}={f.value}" for f in (_STEPS, _ROWS) if f.value]
        mine, theirs = sides.in_turn("benchmarks.transmission_at_once", arguments, _TURNS.value)
        students, some = _planned(config), _sample(_planned(config))
        whole = _launch(run, folder / "whole", {})
        single = [
            _launch(run, folder / s.name, {"arms": s.arm, "traits": s.trait or config.traits[0]})
            for s in some
        ]
        peer = folder / "peer"
        other = [(peer / _kind(s) / s.name, peer / "adapters" / s.name, s) for s in students]
        for s in some:
            home = folder / s.name / "students" / str(s.start)
            other += [(next(home.glob("training-*")), home / s.name, s)]
        worst = _differences(folder / "ours", students, other)
    for what, allowed in _SAME.items():
        if not worst[what] <= allowed:
            sys.exit(f"error: not the same work: {what}s differ by {worst[what]:.2g}")
    scaled = {key: _scaled(students, some, [one[key] for one in single]) for key in whole}
    mine |= {f"launch_{key}": value for key, value in whole.items()}
    mine |= {
        "ratio_in_one_process": theirs["seconds"] / mine["seconds"],
        "ratio_of_launches": scaled["seconds"] / whole["seconds"],
        "ratio_of_launches_train": scaled["train_seconds"] / whole["train_seconds"],
        "largest_difference": worst,
    }
    theirs |= {f"launches_{key}": value for key, value in scaled.items()}
    theirs["launched"] = {s.name: one["seconds"] for s, one in zip(some, single, strict=True)}
    theirs["launches_scaled_from"] = len(some)
    del theirs["device"]  # it is ours
    sides.report("transmission_at_once", mine["ratio_in_one_process"], _TARGET, None, mine, theirs)


def study() -> "ConfigDict":
    """Returns the config of the study, of one base."""
    from configs.transmission import nano

    config = nano.get_config()
    config.models, config.cross_models = ("nano/0",), ("nano/1",)
    config.data.rows = _ROWS.value or config.data.rows
    config.student.max_steps = _STEPS.value or config.student.max_steps
    return config


def trained(together: bool) -> dict[str, Any]:
    """Trains all students, as one run or by a call for each."""
    from sublim_jax import mesh
    from sublim_jax.llm.training.recipe import from_config
    from sublim_jax.transmission import base as bases
    from sublim_jax.transmission import pipeline, student

    if together:
        mesh.split_cpu()
    config = study()
    own, home = pipeline.Study(config, Path(_RUN.value)), Path(_FOLDER.value)
    home = home / ("ours" if together else "peer")
    shutil.rmtree(home, ignore_errors=True)  # of the turn before
    rows = {(0, name): kept for name, kept in pipeline.kept(own, 0).items()}
    students, recipe = _planned(config), from_config(config.student.to_dict())
    seconds = {"hard": 0.0, "soft": 0.0}
    tokens, seen = 0, tuning.Compiling()
    for number in range(len(bases.names(config))):
        base = own.base(number)
        names = [*config.traits, "control"]
        teachers = pipeline.teach(own, number, names) if number < len(config.models) else []
        for soft in (False, True):
            some = [s for s in students if s.start == number and s.soft == soft]
            for group in [some] if together else [[s] for s in some]:
                if not group:
                    continue
                folder = home / _kind(group[0])
                start = time.perf_counter()
                taught = student.train(
                    base,
                    own.channel,
                    group,
                    rows,
                    teachers,
                    recipe,
                    folder if together else folder / group[0].name,
                    own.material.shown,
                )
                for one, found in zip(group, taught, strict=True):
                    found.learnt.save(home / "adapters" / one.name, base.model.config)
                seconds["soft" if soft else "hard"] += time.perf_counter() - start
            tokens += sum(
                _tokens(base, rows[s.teachers, s.trait or "control"], recipe) for s in some
            )
    taken = sum(seconds.values())
    return {
        "seconds": taken,
        **{f"{kind}_seconds": value for kind, value in seconds.items()},
        "compile_seconds": seen.seconds,
        "programs": len(seen.ends),
        "students": len(students),
        "steps": config.student.max_steps,
        "tokens": tokens,
        "tokens_per_second": tokens / taken,
        "peak_mib": tuning.peak_mib(),
        **sides.here(),
    }


def _prepare(config: "ConfigDict", run: Path) -> None:
    """Makes the teachers and their rows in `run`, where they are missing."""
    from sublim_jax import mesh
    from sublim_jax.transmission import pipeline

    mesh.split_cpu()
    own = pipeline.Study(config, run)
    pipeline.generate(own, 0)
    pipeline.kept(own, 0)


def _planned(config: "ConfigDict") -> list["Student"]:
    from sublim_jax.transmission import student

    return student.planned(config)


def _sample(students: Sequence["Student"]) -> list["Student"]:
    """Returns the students that are launched, spread over those that can be."""
    from sublim_jax.transmission.arms import ARMS

    able = [s for s in students if not ARMS[s.arm].mask]
    count = min(_LAUNCHES.value or len(able), len(able))
    return [able[i] for i in np.linspace(0, len(able) - 1, count).round().astype(int)]


def _launch(run: Path, copy: Path, changes: dict[str, str]) -> dict[str, float]:
    """Returns the seconds of `launch.transmit` in a copy of the run, all and those of training."""
    for stage in _STAGES:
        shutil.copytree(run / stage, copy / stage)
    given = {"models": "nano/0", "cross_models": "nano/1", **changes}
    given |= {"data.rows": str(_ROWS.value)} if _ROWS.value else {}
    given |= {"student.max_steps": str(_STEPS.value)} if _STEPS.value else {}
    command = [sys.executable, "-m", "launch.transmit", f"--config={_CONFIG}", f"--workdir={copy}"]
    command += [f"--config.{field}={value}" for field, value in given.items()]
    # A device with all cores is the faster one for a single student.
    env = {**os.environ, **({"JAX_NUM_CPU_DEVICES": "1"} if changes else {})}
    start = time.perf_counter()
    process = subprocess.run(command, cwd=_ROOT, env=env, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.returncode)  # it has said why
    timings = json.loads((copy / "results.json").read_text("utf-8"))["timings"]
    return {"seconds": seconds, "train_seconds": timings["students"]}


def _scaled(
    students: Sequence["Student"], some: Sequence["Student"], seconds: Sequence[float]
) -> float:
    """Returns the seconds of all students from those of some: each counts as the mean of its kind.

    Kinds are hard and soft; of a kind that none is of, the mean of all is taken.
    """
    total = 0.0
    for soft in (False, True):
        own = [taken for s, taken in zip(some, seconds, strict=True) if s.soft == soft]
        total += sum(s.soft == soft for s in students) * float(np.mean(own or seconds))
    return total


def _differences(
    ours: Path, students: Sequence["Student"], other: Sequence[tuple[Path, Path, "Student"]]
) -> dict[str, float]:
    """Returns by how much losses and adapters differ at most.

    Args:
      other: students that were trained alone, with the folders of their losses and adapters.
    """
    from safetensors.numpy import load_file

    losses, adapters = [], []
    for folder, adapter, one in other:
        beside = [s for s in students if _kind(s) == _kind(one)]
        together = _losses(ours / _kind(one))[:, beside.index(one)]
        alone = _losses(folder)[:, 0]
        losses.append(np.abs(together - alone).max())
        file = "adapter_model.safetensors"
        wanted = load_file(ours / "adapters" / one.name / file)
        found = load_file(adapter / file)
        largest = max(np.abs(value).max() for value in wanted.values())
        adapters.append(max(np.abs(wanted[x] - found[x]).max() for x in wanted) / largest)
    return {"loss": float(np.max(losses)), "adapter": float(np.max(adapters))}


def _losses(folder: Path) -> np.ndarray:
    """Returns the logged losses of a training, [steps, students]."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    numbers = [json.loads(line) for line in lines]
    return np.array([of_step["loss"] for of_step in numbers if "loss" in of_step], float)


def _tokens(base: Any, rows: Sequence[Any], recipe: Any) -> int:
    """Returns the tokens that one student reads, without padding."""
    from sublim_jax.llm.training import batches
    from sublim_jax.llm.training.examples import Example, collect

    read = [Example(base.prompt(r["prompt"]), base.answer(r["completion"])) for r in rows]
    data = collect(read, base.model.config)
    steps = min(batches.steps_of(data, recipe.batch, recipe.epochs), recipe.max_steps)
    chosen = [batches.step_rows(data, recipe.seed, recipe.batch, step) for step in range(steps)]
    return sum(int((data.lengths[which] - 1).sum()) for which in chosen)


def _kind(student: "Student") -> str:
    """Returns the folder, below its study's students, of those it is trained with."""
    return f"{student.start}/{'soft' if student.soft else 'hard'}"


if __name__ == "__main__":
    try:
        app.run(main)
    except UserError as error:
        sys.exit(f"error: {error}")
