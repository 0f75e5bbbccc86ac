"""Theorem 1 of the paper, for any apply function, parameter tree and loss."""
