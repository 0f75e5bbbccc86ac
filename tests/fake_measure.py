"""A measure of `benchmarks.gpu` that measures nothing: its parts do what tests are about."""

import os
import time

from benchmarks.gpu.table import Row


def ours(tiny):
    return [("good", lambda: {"tiny": tiny, "rate": 1.0}), ("lacks", _lacks)]


def broken(tiny):
    return [
        ("raises", lambda: 1 / 0),
        ("dies", lambda: os._exit(3)),
        ("after", lambda: {"rate": 2.0}),
    ]


def long(tiny):
    return [("sleeps", lambda: time.sleep(60))]


def lowered():
    return [("good", lambda: {"programs": {"one": 1}})]


def figures(found):
    sides = (("ours", "good"), ("broken", "after"))
    return [Row(side, found.get(side, part, "rate"), ">= 1") for side, part in sides]


def _lacks():
    import no_such_package  # noqa: F401
