"""JSON lines: prompts in, samples out as they come, and on from there after an interruption."""

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


def read(
    path: str | os.PathLike[str],
    fields: Sequence[Sequence[str]] = (),
    keys: Sequence[str] = ("id",),
) -> list[dict[str, Any]]:
    """Returns the objects of a JSONL file, with the integers that name them.

    Args:
      fields: of each of these groups, every line must have one field.
      keys: fields that together name a line; none: lines are not named. A line without `id` is
        given its index, one without another of them 0.

    Raises:
      UserError: names the file and the line that is not a JSON object, lacks a field, or whose name
        is another line's or not of integers between 0 and 2^31.
    """
    rows: list[dict[str, Any]] = []
    seen: set[tuple[int, ...]] = set()
    for number, row in _objects(Path(path)):
        for group in fields:
            if not any(name in row for name in group):
                raise UserError(f"{path}, line {number}: no field {' or '.join(map(repr, group))}")
        for key in keys:
            row.setdefault(key, len(rows) if key == "id" else 0)
        name = tuple(row[key] for key in keys)
        good = all(type(x) is int and 0 <= x < 2**31 for x in name) and name not in seen
        if keys and not good:
            shown = ", ".join(f"{key} {row[key]!r}" for key in keys)
            raise UserError(
                f"{path}, line {number}: {shown}: must be an integer from 0 to 2^31 - 1, and no "
                "other line's"
            )
        seen.add(name)
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no lines")
    return rows


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
                for number, row in _objects(source):
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


def lines(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Yields the number of each line that is not blank, the line, and its JSON value.

    Raises:
      UserError: the file cannot be read, or a line is not JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}: not JSON: {error}") from error
                yield number, line, value
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error.reason}") from error


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line, row in lines(path):
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a JSON object")
        try:
            if "\\u" in line:  # half a surrogate pair is no text
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}") from error
        yield number, row


def _drop_half_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
