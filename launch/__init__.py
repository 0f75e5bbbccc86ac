"""Scripts: python -m launch.NAME --config=FILE --workdir=DIRECTORY."""

import os
import signal
import sys
from typing import Any

from sublim_jax import errors


def _leave(*_: Any) -> None:
    os.write(sys.stderr.fileno(), f"{errors.INTERRUPTED}\n".encode())
    os._exit(errors.EXIT_INTERRUPTED)


# The imports of a script take seconds, and some of them turn Ctrl-C into a crash or nothing at all.
# `app.run` takes it over.
if sys.argv[0] == "-m":  # so Python calls itself until it has found the script
    signal.signal(signal.SIGINT, _leave)
