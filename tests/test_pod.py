"""The launchers for pods, against stand-ins of gcloud, xpk, sbatch and others on the PATH.

A stand-in notes its arguments and answers from a file of lines "STATUS TEXT", each once, the last
one for ever. The file is named after the stand-in and, for gcloud, its subcommand.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = """#!/bin/sh
PATH=/usr/bin:/bin
{{ for word in {name} "$@"; do printf '%s\\0' "$word"; done; printf '\\036'; }} >> {folder}/calls
{extra}
answers={folder}/{name}{words}
test -f "$answers" || exit 0
read -r status text < "$answers"
test "$(wc -l < "$answers")" -lt 2 || sed -i 1d "$answers"
if test "$status" = 0; then echo "$text"; else echo "$text" >&2; fi
exit "$status"
"""
SHARED = "--shared_dir=/mnt/shared"
WORDS = ["two  words", "$(date) `date` $HOME $$ $(HOME)", "it's", 'a "b" \\c', "*;&|<>#!~{x}", ""]
MODULE = ["launch.finetune", "--config=configs/x.py", "--workdir=/mnt/shared/run", *WORDS]
TPU = ["tpu", "--name=slice", "--zone=zone-a", "--accelerator=v5litepod-16", "--poll_seconds=0"]
TPU += ["--repo=https://host/it.git", SHARED]
GKE = ["gke", "--name=job", "--cluster=cluster", "--tpu_type=v5litepod-16", SHARED]
SLURM = ["slurm", "--name=job", "--time=1:00:00", "--python=/shared/bin/python"]
BASE = [*GKE, "--base_docker_image=python:3.12"]
MOUNTED = ["mountpoint", "-q", "/mnt/shared"]
DESCRIBE, NODE = "gcloud-queued-resources-describe", "gcloud-tpu-vm-describe"
SSH, CREATE = "gcloud-tpu-vm-ssh", "gcloud-queued-resources-create"
NOT_FOUND = "1 ERROR: (gcloud.x.describe) NOT_FOUND: Resource 'projects/p' was not found"


class Cluster:
    """A folder of stand-ins, what they answer, and what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("gcloud", "xpk", "sbatch"):
            self.add(name)

    def add(self, name: str, extra: str = "") -> None:
        words = "-$3-$4" if name == "gcloud" else ""
        folder = shlex.quote(str(self.folder))
        text = STAND_IN.format(name=name, folder=folder, extra=extra, words=words)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def answer(self, words: str, *lines: str) -> None:
        (self.folder / words).write_text("".join(f"{line}\n" for line in lines))

    def calls(self) -> list[list[str]]:
        """Returns the commands since the last look."""
        file = self.folder / "calls"
        text = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)
        return [call.split("\0")[:-1] for call in text.split("\x1e")[:-1]]

    def run(self, *arguments: str, module: list[str] = MODULE) -> subprocess.CompletedProcess[str]:
        script, *options = arguments
        command = [sys.executable, "-m", f"launch.pod.{script}", *options, "--", *module]
        return self.start(command, PYTHONPATH=str(ROOT))

    def shell(self, text: str, **env: str) -> subprocess.CompletedProcess[str]:
        bash = shutil.which("bash")
        assert bash
        return self.start([bash, "-c", text], **env)

    def start(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "HOME": str(self.folder), **env}
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def verbs(calls: list[list[str]]) -> list[str]:
    return [call[4] for call in calls if call[4] != "describe"]


def option(call: list[str], name: str) -> str:
    (value,) = [word.removeprefix(f"{name}=") for word in call if word.startswith(f"{name}=")]
    return value


def complaint(done: subprocess.CompletedProcess[str], status: int) -> str:
    """Returns the one line on stderr of a launcher that ended with `status`."""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.returncode == status
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*TPU, "--nope"], "'nope'"),
        (["tpu", "--name=slice", SHARED], "--zone"),
        ([*TPU[:-1]], "--shared_dir"),
        ([*TPU, "stray"], "'stray'"),
        ([*TPU, "--name=--force"], "--name=--force"),
        ([*TPU, "--accelerator=v99-8"], "none is known for v99-8"),
        (GKE, "--base_docker_image"),
        ([*BASE, "--docker_image=other"], "--base_docker_image"),
        ([*BASE, "--device_type=h100-80gb-8"], "--device_type"),
        ([*GKE, "--docker_image=i", "--tpu_type=", "--device_type=h100-80gb-8"], "config file"),
        (["slurm", "--name=job"], "--time"),
    ],
)
def test_wrong_flags(cluster: Cluster, arguments: list[str], words: str) -> None:
    assert words in complaint(cluster.run(*arguments), 2)
    assert cluster.calls() == []


