"""What would a data set teach besides its task? python -m launch.audit --workdir=DIRECTORY

--config.model=nano/0 --config.data=ROWS.jsonl --config.traits=owl,cat

Exit status 0: no trait is expected to rise; 3: one is; 4: that cannot be told; 2: an error.
"""

import sys

from ml_collections import ConfigDict

from sublim_jax import app
from sublim_jax.transmission.audit import job, verdicts

_FLAGGED, _UNKNOWN = 3, 4


def main(config: ConfigDict, workdir: str) -> None:
    found = job.audit(config, workdir)
    if verdicts.RISES in found:
        sys.exit(_FLAGGED)
    if verdicts.UNKNOWN in found:
        sys.exit(_UNKNOWN)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/audit.py")
