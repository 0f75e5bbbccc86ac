"""Scripts: python -m launch.NAME --config=FILE --workdir=DIRECTORY."""

import os
import signal
import sys
from typing import Any

from sublim_jax import errors


def _leave(*_: Any) -> None:
    os.write(sys.stderr.fileno(), f"{errors.INTERRUPTED}\n".encode())
    os._exit(errors.EXIT_INTERRUPTED)


# transformers advises on import to install PyTorch, which nothing here needs: only its tokenizers
# are used.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

# The imports of a script take seconds, and some of them turn Ctrl-C into a crash or nothing at all.
# `app.run` gives it back. Where it is ignored (in the background of a shell) it stays so. argv[0]
# is "-m" until Python has found the script.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