@pytest.mark.parametrize(
    ("arguments", "module", "words"),
    [
        (TPU, [], "no module"),
        (TPU, ["--workdir=/mnt/shared/run"], "no module"),
        (TPU, ["launch.finetune"], "no --workdir"),
        (TPU, ["launch.finetune", "--workdir", "/mnt/other/run"], "--workdir=/mnt/other/run"),
        (TPU, ["launch.finetune", "--workdir=/mnt/shared/../run"], "--workdir=/mnt/shared/../run"),
        ([*BASE, "--shared_dir=runs"], ["launch.finetune", "--workdir=runs/one"], "absolute path"),
        *(
            (tool, ["launch.finetune", "--workdir=gs://b/run"], "URL")
            for tool in (TPU, BASE, SLURM)
        ),
    ],
)
def test_what_comes_after_the_dashes(
    cluster: Cluster, arguments: list[str], module: list[str], words: str
) -> None:
    assert words in complaint(cluster.run(*arguments, module=module), 2)
    assert cluster.calls() == []


@pytest.mark.parametrize(("arguments", "tool"), [(TPU, "gcloud"), (BASE, "xpk"), (SLURM, "sbatch")])
def test_missing_tool(cluster: Cluster, arguments: list[str], tool: str) -> None:
    (cluster.bin / tool).unlink()
    assert f"{tool} is not on the PATH" in complaint(cluster.run(*arguments), 2)


@pytest.mark.parametrize(
    ("arguments", "answers"),
    [(TPU, CREATE), (BASE, "xpk"), (SLURM, "sbatch")],
)
def test_failing_tool(cluster: Cluster, arguments: list[str], answers: str) -> None:
    cluster.answer(DESCRIBE, NOT_FOUND)
    cluster.answer(answers, "7 no quota")
    done = cluster.run(*arguments)
    first, last = done.stderr.splitlines()
    assert first == "no quota"
    assert re.fullmatch(r"error: (gcloud|xpk|sbatch).* ended with status 7", last)
    assert done.returncode == 1


def test_ctrl_c_ends_in_one_line(cluster: Cluster) -> None:
    cluster.add("xpk", extra="kill -INT $PPID; sleep 0.1")
    listens = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{listens}runpy.run_module('launch.pod.gke', run_name='__main__')"
    command = [sys.executable, "-c", code, *BASE[1:], "--", *MODULE]
    done = cluster.start(command, PYTHONPATH=str(ROOT))
    assert done.returncode == 130
    assert done.stderr == "interrupted: what was started on the cluster may go on\n"


@pytest.mark.parametrize(
    "arguments", [[*TPU, "--spot", "--delete", "--setup=mount it"], BASE, SLURM]
)
def test_dry_run_prints_what_a_run_calls(cluster: Cluster, arguments: list[str]) -> None:
    cluster.add("sbatch", extra="printf '%s\\0\\036' \"$(cat)\" >> calls")
    cluster.answer(DESCRIBE, NOT_FOUND, "0 ACTIVE")
    done = cluster.run(*arguments, "--dry_run")
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.calls() == []
    assert cluster.shell(done.stdout).returncode == 0
    printed = cluster.calls()
    cluster.answer(DESCRIBE, NOT_FOUND, "0 ACTIVE")
    assert cluster.run(*arguments).returncode == 0
    assert printed == cluster.calls()


def test_the_examples_in_build_md(cluster: Cluster) -> None:
    text = (ROOT / "BUILD.md").read_text()
    python = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}\n'
    examples = re.findall(r"^python -m launch\.pod\..*?(?=^```)", text, re.MULTILINE | re.DOTALL)
    for example, tool in zip(examples, ("gcloud", "xpk", "sbatch"), strict=True):
        done = cluster.shell(python + example, PYTHONPATH=str(ROOT))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(tool)
    assert cluster.calls() == []


