"""Two processes on one machine, each with half of the devices, do what one does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sublim_jax.llm import testing

ROOT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def launch(
    script: str, arguments: list[str], processes: int, leave_at: str = "", says: str = ""
) -> None:
    """Runs `launch.script` over four devices, as one process or several.

    Args:
      leave_at: a file at whose appearance one process is told to leave: all then save and end.
      says: what every process says before it ends with an error.
    """
    status = 130 if leave_at else 2 if says else 0
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(4 // processes)}
    if processes > 1:
        env |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{_free_port()}"}
        env |= {"JAX_NUM_PROCESSES": str(processes)}
    command = [sys.executable, "-m", f"launch.{script}", *arguments]
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**env, "JAX_PROCESS_ID": str(i)} if processes > 1 else env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(processes)
    ]
    try:
        while leave_at and not Path(leave_at).exists():
            assert all(process.poll() is None for process in running), running[0].communicate()
            time.sleep(0.05)
        if leave_at:
            running[-1].send_signal(signal.SIGTERM)
        for process in running:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == status, said
            assert says in said
    finally:
        for process in running:
            process.kill()


@pytest.mark.slow
def test_two_processes_sample_and_score_what_one_does(tmp_path):
    model = testing.write_checkpoint(tmp_path / "model")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "count " * n}) + "\n" for n in range(1, 12)))
    found = {}
    for processes in (1, 2):
        work = tmp_path / f"of-{processes}"
        common = [f"--config.model={model}", "--config.mesh.data=2", "--config.mesh.model=2"]
        sampled = ["--config.sampling.max_new_tokens=24", "--config.sampling.logprobs=True"]
        sampled += ["--config.rows=8", f"--config.data={prompts}", f"--workdir={work}"]
        launch("generate", [*common, *sampled], processes)
        completions = work / "data" / "completions.jsonl"
        asked = [f"--config.data={completions}", f"--workdir={work}-scored"]
        launch("score", [*common, *asked], processes)
        scores = Path(f"{work}-scored") / "data" / "scores.jsonl"
        found[processes] = [
            [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            for file in (completions, scores)
        ]
    # Another prompt under the same name: the first process sees it, and both say so.
    prompts.write_text(json.dumps({"prompt": "count"}) + "\n")
    launch("generate", [*common, *sampled], 2, says="holds a run that read something else")
    for one, two in zip(found[1], found[2], strict=True):
        assert len(one) == 11
        for a, b in zip(one, two, strict=True):
            assert a.pop("logprob") == pytest.approx(b.pop("logprob"), abs=1e-4)
            logs = a.pop("token_logprobs", []), b.pop("token_logprobs", [])
            assert logs[0] == pytest.approx(logs[1], abs=1e-5)
            assert a == b


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_their_checkpoint_is_one_s(tmp_path):
    model = testing.write_checkpoint(tmp_path / "model")
    for name in "ab":
        rows = [{"prompt": f"{name} {n}", "completion": name * (1 + n % 9)} for n in range(40)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    common = [f"--config.model={model}", "--config.mesh.student=2", "--config.mesh.model=2"]
    common += [f"--config.data={tmp_path}/a.jsonl,{tmp_path}/b.jsonl", "--config.recipe.epochs=20"]
    common += ["--config.recipe.batch=8", "--config.recipe.learning_rate=0.01"]
    common += ["--config.recipe.save_every=5", "--config.merge=True"]
    asked = {n: [*common, f"--workdir={tmp_path}/{n}"] for n in ("one", "two", "both")}

    def learnt(run):
        files = [tmp_path / run / "students" / s / "adapter_model.safetensors" for s in "01"]
        files += [tmp_path / run / "models" / s / "model.safetensors" for s in "01"]
        results = json.loads((tmp_path / run / "results.json").read_text())["rows"]
        return [load_file(f) for f in files], [row["mean"] for row in results]

    launch("finetune", asked["one"], 1)
    # Two begin, one of them is told to leave, both save; one process goes on from there.
    steps = tmp_path / "both" / "checkpoints" / "steps"
    launch("finetune", asked["both"], 2, leave_at=str(steps / "5"))
    reached = max(int(folder.name) for folder in steps.iterdir())
    assert 5 <= reached < 100
    shutil.copytree(tmp_path / "both", tmp_path / "two")
    launch("finetune", asked["both"], 1)
    launch("finetune", asked["two"], 2)
    expected, losses = learnt("one")
    for run in ("both", "two"):
        found, its_losses = learnt(run)
        assert its_losses == pytest.approx(losses, abs=1e-4)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for name, value in ours.items():
                np.testing.assert_allclose(value, theirs[name], atol=1e-3)
