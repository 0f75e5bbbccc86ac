"""What a study makes - teachers, rows, students, measurements - each known by what made it.

An artefact NAME of a run directory is the file NAME.json, which says what it was made from, and
what else its maker writes at NAME. One of the same name that was made from something else is made
beside it, at NAME-KEY; nothing is removed. So what has not changed is used again, and only that.
Of several processes all call, and the first one writes.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sublim_jax import digest, disk
from sublim_jax.errors import UserError
from sublim_jax.mesh import in_first
from sublim_jax.rundir import finite

_FORMAT = 2  # to be raised whenever what a record or a file of an artefact says changes its meaning


class Artefact:
    """One artefact, made or to be made.

    Attributes:
      key: a digest of what it is made from.
      path: where its maker writes, less a suffix.
    """

    def __init__(self, path: Path, made_from: Mapping[str, Any]):
        self._made_from = json.loads(json.dumps(made_from))
        self.key = digest.of_json([_FORMAT, self._made_from])
        known, beside = _record(path), path.with_name(f"{path.name}-{self.key}")
        mine = known is None or known.get("key") == self.key
        self.path = path if mine and not _file(beside).exists() else beside

    @property
    def record(self) -> Path:
        """The file that says what it is."""
        return _file(self.path)

    @property
    def rows(self) -> Path:
        """The file of its rows, if it has any."""
        return self.path.with_name(f"{self.path.name}.jsonl")

    def found(self) -> dict[str, Any] | None:
        """Returns what `complete` was told, or None where it is still to be made."""
        known = _record(self.path) or {}
        return known.get("found")

    def claim(self) -> None:
        """Says whose `path` is, before anything is written there.

        Raises:
          UserError: something is there already, and no record says what.
        """
        in_first(self._claim)

    def complete(self, found: Mapping[str, Any]) -> None:
        """Says that all of it is written, and what else is to be known of it (JSON values)."""
        in_first(lambda: self._write({"found": finite(found)}))

    def _claim(self) -> None:
        left = [self.path, self.rows, self.rows.with_suffix(".jsonl.part")]
        if not self.record.exists() and any(file.exists() for file in left):
            raise UserError(
                f"{self.path}: there are files here, but their record {self.record.name} is "
                "missing: move them away"
            )
        if self.found() is None:
            self._write({})

    def _write(self, more: Mapping[str, Any]) -> None:
        record = {"key": self.key, **more, "made_from": self._made_from}
        disk.write(self.record, json.dumps(record, indent=1) + "\n")


class Store:
    """The artefacts of a run directory."""

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, Artefact] = {}

    def of(self, name: str, made_from: Callable[[], Mapping[str, Any]]) -> Artefact:
        """Returns the artefact KIND/MODEL/NAME; what it is made from is asked for once."""
        if name not in self._known:
            self._known[name] = Artefact(self._path / name, made_from())
        return self._known[name]

    @property
    def used(self) -> list[Artefact]:
        """All that were asked for."""
        return list(self._known.values())

    def idle(self) -> list[Path]:
        """Returns the records of artefacts that nobody has asked for: those of other configs."""
        every = {file for file in self._path.glob("*/*/*.json") if "key" in (_read(file) or {})}
        return sorted(every - {own.record for own in self.used})


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _record(path: Path) -> dict[str, Any] | None:
    return _read(_file(path))


def _read(file: Path) -> dict[str, Any] | None:
    return disk.read_object(file, "remove it") if file.exists() else None