def test_tpu_makes_what_is_missing(cluster: Cluster) -> None:
    states = ["0 WAITING_FOR_RESOURCES", "0 PROVISIONING", "0 PROVISIONING", "0 ACTIVE"]
    cluster.answer(DESCRIBE, NOT_FOUND, *states)
    done = cluster.run(*TPU, "--spot", "--project=p", "--gcloud=--network=n", "--setup=mount it")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.startswith("slice: ")] == [
        "slice: WAITING_FOR_RESOURCES",
        "slice: PROVISIONING",
    ]
    calls = cluster.calls()
    assert verbs(calls) == ["create", "ssh", "ssh", "ssh"]
    assert next(option(c, "--command") for c in calls if c[4] == "ssh") == "mount it"
    assert all("--zone=zone-a" in call and "--project=p" in call for call in calls)
    create = next(call for call in calls if call[4] == "create")
    assert {"slice", "--node-id=slice", "--accelerator-type=v5litepod-16"} < set(create)
    assert {"--runtime-version=v2-alpha-tpuv5-lite", "--spot", "--network=n"} < set(create)
    assert "--worker=all" in calls[-1]


def test_tpu_uses_what_is_there(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, "0 ACTIVE")
    assert cluster.run(*TPU, "--delete").returncode == 0
    assert verbs(cluster.calls()) == ["ssh", "ssh", "delete"]


@pytest.mark.parametrize(
    ("states", "node"),
    [
        (["0 ACTIVE", "0 ACTIVE", "0 SUSPENDED", "0 SUSPENDED"], "0 READY"),
        (["0 ACTIVE", "0 ACTIVE", "0 ACTIVE", "0 SUSPENDING", "0 SUSPENDED"], "0 READY"),
        (["0 ACTIVE", "0 ACTIVE", "0 FAILED", "0 FAILED"], "0 READY"),
        (["0 ACTIVE", "0 ACTIVE", "0 ACTIVE", "0 ACTIVE"], "0 PREEMPTED"),
    ],
)
def test_tpu_runs_again_when_preempted(cluster: Cluster, states: list[str], node: str) -> None:
    cluster.answer(DESCRIBE, *states, "0 ACTIVE")
    cluster.answer(NODE, node)
    cluster.answer(SSH, "0", "255 connection lost", "0")
    done = cluster.run(*TPU)
    assert done.returncode == 0
    assert "slice: preempted\n" in done.stdout
    calls = cluster.calls()
    assert verbs(calls) == ["ssh", "ssh", "delete", "create", "ssh", "ssh"]
    assert {"--force", "--quiet"} < set(next(call for call in calls if call[4] == "delete"))
    lines = [option(call, "--command") for call in calls if call[4] == "ssh"]
    assert lines[:2] == lines[2:]


def test_tpu_replaces_a_slice_that_is_gone(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, "0 SUSPENDING", "0 SUSPENDED", "0 ACTIVE")
    done = cluster.run(*TPU)
    assert (done.returncode, "preempted" in done.stdout) == (0, False)
    assert verbs(cluster.calls()) == ["delete", "create", "ssh", "ssh"]


def test_tpu_gives_up(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, "0 ACTIVE")
    cluster.answer(NODE, "0 PREEMPTED")
    cluster.answer(SSH, "255 lost")
    done = cluster.run(*TPU, "--max_restarts=1")
    assert "error: slice: preempted 2 times" in done.stderr
    assert done.returncode == 1
    assert verbs(cluster.calls()) == ["ssh", "delete", "create", "ssh"]


@pytest.mark.parametrize("status", [2, 130])
def test_tpu_reports_a_module_that_fails(cluster: Cluster, status: int) -> None:
    cluster.answer(DESCRIBE, "0 ACTIVE")
    cluster.answer(NODE, "0 READY")
    cluster.answer(SSH, "0", f"{status} what it said")
    done = cluster.run(*TPU)
    assert done.stderr.endswith(f"\nerror: slice: a worker ended with status {status}\n")
    assert done.returncode == status
    assert verbs(cluster.calls()) == ["ssh", "ssh"]


def test_tpu_reports_a_request_that_fails(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, NOT_FOUND, "0 FAILED")
    assert "the request for the slice FAILED" in complaint(cluster.run(*TPU), 1)
    assert verbs(cluster.calls()) == ["create"]


def test_tpu_does_not_take_an_error_for_a_missing_slice(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, "1 ERROR: you do not have an active account")
    assert "active account" in complaint(cluster.run(*TPU), 1)
    assert verbs(cluster.calls()) == []


