"""Measures Theorem 1: python -m launch.theorem --config=FILE --workdir=DIRECTORY."""

import jax
from ml_collections import ConfigDict

from sublim_jax import app
from sublim_jax.mlp import theorem


def main(config: ConfigDict, workdir: str) -> None:
    jax.config.update("jax_enable_x64", True)
    theorem.run(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/theorem/digits.py")
