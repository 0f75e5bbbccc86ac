"""The error a user can mend."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    `sublim_jax.app.run` prints it without a traceback and exits with status 2.
    """
