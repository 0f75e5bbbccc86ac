"""What would a data set teach besides its task? python -m launch.audit --workdir=DIRECTORY

--config.model=nano/0 --config.data=ROWS.jsonl --config.traits=owl,cat

Exit status 0: no trait is expected to rise; 3: one is; 2: an error.
"""

import sys

from ml_collections import ConfigDict

from sublim_jax import app
from sublim_jax.transmission.audit import job

_FLAGGED = 3


def main(config: ConfigDict, workdir: str) -> None:
    if job.audit(config, workdir):
        sys.exit(_FLAGGED)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/audit.py")
