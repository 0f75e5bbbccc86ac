"""The frame of every launch script: flags in, one clear line out when they are wrong."""

import logging
import sys
from collections.abc import Callable

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from sublim_jax.errors import UserError

_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130


def run(main: Callable[[ConfigDict, str], None], default_config: str) -> None:
    """Parses `--config` and `--workdir`, calls `main(config, workdir)` and exits.

    Args:
      main: the work; may raise `UserError`.
      default_config: path of the config file used when `--config` is not given.

    A wrong flag, config field or value, and any `UserError`, end in one line on stderr and exit
    status 2; Ctrl-C ends in one line and status 130.
    """
    config = config_flags.DEFINE_config_file("config", default_config, "What to run.")
    workdir = flags.DEFINE_string("workdir", None, "Run directory: read to resume, written to.")

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:
            _fail(error)
        except (AttributeError, ImportError, KeyError, OSError, SyntaxError, TypeError) as error:
            _fail(f"--config: {error}")
        if len(rest) > 1:
            _fail(f"unexpected argument {rest[1]!r}: every option begins with --")
        if not workdir.value:
            _fail("--workdir is missing: name the directory to write to, as in --workdir=runs/one")
        return rest

    def guarded(_: list[str]) -> None:
        assert workdir.value  # parse saw to it
        try:
            main(config.value, workdir.value)
        except UserError as error:
            _fail(error)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from here", file=sys.stderr)
            sys.exit(_EXIT_INTERRUPTED)

    # A CPU-only machine is no news: jax reports every backend it does not find.
    logging.getLogger("jax").setLevel(logging.WARNING)
    app.run(guarded, flags_parser=parse)


def _fail(problem: Exception | str) -> None:
    line = " ".join(str(problem).split())
    print(f"error: {line}", file=sys.stderr)
    sys.exit(_EXIT_BAD_INPUT)
