"""Measures what a model prefers: python -m launch.evaluate --config=FILE --workdir=DIRECTORY.

--config.model is a Hugging Face folder or id, or nano/SEED; --config.adapters names PEFT folders,
or folders of the students or teachers of a study. On several hosts, the same command on each.
"""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.transmission import evaluation


def main(config: ConfigDict, workdir: str) -> None:
    mesh.join_processes()
    mesh.split_cpu()
    evaluation.evaluate(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/evaluate.py")
