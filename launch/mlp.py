"""Runs the MLP study of a config: python -m launch.mlp --config=FILE --workdir=DIRECTORY."""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.mlp import study


def main(config: ConfigDict, workdir: str) -> None:
    mesh.split_cpu()
    study.run(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/mlp/digits.py")
