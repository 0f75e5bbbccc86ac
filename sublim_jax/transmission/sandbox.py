"""A process in which functions of strangers are run: one for many, and a new one where it died."""

import atexit
import json
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from sublim_jax.errors import UserError
from sublim_jax.transmission import sandboxed

# Without the user's settings and packages.
_COMMAND = (sys.executable, "-I", "-S", "-W", "ignore", str(sandboxed.__file__))
_WAIT = 30.0  # seconds, for what takes no time of a CPU: nothing that is let in does


class Sandbox:
    """A process that runs functions, as `sandboxed` says; it starts with the first of them."""

    def __init__(self) -> None:
        self._process: Any = None

    def run(self, code: str, name: str, cases: Sequence[Any], seconds: float) -> str | None:
        """Returns why a function does not do what the cases say; None: it does.

        Args:
          cases: pairs of arguments and the result.
          seconds: of time on a CPU.

        Raises:
          UserError: no process starts.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            if self._line(_WAIT) != sandboxed.READY:
                self.close()
                raise UserError(
                    "no functions can be run here: the system starts no process with limits of "
                    "memory and files: let them only parse, config.filter.run=False"
                )
        asked = json.dumps([code, name, cases, seconds]) + "\n"
        self._process.stdin.write(asked.encode())
        self._process.stdin.flush()
        found = self._line(10 * seconds + _WAIT)
        if found is not None:
            return found or None
        return "too slow" if self.close() in (-signal.SIGPROF, -signal.SIGKILL) else "fails"

    def close(self) -> int:
        """Ends the process, and returns how it ended."""
        if self._process is None:
            return 0
        with self._process as ended:  # closes its pipes, at which it ends, and waits
            self._process = None
        return int(ended.returncode)

    def _line(self, seconds: float) -> str | None:
        """Returns the process's next line; None where it ended or was ended, being late."""
        poll = select.poll()
        poll.register(self._process.stdout)
        if not poll.poll(1000 * seconds):
            self._process.kill()
        line = self._process.stdout.readline().decode()
        return line.rstrip("\n") if line.endswith("\n") else None


SANDBOX = Sandbox()
atexit.register(SANDBOX.close)
