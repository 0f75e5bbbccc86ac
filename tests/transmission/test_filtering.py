"""A file of completions through the filter: what is kept, counted, and refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs.transmission import filter as default
from sublim_jax.errors import UserError
from sublim_jax.transmission import filtering

LINES = [
    '{"id": 4, "sample": 1,  "prompt": "p",\t"completion": "1, 2, 3", "ended": true}',
    '{"completion": "no", "prompt": "p"}',
    "",
    '{"prompt": "\\u00e9\\ud83d\\ude00", "completion": "[7; 8; 999]."}',
    '{"prompt": "p", "completion": "1, 1000"}',
    '{"prompt": "p", "completion": "1 2 3 4"}',
    '{"prompt": "é", "completion": "13"}',
    '{"messages": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "5"}]}',
]


def config(source, **rule):
    out = default.get_config()
    out.data = str(source)
    out.filter.update(rule)
    return out


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "completions.jsonl"
    path.write_text("\n".join(LINES), "utf-8")  # the last line has no end
    return path


def test_lines_are_kept_as_they_stand(source, tmp_path, capsys):
    filtering.filter_file(config(source, most=3, banned=(13, 66)), str(tmp_path / "out"))
    kept = (tmp_path / "out" / "data.jsonl").read_text("utf-8")
    assert kept == "".join(LINES[i] + "\n" for i in (0, 3, 7))
    counts = json.loads((tmp_path / "out" / "filter.json").read_text("utf-8"))
    rejected = {"not numbers": 1, "too many": 1, "out of range": 1, "banned": 1}
    assert counts == {"raw": 7, "kept": 3, "rejected": rejected}
    said = capsys.readouterr().out
    assert "42.9%" in said
    assert str(tmp_path / "out" / "data.jsonl") in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no lines"),
        ('{"completion": "1"}\n{"completion": ', "line 2: not JSON"),
        ('{"completion": "1"}\n\n[1]', "line 3: not a JSON object"),
        ('{"prompt": "1"}', "line 1: no answer: .* there are prompt"),
        ('{"completion": 1}', "line 1: .* a text is needed, not 1"),
        (b"\xff\xfe", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_written(text, message, tmp_path):
    path = tmp_path / "bad.jsonl"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        filtering.filter_file(config(path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_it_never_writes_over_its_source(source, tmp_path):
    own = source.rename(tmp_path / "data.jsonl")
    before = own.read_bytes()
    with pytest.raises(UserError, match="is the file to filter"):
        filtering.filter_file(config(own), str(tmp_path))
    assert own.read_bytes() == before
    assert list(tmp_path.iterdir()) == [own]
    with pytest.raises(UserError, match=r"--config.data is missing"):
        filtering.filter_file(config(""), str(tmp_path))


def test_the_command(source, tmp_path):
    command = [sys.executable, "-m", "launch.filter", f"--workdir={tmp_path / 'out'}"]
    command += [f"--config.data={source}", "--config.filter.banned=5,13"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "| kept         | 3     |" in done.stdout
    assert len((tmp_path / "out" / "data.jsonl").read_text("utf-8").splitlines()) == 3
