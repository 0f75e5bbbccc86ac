"""A study that is killed at five random moments ends in the bytes of one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 5
CONFIG = """
from configs.transmission import demo

def get_config():
    config = demo.get_config()
    config.mesh.student = 1
    config.traits = ("owl", "wolf")
    config.data.rows, config.evaluation.samples = 40, 0
    config.evaluation.words, config.evaluation.measures = ("cat",), ("favourite",)
    config.teacher.replay, config.teacher.copies = 40, 1
    for recipe in (config.teacher.recipe, config.student):
        recipe.max_steps, recipe.batch, recipe.save_every = 12, 8, 2
        recipe.log_every = recipe.evaluate_every = 3
    return config
"""
STAGES = (
    "config.json",
    "teachers/0/training-*/checkpoints",
    "raw/0/owl.jsonl*",
    "data/0/owl.jsonl",
    "students/0/student-*",
    "students/0/soft-*",
    "measured/0/*",
    "mechanism/0/teachers.json",
    "mechanism/0/soft-0.json",
    "students/1/cross_init-*",
    "results.json",
)


def launch(home: Path, run: Path, kill_after: float | None = None, learns: bool = False) -> int:
    """Runs the study in `run`, a folder's "run", and returns the process's status.

    The command is the same in every folder. Programs that have been compiled are read from
    `home`; a process that `learns` adds its own, one that may be killed does not.
    """
    run.parent.mkdir(exist_ok=True)
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(home / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if learns else "1e9",
    }
    command = [sys.executable, "-m", "launch.transmit"]
    command += [f"--config={home}/small.py", f"--workdir={run.name}"]
    with (run.parent / "said").open("w") as said:
        process = subprocess.Popen(
            command, cwd=run.parent, env=env, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            return process.wait(600 if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            assert kill_after is not None, "the study hangs"
        finally:
            process.kill()
            process.wait()
    return process.returncode


def ended(run: Path) -> tuple[dict, dict]:
    """Returns what must not depend on kills: bytes of all rows and metrics, and the results."""
    files = [*run.glob("raw/**/*"), *run.glob("data/**/*"), *run.glob("*/**/metrics.jsonl")]
    rows = {
        str(file.relative_to(run)): file.read_bytes()
        for file in files
        # What was being written when the process was killed is of no file's name.
        if file.is_file() and not (file.name.startswith(".") and file.suffix == ".tmp")
    }
    results = json.loads((run / "results.json").read_text("utf-8"))
    del results["timings"], results["environment"]
    return rows, results


@pytest.mark.slow
def test_killed_five_times_it_ends_in_the_same_bytes(tmp_path):
    (tmp_path / "small.py").write_text(CONFIG)
    alone = tmp_path / "alone" / "run"
    assert launch(tmp_path, alone, learns=True) == 0, (alone.parent / "said").read_text()
    wanted = ended(alone)
    assert len(wanted[0]) == 8 + 8 + 4  # raw rows, those kept, each with its record; metrics

    timed, start = tmp_path / "timed" / "run", time.time()
    assert launch(tmp_path, timed) == 0
    whole = time.time() - start
    begin = (timed / "config.json").stat().st_mtime - start
    assert ended(timed) == wanted

    draw = random.Random(0)
    moments = [(i + draw.random()) / KILLS for i in range(KILLS)]
    draw.shuffle(moments)
    at, finished = [], 0
    for _ in range(5 * KILLS):
        run = tmp_path / f"killed-{finished}" / "run"
        wait = begin + moments.pop() * (whole - begin) if moments else None
        status = launch(tmp_path, run, wait)
        if status == -signal.SIGKILL:
            at.append(sum(any(run.glob(stage)) for stage in STAGES))
            continue
        assert status == 0, (run.parent / "said").read_text()
        assert ended(run) == wanted
        finished += 1  # the next one begins anew
        if wait is None:
            break
        moments.append(draw.random())  # it was done before its kill
    print(f"{KILLS} kills, by how many stages had begun: {at}; {finished} directories")
    assert len(at) == KILLS
    assert len(set(at)) > KILLS // 3, at
