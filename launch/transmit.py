"""Runs a transmission study: python -m launch.transmit --config=FILE --workdir=DIRECTORY.

--dry_run prints the plan and stops.
"""

from absl import flags
from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.transmission import pipeline

_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the plan and stop.")


def main(config: ConfigDict, workdir: str) -> None:
    mesh.join_processes()
    mesh.split_cpu()
    pipeline.transmit(config, workdir, _DRY_RUN.value)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/nano.py")
