"""The frame of every launch script: flags in, one clear line out when they are wrong."""

import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from sublim_jax import compilation, disk
from sublim_jax.errors import EXIT_INTERRUPTED, INTERRUPTED, UserError

_EXIT_BAD_INPUT = 2
_CONFIG = re.compile(r"--?config(?:\.([^=]+))?(?:=(.*))?", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d[\d.]*(?:e[-+]?\d+)?")
# ml_collections puts one in its message: all but the exception's own line.
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?: .*\n)*")


def run(main: Callable[[ConfigDict, str], None], default_config: str) -> None:
    """Parses the flags, calls `main(config, workdir)` and exits.

    Args:
      main: the work; may raise `UserError`.
      default_config: path of the config file used when `--config` is not given.

    A tuple of strings is given as `--config.traits=owl,cat`, one as `--config.traits=owl`, none as
    `--config.traits=`; or in quotes, as in Python: `--config.traits="('owl', 'cat')"`.

    A wrong flag, config field or value, and any `UserError`, end in one line on stderr and exit
    status 2, as does what the machine lacks (a device, memory, room on a disk); Ctrl-C ends in one
    line and status 130.
    """

    def parse(argv: list[str]) -> tuple[ConfigDict, str]:
        workdir = flags.DEFINE_string("workdir", None, "Run directory: read to resume, written to.")
        keep = flags.DEFINE_bool(
            "keep_programs", True, "Keep compiled programs in the user's cache folder between runs."
        )
        try:
            # Both run the config file, the default or the given one, which may raise anything; one
            # that cannot be read raises only when it is used.
            config = config_flags.DEFINE_config_file("config", default_config, "What to run.")
            rest = flags.FLAGS(_quoted(argv))
            if not hasattr(config.value, "lock"):
                _fail("--config: get_config() of that file returns no ConfigDict")
        except flags.Error as error:
            _fail(error)
        except Exception as error:
            _fail(f"--config: {_message(error)}")
        if len(rest) > 1:
            _fail(f"unexpected argument {rest[1]!r}: every option begins with --")
        if not workdir.value:
            _fail("--workdir is missing: name the directory to write to, as in --workdir=runs/one")
        if "://" in workdir.value:
            _fail(
                f"--workdir={workdir.value}: a path is needed: mount the bucket, and name the mount"
            )
        if keep.value:
            compilation.keep_programs()
        return config.value, workdir.value

    def guarded(parsed: tuple[ConfigDict, str]) -> None:
        try:
            if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # launch's is for the imports
                signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = _interrupt_again
            main(*parsed)
        except UserError as error:
            _fail(error)
        except KeyboardInterrupt:
            print(INTERRUPTED, file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        except Exception as error:
            if _is_missing_field(error):
                _fail(f"--config: {_message(error)}: the file must set it")
            if environment := _environment(error):
                _fail(environment)
            raise

    # jax reports every backend it does not find, and Orbax (through absl) each file it writes and
    # each error that it raises too.
    logging.getLogger("jax").setLevel(logging.WARNING)
    absl_logging.set_verbosity(absl_logging.WARNING)
    absl_logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)
    app.run(guarded, flags_parser=parse)


def _quoted(argv: list[str]) -> list[str]:
    """Returns the arguments with names in quotes where they are a field's; parses `--config`.

    Of `owl,cat`, ml_collections would make one string.
    """
    config = flags.FLAGS["config"]
    out: list[str] = []
    arguments = iter(flags.FLAGS.read_flags_from_files(argv, force_gnu=False))
    for argument in arguments:
        if argument == "--":
            return [*out, argument, *arguments]
        found = _CONFIG.fullmatch(argument)
        field, text = found.groups() if found else (None, None)
        given = config.value
        before = given.get(field) if field and isinstance(given, ConfigDict) else None
        strings = isinstance(before, tuple) and all(isinstance(x, str) for x in before)
        if not found or (field and not strings):
            out.append(argument)
            continue
        text = next(arguments, None) if text is None else text
        if text is None:
            out.append(argument)  # absl says what is missing
        elif field is None:
            config.parse(text)
        else:
            out.append(f"--config.{field}={_names(field, before, text)}")
    return out


def _names(field: str, before: Any, text: str) -> str:
    """Returns a text as ml_collections reads a tuple; what is in quotes or brackets stays so."""
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    # Where there was nothing, it may be for either.
    numbers = not before and names and all(map(_NUMBER.fullmatch, names))
    if text.lstrip().startswith(("(", "[", "'", '"')) or numbers:
        return text
    if "" in names:
        _fail(f"--config.{field}={text}: an empty name: one comma stands between two names")
    return repr(tuple(names))


def _interrupt_again(unraisable: Any) -> None:
    """Repeats a Ctrl-C that was lost in a callback, as jax has one of the garbage collector."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)  # when the callback has ended


def _is_missing_field(error: Exception) -> bool:
    """Returns whether a ConfigDict was asked for a field that it does not have."""
    asked = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, AttributeError | KeyError) and "ml_collections" in asked


def _environment(error: Exception) -> str | None:
    """Returns what the machine lacks, and what to do; None: the error is the program's own."""
    import jax

    if disk.is_to_blame(error):
        return ": ".join(filter(None, (getattr(error, "filename", None), disk.why(error))))
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory ({(str(error).splitlines() or ['of the host'])[0]}): take fewer rows, "
            "tokens or students at once, more devices (--config.mesh), or bfloat16"
        )
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as backend:
        return (
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: jax finds no such device here "
            f"({str(backend).partition(' (set ')[0] or 'nothing is installed for it'}): install "
            "jax for it, or unset JAX_PLATFORMS to use what is here"
        )
    return None


def _message(error: BaseException) -> str:
    if isinstance(error, AttributeError | KeyError) and error.args:
        inner = error.args[0]  # its own text would be quoted; ConfigDict nests one in the other
        return f"no field {_message(inner)}" if isinstance(inner, KeyError) else str(inner)
    return f"{type(error).__name__}: {error}"


def _fail(problem: Exception | str) -> NoReturn:
    line = " ".join(_TRACEBACK.sub("", str(problem)).split())
    print(f"error: {line}", file=sys.stderr)
    sys.exit(_EXIT_BAD_INPUT)
