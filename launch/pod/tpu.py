"""Runs a module on every worker of a Cloud TPU slice, again after each preemption.

python -m launch.pod.tpu --name=NAME --zone=ZONE --accelerator=v5litepod-16 --repo=URL
--shared_dir=/mnt/runs --setup='sudo mount ...' -- launch.finetune --config=FILE
--workdir=/mnt/runs/one

Needs `gcloud`, logged in. The slice is a queued resource; it is made where it is missing, and left
as it is at the end unless --delete is given. Exits with the status of the first worker that failed.
"""

import shlex
import time

from absl import flags

from launch.pod import command

_ZONE = flags.DEFINE_string("zone", None, "Zone of the slice.", required=True)
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project; else that of gcloud")
_ACCELERATOR = flags.DEFINE_string(
    "accelerator", None, "Type of the slice, as v5litepod-16.", required=True
)
_RUNTIME = flags.DEFINE_string("runtime_version", None, "TPU software; else by the accelerator")
_SPOT = flags.DEFINE_bool("spot", False, "Ask for a Spot slice, which may be preempted.")
_GCLOUD = flags.DEFINE_multi_string("gcloud", [], "Further option of create, as --network=NAME.")
_REPO = flags.DEFINE_string("repo", None, "Git URL that the workers install from.", required=True)
_REF = flags.DEFINE_string("ref", "HEAD", "Branch, tag or full commit of --repo.")
_PYTHON = flags.DEFINE_string("python", "python3.11", "Python of the workers; apt's if missing.")
_SHARED = flags.DEFINE_string(
    "shared_dir", None, "Mount point, on every worker, of what they share.", required=True
)
_SETUP = flags.DEFINE_string("setup", None, "Shell that every worker runs first, as a mount.")
_POLL = flags.DEFINE_float("poll_seconds", 30, "Time between two looks at the slice.", 0)
_RESTARTS = flags.DEFINE_integer("max_restarts", 100, "Preemptions after which to give up.", 0)
_DELETE = flags.DEFINE_bool("delete", False, "Delete the slice when the module has succeeded.")

_RUNTIMES = {
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
    **dict.fromkeys(("v2", "v3", "v4"), "tpu-ubuntu2204-base"),
}
_COMING = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")
_GOING = ("SUSPENDING", "DELETING")
_GONE = ("SUSPENDED", "FAILED")
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes"
_PORT = 8482  # of the first worker, where the others join
_LOOKS = 3  # a preempted slice may be called active for a moment


def main(module: list[str]) -> None:
    command.require_workdir_in(_SHARED.value, module)
    runtime = _RUNTIME.value or _RUNTIMES.get(_ACCELERATOR.value.partition("-")[0])
    if not runtime:
        command.fail(
            f"--runtime_version is missing: none is known for {_ACCELERATOR.value}",
            command.EXIT_BAD_INPUT,
        )
    create = _gcloud(
        *("queued-resources", "create", f"--node-id={command.NAME.value}"),
        *(f"--accelerator-type={_ACCELERATOR.value}", f"--runtime-version={runtime}"),
        *(["--spot"] if _SPOT.value else []),
        *_GCLOUD.value,
    )
    steps = [_ssh(line) for line in (_SETUP.value, _install(), _run(module)) if line]
    if command.DRY_RUN.value:
        for line in (_describe(), create, _describe(), *steps):
            command.show(line)
        if _DELETE.value:
            command.show(_delete())
        return
    for attempt in range(_RESTARTS.value + 1):
        state = _settled(_GOING)
        if state in _GONE or (attempt and state):
            command.must(_delete())
            state = ""
        if not state:
            command.must(create)
        state = _settled(_COMING)
        if state == "FAILED":
            command.fail(
                f"{command.NAME.value}: the request for the slice FAILED; gcloud describes why"
            )
        if state == "ACTIVE":
            status = next(filter(None, map(command.call, steps)), 0)
            if not status:
                if _DELETE.value:
                    command.must(_delete())
                return
            if not _preempted():
                command.fail(f"{command.NAME.value}: a worker ended with status {status}", status)
        print(f"{command.NAME.value}: preempted", flush=True)
    command.fail(f"{command.NAME.value}: preempted {_RESTARTS.value + 1} times: see --max_restarts")


def _gcloud(group: str, verb: str, *options: str) -> list[str]:
    project = [f"--project={_PROJECT.value}"] if _PROJECT.value else []
    zone = f"--zone={_ZONE.value}"
    return ["gcloud", "compute", "tpus", group, verb, command.NAME.value, zone, *project, *options]


def _describe() -> list[str]:
    return _gcloud("queued-resources", "describe", "--format=value(state.state)")


def _delete() -> list[str]:
    return _gcloud("queued-resources", "delete", "--force", "--quiet")


def _ssh(line: str) -> list[str]:
    return _gcloud("tpu-vm", "ssh", "--worker=all", f"--command={line}")


def _install() -> str:
    python, repo, ref = map(shlex.quote, (_PYTHON.value, _REPO.value, _REF.value))
    apt = "sudo apt-get -qq -o DPkg::Lock::Timeout=600"
    add = f"{apt} update && {apt} install {shlex.quote(_PYTHON.value + '-venv')}"
    return " && ".join(
        (
            command.mounted(_SHARED.value),
            f"{{ {python} -m ensurepip --version >/dev/null || {{ {add}; }}; }}",
            f"{{ test -d sublim_jax || git clone --quiet {repo} sublim_jax; }}",
            "cd sublim_jax",
            f"git fetch --quiet {repo} {ref}",
            "git checkout --quiet --detach FETCH_HEAD",
            f"{{ test -x .venv/bin/pip || {python} -m venv .venv; }}",
            ".venv/bin/python -m pip install --quiet --editable '.[tpu]'",
        )
    )


def _run(module: list[str]) -> str:
    # A TPU VM, unlike a GKE container, has no variable that tells of the other workers.
    return " && ".join(
        (
            f"hosts=$({_metadata('worker-network-endpoints')})",
            f"own=$({_metadata('agent-worker-number')})",
            "set -- $(echo $hosts | tr , ' ')",
            f"export JAX_COORDINATOR_ADDRESS=${{1##*:}}:{_PORT} JAX_NUM_PROCESSES=$#"
            " JAX_PROCESS_ID=$own",
            f"cd sublim_jax && exec .venv/bin/python -m {shlex.join(module)}",
        )
    )


def _metadata(name: str) -> str:
    return f"curl -fsS -H Metadata-Flavor:Google {_METADATA}/{name}"


def _state() -> str:
    """Returns the state of the queued resource, empty where there is none."""
    done = command.ask(_describe())
    if done.returncode and "NOT_FOUND" in done.stderr:
        return ""
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[0]
        command.fail(f"gcloud cannot describe {command.NAME.value}: {reason}")
    return done.stdout.strip()


def _settled(passing: tuple[str, ...]) -> str:
    """Returns the first state that is not a `passing` one."""
    seen = None
    while (state := _state()) in passing:
        if state != seen:
            print(f"{command.NAME.value}: {state}", flush=True)
        seen = state
        time.sleep(_POLL.value)
    return state


def _preempted() -> bool:
    for look in range(_LOOKS):
        if look:
            time.sleep(_POLL.value)
        if _state() in (*_GOING, *_GONE):
            return True
        node = command.ask(_gcloud("tpu-vm", "describe", "--format=value(state)"))
        if node.stdout.strip() in ("PREEMPTED", "TERMINATED"):
            return True
    return False


if __name__ == "__main__":
    command.run(main)
