"""The error a user can mend, and what is said of one who leaves."""

INTERRUPTED = "interrupted: the same command goes on from here"
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    `sublim_jax.app.run` prints it without a traceback and exits with status 2.
    """
