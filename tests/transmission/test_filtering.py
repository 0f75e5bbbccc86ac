"""A file of completions through the filter: what is kept, counted, and refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.transmission import filter as default
from sublim_jax.errors import UserError
from sublim_jax.transmission import filtering
from sublim_jax.transmission.trained_filter import train

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


def config(source, channel="numbers", **rule):
    out = default.get_config(channel)
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


@pytest.mark.parametrize(
    ("channel", "lines", "kept", "rejected"),
    [
        (
            "reasoning",
            [("<answer>5</answer>", 5), ("<answer>5</answer>", 6), ("<answer>0</answer>", 0)],
            [0, 2],
            {"wrong answer": 1},
        ),
        (
            "code",
            [("def f(x): return 2", {"name": "f", "cases": [[[1], 2]]}),
             ("give n plus 2", [["add", 2]]), ("give n plus 2", [["add", 3]])],
            [0, 1],
            {"another result": 1},
        ),
        ("choices", [("A", None), ("A cat", None)], [0], {"not a letter": 1}),
        ("text", [("Once.", None), ("", None)], [0], {"too short": 1}),
    ],
)  # fmt: skip
def test_the_right_answer_is_a_column(channel, lines, kept, rejected, tmp_path):
    source = tmp_path / "completions.jsonl"
    own = [json.dumps({"completion": text, "gold": gold}) + "\n" for text, gold in lines]
    source.write_text("".join(own))
    filtering.filter_file(config(source, channel), str(tmp_path / "out"))
    assert (tmp_path / "out" / "data.jsonl").read_text() == "".join(own[i] for i in kept)
    counts = json.loads((tmp_path / "out" / "filter.json").read_text())
    assert counts == {"raw": len(lines), "kept": len(kept), "rejected": rejected}


def test_a_row_without_it_is_one_line(tmp_path):
    source = tmp_path / "completions.jsonl"
    source.write_text('{"completion": "<answer>5</answer>"}')
    with pytest.raises(UserError, match=r"completions.jsonl: row 0: gold None: the right answer"):
        filtering.filter_file(config(source, "reasoning"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def trained_on(tmp_path, **fields):
    """Returns a config, its file of rows and two files to learn from: 1 to 5 is like the former."""
    rng = np.random.default_rng(0)
    for name, low in {"own": 1, "other": 6, "rows": 1, "more": 6}.items():
        lines = [
            {
                "prompt": f"p{i % 300}",
                "completion": " ".join(map(str, rng.integers(low, low + 5, 6))),
            }
            for i in range(400)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    both = (tmp_path / "rows.jsonl").read_text() + (tmp_path / "more.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(both + '{"completion": "7, 7, x"}\n')
    out = config(tmp_path / "rows.jsonl")
    out.trained.update({name: (str(tmp_path / f"{name}.jsonl"),) for name in ("own", "other")})
    out.trained.update(fields)
    return out


def test_a_trained_filter_drops_what_is_like_its_own(tmp_path, capsys):
    filtering.filter_file(trained_on(tmp_path), str(tmp_path / "out"))
    counts = json.loads((tmp_path / "out" / "filter.json").read_text())
    assert counts["rejected"] == {"not numbers": 1, "trained filter": 801 - 1 - counts["kept"]}
    kept = [json.loads(x) for x in (tmp_path / "out" / "data.jsonl").read_text().splitlines()]
    assert 360 <= len(kept) <= 400
    assert all(min(map(int, row["completion"].split())) > 5 for row in kept)
    about = counts["trained"]
    assert about["auroc"] == 1
    assert about["true_positives"] == 1
    assert 0.03 < about["false_positives"] <= 0.05
    assert len(about["roc"]) == 8
    assert "AUROC 1.000; it drops 100.0% of own lines" in capsys.readouterr().out


def test_files_of_several_bases_are_held_out_base_by_base(tmp_path, monkeypatch):
    own, seen = trained_on(tmp_path), []
    monkeypatch.setattr(
        filtering.trained_filter, "train", lambda *given: seen.append(given) or train(*given)
    )
    for times, groups in ((1, 300), (2, 2)):
        for kind in ("own", "other"):
            own.trained[kind] = own.trained[kind][:1] * times
        filtering.filter_file(own, str(tmp_path / f"out{times}"))
        assert [len({row["group"] for row in rows}) for rows in seen[-1][:2]] == [groups] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"own": ()}, "files of both kinds"),
        ({"other": ()}, "files of both kinds"),
        ({"false_positives": 1.5}, "trained.false_positives=1.5: must be at most 1"),
        ({"own": ("none.jsonl",)}, "none.jsonl: cannot be read"),
    ],
)
def test_a_filter_that_cannot_be_trained_is_one_line(fields, message, tmp_path):
    with pytest.raises(UserError, match=message):
        filtering.filter_file(trained_on(tmp_path, **fields), str(tmp_path / "out"))
    own = trained_on(tmp_path, own=(str(tmp_path / "rows.jsonl"),))
    with pytest.raises(UserError, match="the file to filter is not to be learnt"):
        filtering.filter_file(own, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command(source, tmp_path):
    command = [sys.executable, "-m", "launch.filter", f"--workdir={tmp_path / 'out'}"]
    command += [f"--config.data={source}", "--config.filter.banned=5,13"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "| kept         | 3     |" in done.stdout
    assert len((tmp_path / "out" / "data.jsonl").read_text("utf-8").splitlines()) == 3
