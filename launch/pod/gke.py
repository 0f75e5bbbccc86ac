"""Runs a module on a GKE cluster through XPK.

python -m launch.pod.gke --name=NAME --cluster=NAME --tpu_type=v5litepod-16
--base_docker_image=IMAGE --xpk=--storage=STORAGE --shared_dir=/mnt/runs --
launch.finetune --config=FILE --workdir=/mnt/runs/one

Needs `xpk` and what it needs (gcloud, kubectl, docker). Run it at the root of the repository, which
is laid over the base image. XPK starts the workload again after a preemption.
"""

import shlex

from absl import flags

from launch.pod import command

_CLUSTER = flags.DEFINE_string(
    "cluster", None, "Name of a cluster that XPK can use.", required=True
)
_ZONE = flags.DEFINE_string("zone", None, "Zone of the cluster; else that of gcloud.")
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project; else that of gcloud.")
_TPU = flags.DEFINE_string("tpu_type", None, "TPU slice, as v5litepod-16.")
_DEVICE = flags.DEFINE_string("device_type", None, "GPU machine, as h100-80gb-8.")
_SLICES = flags.DEFINE_integer("num_slices", 1, "TPU slices of one run.", 1)
_NODES = flags.DEFINE_integer("num_nodes", 1, "GPU machines of one run.", 1)
_BASE = flags.DEFINE_string("base_docker_image", None, "Image that this folder is laid over.")
_IMAGE = flags.DEFINE_string("docker_image", None, "Image that has it all; runs in its own folder.")
_RESTARTS = flags.DEFINE_integer("max_restarts", 100, "Restarts after which to give up.", 0)
_GRACE = flags.DEFINE_integer("grace_seconds", 120, "Time to write a checkpoint when told.", 0)
_SHARED = flags.DEFINE_string(
    "shared_dir", None, "Mount point, in every container, of an XPK storage.", required=True
)
_XPK = flags.DEFINE_multi_string("xpk", [], "Further option of xpk, as --xpk=--storage=NAME.")


def main(module: list[str]) -> None:
    command.require_workdir_in(_SHARED.value, module)
    if bool(_TPU.value) == bool(_DEVICE.value):
        command.fail("give one of --tpu_type and --device_type", command.EXIT_BAD_INPUT)
    if bool(_BASE.value) == bool(_IMAGE.value):
        command.fail("give one of --base_docker_image and --docker_image", command.EXIT_BAD_INPUT)
    if _TPU.value:
        devices = [f"--tpu-type={_TPU.value}", f"--num-slices={_SLICES.value}"]
    else:
        devices = [f"--device-type={_DEVICE.value}", f"--num-nodes={_NODES.value}"]
    line = [
        *("xpk", "workload", "create"),
        *(f"--cluster={_CLUSTER.value}", f"--workload={command.NAME.value}"),
        *([f"--zone={_ZONE.value}"] if _ZONE.value else []),
        *([f"--project={_PROJECT.value}"] if _PROJECT.value else []),
        *devices,
        f"--base-docker-image={_BASE.value}" if _BASE.value else f"--docker-image={_IMAGE.value}",
        f"--max-restarts={_RESTARTS.value}",
        f"--termination-grace-period-seconds={_GRACE.value}",
        *_XPK.value,
        f"--command={_in_manifest(_line(module))}",
    ]
    if command.DRY_RUN.value:
        command.show(line)
    else:
        command.must(line)


def _line(module: list[str]) -> str:
    """Returns what a container runs; exec, so that SIGTERM reaches Python."""
    parts = [command.mounted(_SHARED.value)]
    if _DEVICE.value:
        # XPK's own variables of a GPU job, under the names that sublim_jax.mesh reads.
        parts.append(
            "export JAX_COORDINATOR_ADDRESS=$JAX_COORDINATOR_ADDRESS:$JAX_COORDINATOR_PORT"
            " JAX_NUM_PROCESSES=$NNODES JAX_PROCESS_ID=$NODE_RANK"
        )
    if _BASE.value:
        extra = "tpu" if _TPU.value else "cuda"
        parts.append(f"python -m pip install --quiet --editable '.[{extra}]'")
    return " && ".join((*parts, f"exec python -m {shlex.join(module)}"))


def _in_manifest(line: str) -> str:
    """Returns the line as XPK must get it: pasted into YAML, where Kubernetes reads $ once."""
    broken = "\n" if _TPU.value else '\n"\\'  # a GPU manifest has it in double quotes, too
    if any(character in line for character in broken):
        command.fail(
            "a line break (for GPUs also a quote or backslash) in an argument breaks XPK's "
            "manifest: put it into the config file",
            command.EXIT_BAD_INPUT,
        )
    return line.replace("$", "$$")


if __name__ == "__main__":
    command.run(main)
