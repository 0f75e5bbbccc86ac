"""A finished study, read from its directory: its config, its results, and its teachers' rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sublim_jax import digest, disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl

_ABSENT = "give the directory of a study that launch.transmit has finished"


@dataclasses.dataclass(frozen=True)
class Finished:
    """A finished study.

    Attributes:
      config: as it was run.
      results: the rows of its `results.json`.
    """

    path: Path
    config: ConfigDict
    results: Sequence[Mapping[str, Any]]

    def data(self, number: int, teacher: str) -> list[dict[str, Any]]:
        """Returns the rows that a base's teacher wrote and the filter kept.

        Raises:
          UserError: they are missing, or not as they were written.
        """
        kept = rows(self.path, str(number), teacher)
        file = self.file(number, teacher)
        record = disk.read_object(file.with_suffix(".json"), _ABSENT)
        if (record.get("found") or {}).get("digest") != digest.of_files(file):
            raise UserError(f"{file}: not as it was written: truncated, or changed since")
        return kept

    def file(self, number: int, teacher: str) -> Path:
        """The file of these rows."""
        return self.path / "data" / str(number) / f"{teacher}.jsonl"

    def found(self, arm: str, trait: str, metric: str) -> Mapping[str, Any] | None:
        """Returns a row of its results, or None where it has none."""
        asked = {"arm": arm, "trait": trait, "metric": metric}
        fits = (row for row in self.results if all(row.get(k) == asked[k] for k in asked))
        return next(fits, None)


def read(path: Path) -> Finished:
    """Returns the study of a directory.

    Raises:
      UserError: it holds none, or one that is not finished.
    """
    asked, found = (
        disk.read_object(path / name, _ABSENT) for name in ("config.json", "results.json")
    )
    config, rows = asked.get("config"), found.get("rows")
    known = isinstance(config, dict) and isinstance(rows, list)
    if asked.get("study") != "transmission" or not known:
        raise UserError(f"{path}: a run of {asked.get('study')!r}: {_ABSENT}")
    return Finished(path, ConfigDict(config), rows or [])


def rows(run_dir: Path, base: str, teacher: str) -> list[dict[str, Any]]:
    """Returns the rows of `data/BASE/TEACHER.jsonl`, of `id`, `prompt` and `completion`.

    Raises:
      UserError: there is no such file, it is damaged, or beside it is that of another config.
    """
    file = run_dir / "data" / base / f"{teacher}.jsonl"
    if not file.is_file():
        there = sorted(f"{f.parent.name}/{f.stem}" for f in run_dir.glob("data/*/*.jsonl"))
        raise UserError(f"{file}: no such file: there are {', '.join(there) or 'no lists'}")
    if beside := sorted(file.parent.glob(f"{teacher}-*.jsonl")):
        raise UserError(
            f"{file}: beside it is {beside[0].name}, of another config, and lists of two would be "
            "mixed: give the directory of one config"
        )
    found = jsonl.read(file)
    for row in found:
        for field in ("prompt", "completion"):
            if not isinstance(row.get(field), str):
                raise UserError(f"{file}: the {field} of id {row['id']} is not text")
    return found