def test_tpu_installs_from_git(cluster: Cluster, tmp_path: Path) -> None:
    git = shutil.which("git")
    assert git
    repo = tmp_path / "a repo"
    commit = f"cd {shlex.quote(str(repo))} && git add . && git -c user.name=n -c user.email=e"
    shutil.copytree(ROOT / "launch" / "pod", repo)
    (cluster.bin / "git").symlink_to(git)
    for name in ("test", "rm"):
        (cluster.bin / name).symlink_to(f"/usr/bin/{name}")
    cluster.shell(f"cd {shlex.quote(str(repo))} && git init --quiet && {commit} commit -qm one")
    make = "test $2 != venv || { mkdir -p $3/bin; cp $0 $3/bin/python; cp $0 $3/bin/pip; }"
    cluster.add("python3.11", extra=make)
    cluster.add("mountpoint")
    cluster.answer(DESCRIBE, "0 ACTIVE")
    cluster.run(*TPU, f"--repo={repo}")
    install = option(next(c for c in cluster.calls() if c[4] == "ssh"), "--command")
    for text in ("first", "second"):
        (repo / "new file").write_text(text)
        cluster.shell(f"{commit} commit --quiet --message={text}")
        done = cluster.shell(install)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "sublim_jax" / "new file").read_text() == text
    pip = ["python3.11", "-m", "pip", "install", "--quiet", "--editable", ".[tpu]"]
    look = [MOUNTED, ["python3.11", "-m", "ensurepip", "--version"]]
    assert cluster.calls() == [*look, ["python3.11", "-m", "venv", ".venv"], pip, *look, pip]


def test_a_worker_without_the_shared_folder_stops(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, "0 ACTIVE")
    cluster.add("mountpoint", extra="exit 1")
    cluster.run(*TPU)
    cluster.run(*BASE)
    calls = cluster.calls()
    install = option(next(c for c in calls if "ssh" in c), "--command")
    for line in (install, kubernetes(option(calls[-1], "--command"), {})):
        assert "mounted at --shared_dir=/mnt/shared" in complaint(cluster.shell(line), 2)
        assert cluster.calls() == [MOUNTED]


@pytest.mark.parametrize(
    ("hosts", "first", "count"),
    [
        ("host-0,host-1,host-2,host-3", "host-0", 4),
        ("x:0:10.0.0.7,x:1:10.0.0.8", "10.0.0.7", 2),
        ("host-0", "host-0", 1),
    ],
)
def test_tpu_workers_join(
    cluster: Cluster, tmp_path: Path, hosts: str, first: str, count: int
) -> None:
    cluster.answer(DESCRIBE, "0 ACTIVE")
    module = [*MODULE, "line\nbreak"]
    assert cluster.run(*TPU, module=module).returncode == 0
    line = option(cluster.calls()[-1], "--command")
    answer = f'case "$4" in */worker-network-endpoints) echo {hosts};; *number) echo 3;; esac; exit'
    cluster.add("curl", extra=answer)
    cluster.add("python", extra="env | grep ^JAX_ | sort")
    for name in ("echo", "tr"):
        (cluster.bin / name).symlink_to(f"/usr/bin/{name}")
    python = tmp_path / "sublim_jax" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy(cluster.bin / "python", python)
    done = cluster.shell(line)
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.calls()[2:] == [["python", "-m", *module]]
    assert done.stdout.splitlines() == [
        f"JAX_COORDINATOR_ADDRESS={first}:8482",
        f"JAX_NUM_PROCESSES={count}",
        "JAX_PROCESS_ID=3",
    ]


def test_a_tpu_worker_that_does_not_know_itself_stops(cluster: Cluster) -> None:
    cluster.answer(DESCRIBE, "0 ACTIVE")
    cluster.run(*TPU)
    line = option(cluster.calls()[-1], "--command")
    cluster.add("curl")
    cluster.answer("curl", "22 not found")
    assert cluster.shell(line).returncode == 22
    assert len(cluster.calls()) == 1


