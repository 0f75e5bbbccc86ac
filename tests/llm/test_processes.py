"""Two processes on one machine, each with half of the devices, do what one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sublim_jax.llm import testing

ROOT = Path(__file__).parents[2]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def _launch(script: str, arguments: list[str], processes: int) -> None:
    """Runs `launch.script` over four devices, as one process or several."""
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
        for process in running:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said
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
        asked = ["--config.sampling.max_new_tokens=24", "--config.sampling.logprobs=True"]
        asked += ["--config.rows=8", f"--config.data={prompts}", f"--workdir={work}"]
        _launch("generate", [*common, *asked], processes)
        completions = work / "data" / "completions.jsonl"
        asked = [f"--config.data={completions}", f"--workdir={work}-scored"]
        _launch("score", [*common, *asked], processes)
        scores = Path(f"{work}-scored") / "data" / "scores.jsonl"
        found[processes] = [
            [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            for file in (completions, scores)
        ]
    for one, two in zip(found[1], found[2], strict=True):
        assert len(one) == 11
        for a, b in zip(one, two, strict=True):
            assert a.pop("logprob") == pytest.approx(b.pop("logprob"), abs=1e-4)
            logs = a.pop("token_logprobs", []), b.pop("token_logprobs", [])
            assert logs[0] == pytest.approx(logs[1], abs=1e-5)
            assert a == b
