"""Lines in are checked by name; lines out survive a kill and end in order."""

import json

import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl


def _file(tmp_path, text):
    file = tmp_path / "in.jsonl"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_lines_have_ids_of_their_own_or_their_index(tmp_path):
    file = _file(tmp_path, '{"a": 1}\n\n{"a": 2, "id": 7}\n{"a": 3}\n')
    assert [row["id"] for row in jsonl.read(file)] == [0, 7, 2]


def test_a_row_may_be_named_by_two_fields_and_null_is_none():
    rows = [("", {"id": 1}), ("", {"id": 1, "sample": 1}), ("", {"id": None, "sample": None})]
    assert jsonl.names(rows, ("id", "sample")) == [(1, 0), (1, 1), (2, 0)]


def test_byte_order_marks_and_any_line_ends_are_read(tmp_path):
    text = '\ufeff{"a": "\ufeff1"}\r\n\ufeff{"a": "2"}\ufeff\r{"a": "3\u2028"}'
    found = [row["a"] for row in jsonl.read(_file(tmp_path, text))]
    assert found == ["\ufeff1", "2", "3\u2028"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1}\n{"a": \n', "in.jsonl, line 2: not JSON: Expecting value .column 7"),
        ('{"a": 1}\n\n{"a": "b', "line 3: not JSON: Unterminated string"),
        ("{}\n[1]\n", "line 2: not a JSON object"),
        ('{"id": 3}\n{"id": 3}\n', "line 2: id 3: must be an integer"),
        ('{"id": -1}\n', "line 1: id -1"),
        ('{"id": "x"}\n', "line 1: id 'x'"),
        ('{"id": [1]}\n', r"line 1: id \[1\]"),
        ('{"prompt": "\\ud800"}\n', "line 1: half a surrogate pair is no text"),
        ('{"a": ' + "[" * 100_000 + "\n", "line 1: not JSON: nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "line 1: a number of more digits"),
        ('{"a": 1, "b": {"c": 2, "c": 3}}', "line 1: two fields 'c'"),
        ('[{"a": 1}]', r"in.jsonl: a JSON array: .* jq -c '.\[\]'"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the file itself"),
        ('{"id": true}\n', "line 1: id True"),
        ('{"id": 2147483648}\n', "line 1: id 2147483648"),
        ("", "no lines"),
        (b"\xff\xfe\n", "not UTF-8 text: .*: save it as UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, says):
    with pytest.raises(UserError, match=says) as error:
        jsonl.read(_file(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read: No such file"):
        jsonl.read(tmp_path / "none.jsonl")


def test_rows_are_kept_as_they_come_and_ordered_at_the_end(tmp_path):
    path = tmp_path / "data" / "out.jsonl"
    stream = jsonl.Stream(path, ("id",))
    stream.append([{"id": 2, "text": "é\u2028"}])
    stream.append([{"id": 0, "text": ""}])
    assert not path.exists()
    part = path.with_name("out.jsonl.part").read_text("utf-8")
    assert [json.loads(line)["id"] for line in part.split("\n")[:-1]] == [2, 0]
    assert (2,) in stream
    assert (1,) not in stream
    stream.close()
    assert [json.loads(x)["id"] for x in path.read_text("utf-8").split("\n")[:-1]] == [0, 2]
    assert [file.name for file in path.parent.iterdir()] == ["out.jsonl"]


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path):
    path = tmp_path / "out.jsonl"
    jsonl.Stream(path, ("id",)).append([{"id": 1}, {"id": 3}])
    with path.with_name("out.jsonl.part").open("a") as file:
        file.write('{"id": 4, "te')
    again = jsonl.Stream(path, ("id",))
    assert sorted(again.rows) == [(1,), (3,)]
    again.append([{"id": 0}])
    again.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"id": 0},
        {"id": 1},
        {"id": 3},
    ]


def test_a_complete_file_is_left_as_it_is(tmp_path):
    path = tmp_path / "out.jsonl"
    stream = jsonl.Stream(path, ("id",))
    stream.append([{"id": 1}])
    stream.close()
    before = path.stat()
    again = jsonl.Stream(path, ("id",))
    assert (1,) in again
    again.close()
    assert path.stat() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('{"name": 1}\n')
    with pytest.raises(UserError, match="line 1: no field 'id': not a file of this run"):
        jsonl.Stream(path, ("id",))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        jsonl.Stream(tmp_path / "data" / "out.jsonl", ("id",))


def test_rows_named_by_two_fields_are_ordered_by_both(tmp_path):
    path = tmp_path / "run" / "data" / "out.jsonl"
    stream = jsonl.Stream(path, ("id", "sample"))
    names = [(10, 0), (2, 1), (2, 0), (1, 5)]
    for i, j in names:
        stream.append([{"sample": j, "id": i}])
    stream.close()
    lines = path.read_text().splitlines()
    assert [(x["id"], x["sample"]) for x in map(json.loads, lines)] == sorted(names)


def test_half_a_letter_of_a_killed_run_is_dropped(tmp_path):
    path, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    whole = '{"id": 1, "text": "\u65e5"}\n'.encode()
    part.write_bytes(whole + whole[:-4])
    again = jsonl.Stream(path, ("id",))
    assert part.read_bytes() == whole
    assert again.rows == {(1,): {"id": 1, "text": "\u65e5"}}


def test_a_run_killed_between_its_two_last_steps_ends_well(tmp_path):
    path, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    path.write_text('{"id": 0}\n{"id": 1}\n')
    part.write_text('{"id": 1}\n{"id": 0}\n')
    jsonl.Stream(path, ("id",)).close()
    assert path.read_text() == '{"id": 0}\n{"id": 1}\n'
    assert not part.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"id": 0}\n{"sample": 1}\n', r"out\.jsonl\.part, line 2: no field 'id'"),
        ('{"id": 0}\n{"id": \n{"id": 2}\n', r"out\.jsonl\.part, line 2: not JSON"),
    ],
)
def test_a_damaged_part_is_named(tmp_path, text, says):
    (tmp_path / "out.jsonl.part").write_text(text)
    with pytest.raises(UserError, match=says):
        jsonl.Stream(tmp_path / "out.jsonl", ("id",))
    assert (tmp_path / "out.jsonl.part").read_text() == text


def test_a_row_without_its_name_is_not_taken(tmp_path):
    stream = jsonl.Stream(tmp_path / "out.jsonl", ("id", "sample"))
    with pytest.raises(UserError, match="no field 'sample'"):
        stream.append([{"id": 0}])
    assert (tmp_path / "out.jsonl.part").read_text() == ""


def test_what_cannot_be_written_later_is_named_and_leaves_no_litter(tmp_path):
    path, part = tmp_path / "out.jsonl", tmp_path / "out.jsonl.part"
    stream = jsonl.Stream(path, ("id",))
    stream.append([{"id": 0}])
    path.mkdir()
    with pytest.raises(UserError, match=r"out\.jsonl: cannot be written: Is a directory"):
        stream.close()
    assert sorted(tmp_path.iterdir()) == [path, part]
    assert part.read_text() == '{"id": 0}\n'
    part.unlink()
    part.mkdir()
    with pytest.raises(UserError, match=r"\.part: cannot be written: Is a directory"):
        stream.append([{"id": 1}])
