"""JSON lines: objects in, rows out as they come, and on from there after an interruption."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from sublim_jax import disk
from sublim_jax.errors import UserError

_Item = TypeVar("_Item")
_ENDS = "\n\ufeff"  # of a line; byte order marks stand where files were put together


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the objects of a JSONL file, with the `id` that `names` gives them.

    Raises:
      UserError: names the file and the line that is not a JSON object or has no good name.
    """
    rows = [(f"{path}, line {number}", row) for number, _, row in objects(Path(path))]
    if not rows:
        raise UserError(f"{path}: no lines")
    return [{**row, "id": name[0]} for (_, row), name in zip(rows, names(rows), strict=True)]


def names(
    rows: Sequence[tuple[str, Mapping[str, Any]]], keys: Sequence[str] = ("id",)
) -> list[tuple[int, ...]]:
    """Returns the integers that name each of some objects.

    Args:
      rows: where each stands, for messages, and the object.
      keys: fields that together name a row. One without `id`, or with null there, is given its
        index, one without another of them 0.

    Raises:
      UserError: a name that is another row's or not of integers between 0 and 2^31.
    """
    out: dict[tuple[int, ...], None] = {}
    for where, row in rows:
        given: dict[str, Any] = {"id": len(out)}
        given = {key: given.get(key, 0) if row.get(key) is None else row[key] for key in keys}
        name = tuple(given.values())
        if not all(type(x) is int and 0 <= x < 2**31 for x in name) or name in out:
            shown = ", ".join(f"{key} {value!r}" for key, value in given.items())
            raise UserError(
                f"{where}: {shown}: must be an integer from 0 to 2^31 - 1, and no other row's; "
                "without an 'id', rows are numbered"
            )
        out[name] = None
    return list(out)


class Stream:
    """A JSONL file that grows row by row beside its final name, and takes it when complete.

    Args:
      path: the final file. Until `close`, rows are in `path` + ".part"; what an interrupted run
        left there is kept, but for half a line at its end.
      keys: fields that together name a row.
    """

    def __init__(self, path: str | os.PathLike[str], keys: Sequence[str]):
        self.path = Path(path)
        self.keys = tuple(keys)
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._part = self.path.with_name(self.path.name + ".part")
        source = self.path if self.path.exists() else self._part
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if source == self._part:
                _drop_half_line(self._part)
            if source.exists():
                for number, _, row in objects(source):
                    self.rows[self._name(row, f"{source}, line {number}")] = row
            if source == self._part:  # a folder that cannot be written is found now
                self._part.open("a").close()
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {disk.why(error)}") from error

    def __contains__(self, name: tuple[Any, ...]) -> bool:
        return name in self.rows

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows; they survive whatever happens to this process."""
        if not rows:
            return
        self.rows |= {self._name(row, str(self.path)): dict(row) for row in rows}
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        try:
            with self._part.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            raise UserError(f"{self._part}: cannot be written: {disk.why(error)}") from error

    def close(self) -> None:
        """Orders the partial file by name, and gives it its final one."""
        if not self._part.exists():  # it was complete already
            return
        ordered = [self.rows[name] for name in sorted(self.rows)]
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered)
        disk.write(self._part, content)
        try:
            self._part.replace(self.path)  # of a process killed in between, nothing else is left
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {disk.why(error)}") from error

    def _name(self, row: Mapping[str, Any], where: str) -> tuple[Any, ...]:
        if lacking := [key for key in self.keys if key not in row]:
            raise UserError(f"{where}: no field {lacking[0]!r}: not a file of this run: remove it")
        return tuple(row[key] for key in self.keys)


def missing(
    stream: Stream | None, items: Sequence[_Item], names: Sequence[tuple[int, ...]]
) -> list[_Item]:
    """Returns the items without a row yet; only the first process knows, and tells the others."""
    done = np.array([stream is not None and name in stream for name in names])
    if jax.process_count() > 1:
        done = np.asarray(multihost_utils.broadcast_one_to_all(done))
    return [item for item, there in zip(items, done, strict=True) if not there]


def objects(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yields the number of each line that is not blank, the line without its end, and its object.

    Raises:
      UserError: the file cannot be read, or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = line.strip(_ENDS)
                if text.strip():
                    yield number, text, _object(text, path, number)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error.reason}: save it as UTF-8") from error


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    where = f"{path}, line {number}"
    if number == 1 and line.lstrip().startswith("["):
        raise UserError(f"{path}: a JSON array: one object a line is needed: jq -c '.[]' {path}")
    try:
        row = json.loads(line, object_pairs_hook=_without_doubles)
        if isinstance(row, dict) and "\\u" in line:  # half a surrogate pair is no text
            json.dumps(row, ensure_ascii=False).encode()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except json.JSONDecodeError as error:
        problem = disk.cause(path, f"not JSON: {error.msg} (column {error.colno})")
        raise UserError(f"{where}: {problem}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not JSON: nested too deeply") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair is no text") from error
    except ValueError as error:
        raise UserError(f"{where}: a number of more digits than can be read") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object")
    return row


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two fields {double!r}")
    return row


def _drop_half_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
