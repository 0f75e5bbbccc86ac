"""What the launchers share: the module after --, and commands that are shown, then run."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NoReturn

from absl import app, flags

EXIT_BAD_INPUT = 2  # these as in sublim_jax.app
EXIT_INTERRUPTED = 130
_EXIT_FAILED = 1

NAME = flags.DEFINE_string("name", None, "Name of the slice, workload or job.", required=True)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the shell commands and run none.")


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the flags before `--`, calls `main` with the module and its arguments, and exits."""

    def parse(argv: list[str]) -> list[str]:
        cut = argv.index("--") if "--" in argv else len(argv)
        try:
            rest = flags.FLAGS(argv[:cut])
        except flags.Error as error:
            fail(str(error), EXIT_BAD_INPUT)
        if len(rest) > 1:
            fail(f"unexpected argument {rest[1]!r}: the module comes after --", EXIT_BAD_INPUT)
        if not re.fullmatch(r"[a-z]([-a-z0-9]{,38}[a-z0-9])?", NAME.value):
            fail(f"--name={NAME.value}: use up to 40 of a-z, 0-9 and -, a-z first", EXIT_BAD_INPUT)
        module = argv[cut + 1 :]
        if not module or not re.fullmatch(r"\w+(\.\w+)*", module[0]):
            fail("no module after --, as in -- launch.finetune --workdir=...", EXIT_BAD_INPUT)
        path = _workdir(module)
        if not path:
            fail("no --workdir after the module: what is resumed lies there", EXIT_BAD_INPUT)
        if "://" in path:
            fail(
                f"--workdir={path}: give a path on a file system that all hosts share, not a URL",
                EXIT_BAD_INPUT,
            )
        return module

    def guarded(module: list[str]) -> None:
        try:
            main(module)
        except KeyboardInterrupt:
            print("interrupted: what was started on the cluster may go on", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    app.run(guarded, flags_parser=parse)


def require_workdir_in(shared: str, module: Sequence[str]) -> None:
    """Fails unless `--workdir` lies in the folder that outlives the machines."""
    path, folder = PurePosixPath(_workdir(module)), PurePosixPath(shared)
    if not (folder.is_absolute() and path.is_relative_to(folder)) or ".." in path.parts:
        fail(
            f"--workdir={path} is lost with its machine: give one inside --shared_dir={shared}, "
            "an absolute path",
            EXIT_BAD_INPUT,
        )


def mounted(folder: str) -> str:
    """Returns a line of shell that ends a worker where nothing is mounted at the folder."""
    says = shlex.quote(f"error: nothing is mounted at --shared_dir={folder}")
    line = f"mountpoint -q {shlex.quote(folder)} || {{ echo {says} >&2; exit {EXIT_BAD_INPUT}; }}"
    return f"{{ {line}; }}"


def fail(problem: str, status: int = _EXIT_FAILED) -> NoReturn:
    """Says in one line on stderr what is wrong, and exits with `status`."""
    print(f"error: {' '.join(problem.split())}", file=sys.stderr)
    sys.exit(status)


def show(command: Sequence[str]) -> None:
    """Prints a command as a shell takes it."""
    print(shlex.join(command), flush=True)


def call(command: Sequence[str], stdin: str | None = None) -> int:
    """Shows a command, runs it with the output of this process, and returns its exit status."""
    show(command)
    return _run(command, input=stdin, text=True).returncode


def must(command: Sequence[str], stdin: str | None = None) -> None:
    """Shows a command, runs it, and fails where it fails."""
    if status := call(command, stdin):
        words = [word for word in command if not word.startswith("-")]
        fail(f"{' '.join(words)} ended with status {status}")


def ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command and returns what it said."""
    return _run(command, capture_output=True, text=True)


def _workdir(module: Sequence[str]) -> str:
    """Returns the value of `--workdir` among a module's arguments, empty where there is none."""
    found = ""
    for argument, following in zip(module, [*module[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--workdir", "-workdir"):
            found = value if equals else following
    return found


def _run(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    except (FileNotFoundError, PermissionError):
        fail(f"{command[0]} is not on the PATH: install it", EXIT_BAD_INPUT)
