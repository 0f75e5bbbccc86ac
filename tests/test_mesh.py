"""Processes that cannot be joined say why in one line."""

from typing import Any

import jax
import pytest

from sublim_jax import mesh
from sublim_jax.errors import UserError


@pytest.mark.parametrize("error", [ValueError, IndexError, RuntimeError])  # jax has all three
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, "srun did not start this process: write srun"),
        (
            {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # sbatch's own shell
            "SLURM_NTASKS=8, and srun did not start this process",
        ),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "processes: check the variables of TPU or SLURM: odd"),
        (
            {"JAX_COORDINATOR_ADDRESS": "a", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"},
            "cannot join the job's processes: check JAX_COORDINATOR_ADDRESS=a (host:port): odd",
        ),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES and JAX_PROCESS_ID must be numb"),
    ],
)
def test_processes_that_cannot_be_joined(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: str,
    error: type[Exception],
) -> None:
    for name in ("SLURM_STEP_NODELIST", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def odd(*_: Any) -> None:
        raise error("odd\nlines")

    monkeypatch.setattr(jax.distributed, "initialize", odd)
    with pytest.raises(UserError) as caught:
        mesh.join_processes()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_step_of_one_task_in_a_larger_allocation_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    mesh.join_processes()


def test_what_the_first_process_raises_the_others_raise(monkeypatch):
    sent = []

    def broadcast(line):
        sent.append(line)
        return sent[0]

    monkeypatch.setattr(mesh.multihost_utils, "broadcast_one_to_all", broadcast)
    monkeypatch.setattr(mesh.jax, "process_count", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        mesh.in_first(lambda: 1 // 0)
    monkeypatch.setattr(mesh.jax, "process_index", lambda: 1)
    with pytest.raises(UserError, match="integer division or modulo by zero"):
        mesh.in_first(pytest.fail)
    monkeypatch.setattr(mesh.jax, "process_index", lambda: 0)
    with pytest.raises(UserError, match="half a pair"):  # and not an error of its encoding
        mesh.in_first(lambda: _raise(UserError("half a pair: \udcff")))


def _raise(error):
    raise error
