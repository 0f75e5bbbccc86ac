"""Objects of a file, one reader for all: JSON lines, CSV with a header, Parquet, or a data set."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl

Given = tuple[str, Mapping[str, Any], str]


def read(source: str) -> list[Given]:
    """Returns the objects of a file NAME.csv, NAME.parquet or of JSON lines, or of a data set.

    A data set is hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT, where NAME is an id of the hub or
    a folder, and the split "train" if none is named.

    Returns:
      Of each: what messages about it begin with ("FILE, line 3", or "NAME, row 3", counted from 1),
      its columns, and its line in the file, without the line's end; as JSON, where there is none.

    Raises:
      UserError: it cannot be read, or holds nothing.
    """
    path = Path(source)
    if source.startswith("hf:"):
        name = source.removeprefix("hf:")
        found = list(_numbered(name, _data_set(name)))
    elif path.suffix.lower() == ".parquet":
        found = list(_numbered(source, _parquet(path)))
    elif path.suffix.lower() == ".csv":
        found = list(_csv(path))
    else:
        rows = jsonl.objects(path)
        found = [(f"{source}, line {number}", row, line) for number, line, row in rows]
    if not found:
        raise UserError(f"{source}: no lines")
    return found


def columns(source: str, names: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """Returns of each object of a file where it stands, and its values in some columns.

    In the file their names may have capitals, and spaces: "Best Answer" is `best_answer`.

    Raises:
      UserError: as `read`, or a column is missing or empty.
    """
    out = []
    for where, row, _ in read(source):
        known = {}
        for name, value in row.items():
            plain = name.strip().lower().replace(" ", "_")
            if plain in known and plain in names:
                raise UserError(f"{where}: two columns are {plain!r}: {', '.join(row)}")
            known[plain] = value
        if lacking := [name for name in names if known.get(name) in (None, "")]:
            raise UserError(f"{where}: no {lacking[0]!r}: there are {', '.join(row)}")
        out.append((where, [known[name] for name in names]))
    return out


def _numbered(name: str, rows: Iterator[Mapping[str, Any]]) -> Iterator[Given]:
    for number, row in enumerate(rows, 1):
        yield f"{name}, row {number}", row, json.dumps(row, default=str)


def _csv(path: Path) -> Iterator[Given]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or ()
            if double := [name for name in names if names.count(name) > 1]:
                raise UserError(f"{path}: two columns {double[0]!r}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise UserError(f"{where}: not as many cells as the header has")
                yield where, row, json.dumps(row)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise disk.unreadable(path, f"not CSV in UTF-8: {error}") from error


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        if path.is_dir():  # pyarrow would read all that is in it
            raise IsADirectoryError
        rows = parquet.read_table(path).to_pylist()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path}: cannot be read: No such file") from error
    except (OSError, ArrowException) as error:
        raise disk.unreadable(path, error) from error
    return map(_without_nulls, rows)


def _data_set(name: str) -> Iterator[Mapping[str, Any]]:
    import datasets

    path, config, split = [*name.split(":", 2), "", ""][:3]
    try:
        if (Path(path) / "state.json").exists() and not split:  # of Dataset.save_to_disk
            found = datasets.load_from_disk(path)
        else:
            found = datasets.load_dataset(path, config or None, split=split or "train")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        if lines[0] == "Config name is missing.":
            lines[0] = f"several configs: name one, as in hf:{path}:CONFIG: {lines[1]}"
        raise UserError(f"hf:{name}: {lines[0]}") from error
    return ({column: _without_nulls(v) for column, v in row.items()} for row in found)


def _without_nulls(value: Any) -> Any:
    """Returns the value without the nulls with which Arrow fills what a row has not."""
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
