"""The error that a user can fix, and the message after an interruption."""

INTERRUPTED = "interrupted: run the same command again to continue"
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    `sublim_jax.app.run` prints it without a traceback and exits with status 2.
    """
