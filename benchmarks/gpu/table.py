"""The table that a run ends with, of what its measures have written, and what of them failed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu import child
from sublim_jax.report import markdown_table


class Row(NamedTuple):
    """One figure: its value, or None where it is not known, and what it should be."""

    figure: str
    value: float | None
    target: str = ""


class Found:
    """What the sides of one measure have written in a folder; nothing where that is None."""

    def __init__(self, folder: Path | None, measure: str):
        self.folder, self.measure = folder, measure

    def get(self, side: str, part: str, name: str) -> Any:
        """Returns a figure of a part, or None."""
        if self.folder is None:
            return None
        record = child.read(self.folder / f"{self.measure}_{side}.json") or {"parts": {}}
        return record["parts"].get(part, {}).get(name)


def ratio(a: float | None, b: float | None) -> float | None:
    """Returns a / b where both are known."""
    return a / b if a is not None and b else None


def markdown(rows: Iterable[Row]) -> str:
    """Returns the table."""
    cells = [
        [row.figure, "not run" if row.value is None else f"{row.value:.3g}", row.target]
        for row in rows
    ]
    return markdown_table(["", "measured", "target"], cells)


def failures(files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Returns a line for each part that failed, and for each that lacks a package."""
    failed, lacking = [], []
    for file in files:
        for part, found in (child.read(file) or {"parts": {}})["parts"].items():
            if "error" in found:
                failed.append(f"{file.stem}, {part}: {found['error'][-1]}")
            elif "missing" in found:
                lacking.append(f"{file.stem}, {part}: {found['missing']} is not installed")
    return failed, lacking
