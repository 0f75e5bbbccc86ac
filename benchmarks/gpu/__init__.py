"""Everything of ours that has never met a GPU, in one command: python -m benchmarks.gpu.

A measure is a module here. It has parts, each a name and a function that returns figures, by side:
`ours` and mostly `peer`, both of them given whether the sizes are tiny; and `lowered`, which lowers
the programs of ours for another platform, of abstract arrays of the real sizes. `figures` are the
lines of the table. `child` runs one side of a measure, in a process of its own.
"""

from collections.abc import Callable
from typing import Any

Parts = list[tuple[str, Callable[[], dict[str, Any]]]]
