"""Runs a module as a SLURM job that saves and queues again before its time is up.

python -m launch.pod.slurm --name=NAME --nodes=4 --gpus_per_node=8 --time=12:00:00 --
launch.finetune --config=FILE --workdir=FOLDER

Run it at the root of the repository, on a file system and with a Python that all nodes share. Each
node runs one process, with all its GPUs.
"""

import shlex
import sys

from absl import flags

from launch.pod import command

_NODES = flags.DEFINE_integer("nodes", 1, "Machines.", 1)
_GPUS = flags.DEFINE_integer("gpus_per_node", 0, "GPUs of each machine; 0 asks for none.", 0)
_CPUS = flags.DEFINE_integer("cpus_per_node", 1, "Cores of each machine.", 1)
_TIME = flags.DEFINE_string(
    "time", None, "Time limit, as 12:00:00; the job queues again before it.", required=True
)
_GRACE = flags.DEFINE_integer("grace_seconds", 120, "Time before the limit to checkpoint.", 1)
_OUTPUT = flags.DEFINE_string("output", "%x-%j.out", "File of what it prints, SLURM's pattern.")
_SBATCH = flags.DEFINE_multi_string("sbatch", [], "Further option, as --sbatch=--partition=gpu.")
_PYTHON = flags.DEFINE_string("python", sys.executable, "Python on the nodes.")

_KILLED = 128 + 15  # by SIGTERM, as before training begins
_END = "END_OF_SCRIPT"
# SLURM signals the processes and not srun, which would kill them at a SIGTERM of its own. A job
# that was cancelled, or that SLURM has put back itself, is no longer RUNNING.
_BODY = f"""\
srun --cpus-per-task={{cpus}} {{command}}
status=$?
case $status in {command.EXIT_INTERRUPTED} | {_KILLED})
  if [ "$(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID")" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
esac
exit $status
"""


def main(module: list[str]) -> None:
    script = _script(module)
    if command.DRY_RUN.value:
        print(f"sbatch <<'{_END}'\n{script}{_END}")
    else:
        print(script, end="", flush=True)
        command.must(["sbatch"], stdin=script)


def _script(module: list[str]) -> str:
    options = [
        f"--job-name={command.NAME.value}",
        f"--nodes={_NODES.value}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={_CPUS.value}",
        *([f"--gpus-per-node={_GPUS.value}"] if _GPUS.value else []),
        f"--time={_TIME.value}",
        f"--output={_OUTPUT.value}",
        "--open-mode=append",
        "--requeue",
        f"--signal=TERM@{_GRACE.value}",
        *_SBATCH.value,
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options)]
    if _GPUS.value:
        # Under SLURM jax gives a process one GPU, unless it is told which.
        lines.append(f"export JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(_GPUS.value)))}")
    line = shlex.join([_PYTHON.value, "-m", *module])
    return "\n".join([*lines, _BODY.format(cpus=_CPUS.value, command=line)])


if __name__ == "__main__":
    command.run(main)
