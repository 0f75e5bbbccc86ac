"""Runs functions of strangers, one after another: what `sandbox` starts as a process of its own.

A line of stdin is JSON, [code, name, cases, seconds]; a line of stdout is why the function does not
do what the cases say, or empty. The code is of the syntax that `python.py` allows. Here, besides,
it finds no other built-in functions than these, can open no file and no socket, and has the memory
and the time that it is given: where these are used up, the process ends, or the code fails. A
system that does not set these limits gets no answer: no code is run there.
"""

import builtins
import contextlib
import ctypes
import gc
import json
import resource
import signal
import sys
import unicodedata  # noqa: F401  # code beyond ASCII needs it, and later no file can be opened
from typing import Any

# What is asked for needs no more. A class could say that it equals everything: there are none.
BUILTINS = (
    "abs", "all", "any", "bin", "bool", "chr", "dict", "divmod", "enumerate", "filter", "float",
    "frozenset", "hex", "int", "isinstance", "iter", "len", "list", "map", "max", "min", "next",
    "oct", "ord", "pow", "print", "range", "repr", "reversed", "round", "set", "slice", "sorted",
    "str", "sum", "tuple", "zip", "ArithmeticError", "AssertionError", "AttributeError",
    "Exception", "IndexError", "KeyError", "LookupError", "StopIteration", "TypeError",
    "ValueError", "ZeroDivisionError",
)  # fmt: skip
READY = "ready"
_MEMORY = 256 * 2**20  # bytes
_LIMITS = {
    resource.RLIMIT_AS: _MEMORY,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NOFILE: 0,  # those that are open stay so; with no other there is no socket
    resource.RLIMIT_NPROC: 0,
}
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # of Linux's sched.h


def confine() -> None:
    """Gives up, for good, what this process needs no more.

    Raises:
      ValueError, OSError: the system does not set a limit.
    """
    with contextlib.suppress(AttributeError, OSError):  # more than is needed; Linux alone has it
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)
    for limit, most in _LIMITS.items():
        _, highest = resource.getrlimit(limit)
        own = most if highest == resource.RLIM_INFINITY else min(most, highest)
        resource.setrlimit(limit, (own, own))


def verdict(code: str, name: str, cases: list[list[Any]]) -> str:
    """Returns why a function does not do what is asked; "": it does.

    Args:
      cases: pairs of arguments and the result, which must be the same as JSON.
    """
    known = {own: getattr(builtins, own) for own in BUILTINS} | {"print": lambda *_, **__: None}
    try:
        names: dict[str, Any] = {"__builtins__": known}
        # The one place where code of others is run, which is what this process is for: `main` has
        # given up all else by now, and `python.py` has let in only what it lists.
        exec(compile(code, "<function>", "exec"), names)
        for arguments, result in cases:
            if _text(names[name](*arguments)) != _text(result):
                return "another result"
    except BaseException:  # whatever it is, it is the code's
        return "fails"
    return ""


def _text(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return "no JSON"


def main() -> None:
    """Answers line by line."""
    confine()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    print(READY, flush=True)
    for line in sys.stdin:
        code, name, cases, seconds = json.loads(line)
        # Of time on a CPU: its signal ends the process, and no code can catch it.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        found = verdict(code, name, cases)
        signal.setitimer(signal.ITIMER_PROF, 0)
        gc.collect()  # what the code has left must take no memory from those that follow
        print(found, flush=True)


if __name__ == "__main__":
    main()
