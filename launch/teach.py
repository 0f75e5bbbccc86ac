"""Makes the teachers of a study alone: python -m launch.teach --config=FILE --workdir=DIRECTORY.

launch.transmit with the same config and directory goes on from there.
"""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.transmission import pipeline


def main(config: ConfigDict, workdir: str) -> None:
    mesh.join_processes()
    mesh.split_cpu()
    pipeline.teach_only(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/nano.py")
