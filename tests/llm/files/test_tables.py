"""Objects of a file: the same from every kind of it, and one line for what cannot be read."""

import json

import datasets
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm.files import rows, tables

ROWS = [
    {"Question": "Who, then?", "Best Answer": "an owl\nor two"},
    {"Question": "q", "Best Answer": "a"},
]


@pytest.fixture
def files(tmp_path):
    """The same rows in every kind of file."""
    data = datasets.Dataset.from_list(ROWS)
    data.to_parquet(tmp_path / "a.parquet")
    data.to_csv(tmp_path / "a.csv")
    (tmp_path / "bom.csv").write_text("﻿" + (tmp_path / "a.csv").read_text("utf-8"), "utf-8")
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), "utf-8")
    data.to_parquet(tmp_path / "hub" / "test.parquet")
    names = ["a.parquet", "a.csv", "bom.csv", "a.jsonl"]
    return [*(str(tmp_path / name) for name in names), f"hf:{tmp_path / 'hub'}:default:test"]


def test_every_kind_of_file_has_the_same_rows(files):
    for source in files:
        found = tables.read(source)
        assert [dict(row) for _, row, _ in found] == ROWS
        assert [json.loads(line) for *_, line in found] == ROWS
        where = [where.removeprefix(source.removeprefix("hf:")) for where, *_ in found]
        assert [place.split()[-1] for place in where] == (
            ["3", "4"] if "csv" in source else ["1", "2"]
        )
        named = [values for _, values in tables.columns(source, ("best_answer", "question"))]
        assert named == [[row["Best Answer"], row["Question"]] for row in ROWS]


def test_rows_are_read_from_any_of_them(files):
    columns = {"prompt": "Question", "completion": "Best Answer", "messages": ""}
    for source in files:
        assert [(r.asked, r.answer) for r in rows.read(source, columns)] == [
            tuple(row.values()) for row in ROWS
        ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,b\n1,2,3\n", r"a\.csv, line 2: not as many cells as the header has"),
        ("a.csv", b"a,b\n1\n", r"a\.csv, line 2: not as many cells"),
        ("a.csv", b"a,b\n1,\n", r"a\.csv, line 2: no 'b': there are a, b"),
        ("a.csv", b"a,a\n1,2\n", r"a\.csv: two columns 'a'"),
        ("A.CSV", b"a,b,A\n1,2,3\n", r"A\.CSV, line 2: two columns are 'a': a, b, A"),
        ("a.csv", b'a,b\n1,"2\n', r"a\.csv: not CSV in UTF-8: unexpected end"),
        ("a.csv", b"a,b\n\xff,2\n", r"a\.csv: not CSV in UTF-8"),
        ("a.csv", b"a,b\n", r"a\.csv: no lines"),
        ("a.parquet", b"PAR1", r"a\.parquet: missing, truncated or damaged"),
        ("a.jsonl", b'{"a": 1}\n', r"a\.jsonl, line 1: no 'b': there are a"),
        ("a.jsonl", b'{"a": 1, "b": null}\n', r"line 1: no 'b'"),
        ("none.csv", None, r"none\.csv: cannot be read: No such file"),
        ("none.parquet", None, r"none\.parquet: cannot be read: No such file"),
        ("none.jsonl", None, r"none\.jsonl: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_one_line(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        tables.columns(str(tmp_path / name), ("a", "b"))
    assert "\n" not in str(error.value)
