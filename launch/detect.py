"""Can anything see a trait in the data? python -m launch.detect --config.run=RUN --workdir=OUT.

RUN is the directory of a finished study (launch.transmit), which is only read; OUT another one.
"""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.transmission import detection


def main(config: ConfigDict, workdir: str) -> None:
    mesh.join_processes()
    mesh.split_cpu()
    detection.detect(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/detect.py")