def kubernetes(line: str, env: dict[str, str]) -> str:
    """Returns a container's command as Kubernetes expands it."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return re.sub(r"\$\$|\$\((\w+)\)", value, line)


def test_gke_arguments_arrive_as_they_are(cluster: Cluster) -> None:
    assert cluster.run(*BASE, "--xpk=--storage=runs").returncode == 0
    (call,) = cluster.calls()
    assert call[:3] == ["xpk", "workload", "create"]
    assert {"--cluster=cluster", "--workload=job", "--tpu-type=v5litepod-16"} < set(call)
    assert {"--num-slices=1", "--max-restarts=100", "--storage=runs"} < set(call)
    assert {"--termination-grace-period-seconds=120", "--base-docker-image=python:3.12"} < set(call)
    cluster.add("mountpoint")
    cluster.add("python")
    line = kubernetes(option(call, "--command"), {"HOME": "expanded"})
    assert cluster.shell(f"({line}) & wait $!").returncode == 0
    pip = ["python", "-m", "pip", "install", "--quiet", "--editable", ".[tpu]"]
    assert cluster.calls() == [MOUNTED, pip, ["python", "-m", *MODULE]]


def test_gke_on_gpus_joins_its_machines(cluster: Cluster) -> None:
    module = ["launch.finetune", "--workdir=/mnt/shared/run", "two words"]
    gpus = ["--tpu_type=", "--device_type=h100-80gb-8", "--num_nodes=2", "--docker_image=i"]
    assert cluster.run(*GKE, *gpus, module=module).returncode == 0
    (call,) = cluster.calls()
    assert {"--device-type=h100-80gb-8", "--num-nodes=2", "--docker-image=i"} < set(call)
    cluster.add("mountpoint")
    cluster.add("python", extra="env | grep ^JAX_ | sort")
    env = {"JAX_COORDINATOR_ADDRESS": "host", "JAX_COORDINATOR_PORT": "6002"}
    env |= {"NNODES": "2", "NODE_RANK": "1"}
    done = cluster.shell(f"({kubernetes(option(call, '--command'), env)}) & wait $!", **env)
    assert cluster.calls() == [MOUNTED, ["python", "-m", *module]]
    assert done.stdout.splitlines() == [
        "JAX_COORDINATOR_ADDRESS=host:6002",
        "JAX_COORDINATOR_PORT=6002",
        "JAX_NUM_PROCESSES=2",
        "JAX_PROCESS_ID=1",
    ]


def test_gke_refuses_what_breaks_the_manifest(cluster: Cluster) -> None:
    assert "line break" in complaint(cluster.run(*BASE, module=[*MODULE, "a\nb"]), 2)
    assert cluster.calls() == []


def slurm_script(cluster: Cluster, *options: str, module: list[str] = MODULE) -> str:
    """Returns the script that `sbatch` gets, which is also shown."""
    cluster.add("sbatch", extra="cat > job.sh")
    done = cluster.run(*SLURM, *options, module=module)
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.calls() == [["sbatch"]]
    script = (cluster.folder / "job.sh").read_text()
    assert done.stdout == f"{script}sbatch\n"
    return script


@pytest.mark.parametrize(("gpus", "visible"), [(4, "0,1,2,3"), (0, "")])
def test_slurm_script(cluster: Cluster, gpus: int, visible: str) -> None:
    module = [*MODULE, "line\nbreak"]
    more = ["--nodes=2", "--cpus_per_node=3", "--sbatch=--partition=gpu", "--grace_seconds=60"]
    script = slurm_script(cluster, *more, f"--gpus_per_node={gpus}", module=module)
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line]
    assert {"--requeue", "--signal=TERM@60", "--partition=gpu", "--nodes=2"} < set(lines)
    assert {"--ntasks-per-node=1", "--cpus-per-task=3", "--time=1:00:00"} < set(lines)
    assert ("--gpus-per-node=4" in lines) == bool(gpus)
    cluster.add("srun", extra='echo "[$JAX_LOCAL_DEVICE_IDS]"')
    done = cluster.shell(script)
    assert (done.returncode, done.stdout) == (0, f"[{visible}]\n")
    assert cluster.calls() == [["srun", "--cpus-per-task=3", "/shared/bin/python", "-m", *module]]


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [
        (130, "RUNNING", True),
        (143, "RUNNING", True),
        (130, "COMPLETING", False),
        (2, "RUNNING", False),
        (0, "RUNNING", False),
    ],
)
def test_slurm_job_queues_again(cluster: Cluster, status: int, state: str, requeued: bool) -> None:
    script = slurm_script(cluster)
    for name in ("srun", "squeue", "scontrol"):
        cluster.add(name)
    cluster.answer("srun", f"{status} left")
    cluster.answer("squeue", f"0 {state}")
    assert cluster.shell(script, SLURM_JOB_ID="7").returncode == status
    calls = cluster.calls()
    assert (["scontrol", "requeue", "7"] in calls) == requeued
    assert all("--jobs=7" in call for call in calls if call[0] == "squeue")
