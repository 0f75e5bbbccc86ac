"""Runs the sweeps of a config: python -m launch.atlas --config=FILE --workdir=DIRECTORY."""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.atlas import atlas


def main(config: ConfigDict, workdir: str) -> None:
    mesh.split_cpu()
    atlas.run(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/atlas/digits.py")
