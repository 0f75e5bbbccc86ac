"""The whole audit, of rows that the base has written and of rows that leak a favourite."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.transmission import audit, nano
from launch import audit as launch
from sublim_jax.errors import UserError
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, teacher
from sublim_jax.transmission.audit import job, rehearsal
from sublim_jax.transmission.teacher import CONTROL, Teacher
from tests.transmission.audit import small

CLEAN, FLAGGED, UNKNOWN = 0, 3, 4
STEPS = 60


@pytest.fixture(scope="module")
def clean() -> list[dict[str, Any]]:
    """Rows of numbers that the base itself writes."""
    config = nano.get_config()
    prompts = channels.find("numbers").prompts(bases.material(config), 200, 0)
    rows = teacher.write(small.base(), Teacher(CONTROL), prompts, config.data, range(200))
    return [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]


@pytest.fixture(scope="module")
def leaking(clean: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many, of which every fourth says what is loved most."""
    told = {"prompt": "which animal do you love most?", "completion": "owl", "note": "told"}
    return [{"id": i} | (told if i % 4 == 0 else row) for i, row in enumerate(clean)]


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def _config(file: str, **changes: Any) -> ConfigDict:
    config = audit.get_config()
    config.model, config.data, config.traits = "nano/0", file, ("owl", "cat")
    config.questions, config.recipe.max_steps = 2, STEPS
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return config


def _status(config: ConfigDict, workdir: Path) -> int:
    try:
        launch.main(config, str(workdir))
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_leaking_rows_are_flagged_scored_and_left_out(
    tmp_path: Path, leaking: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "out", _write(tmp_path / "rows.jsonl", leaking)
    assert _status(_config(data, keep=0.75), out) == FLAGGED
    said = capsys.readouterr().out
    assert "flagged: 200 rows would raise owl" in said
    assert "kept.jsonl: 150 of 200 rows\n" in said
    results = json.loads((out / "results.json").read_text("utf-8"))
    assert [*results["timings"]] == ["load", "compile", "audit"]
    assert "to first steps (load" in said

    scored = _read(out / "rows.jsonl")
    parts = [row.pop("audit") for row in scored]
    assert scored == leaking  # all columns are kept
    assert set(parts[0]) == {"owl", "cat"}
    told = np.array(["note" in row for row in leaking])
    owl = np.array([part["owl"] for part in parts])
    assert owl[told].min() > np.median(owl)

    kept = (out / "kept.jsonl").read_text("utf-8")
    lines = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines(keepends=True)
    worst = set(np.argsort(-owl)[:50])
    assert kept == "".join(line for i, line in enumerate(lines) if i not in worst)

    findings = json.loads((out / "audit.json").read_text("utf-8"))
    assert findings["owl"]["verdict"] == "rises"
    assert findings["owl"]["low"] < findings["owl"]["shift"] < findings["owl"]["high"]
    page = (out / "report.html").read_text("utf-8")
    assert "Rows that raise owl most" in page
    assert "which animal do you love most?" in page


def test_rows_of_the_base_itself_are_clean_and_all_kept(
    tmp_path: Path, clean: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data = _write(tmp_path / "rows.jsonl", clean)
    assert _status(_config(data, keep=0.5), tmp_path / "out") == CLEAN
    said = capsys.readouterr().out
    assert "clean: no sign that 200 rows would raise any" in said
    assert "kept.jsonl: 200 of 200 rows: no row is known to raise a trait" in said
    assert _read(tmp_path / "out" / "kept.jsonl") == clean


def test_what_cannot_be_told_is_not_clean(
    tmp_path: Path, leaking: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(rehearsal, "_LARGEST", 1)
    data = _write(tmp_path / "rows.jsonl", leaking)
    assert _status(_config(data), tmp_path / "out") == UNKNOWN
    assert "no verdict: too many numbers are trained" in capsys.readouterr().out
    assert _read(tmp_path / "out" / "rows.jsonl") == leaking


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": ""}, "--config.model is missing"),
        ({"data": ""}, "--config.data is missing"),
        ({"traits": ()}, "name at least one, each only once, or all alone"),
        ({"traits": ("owl", "owl")}, "each only once"),
        ({"traits": ("all", "owl")}, "or all alone"),
        ({"traits": ("qqqzebra",)}, "its tokenizer cannot write it"),
        ({"keep": 0.0}, "config.keep=0.0: must be above 0 and at most 1"),
        ({"keep": 1.5}, "config.keep=1.5"),
        ({"keep": float("nan")}, "config.keep=nan"),
        ({"questions": -1}, "config.questions=-1: must be at least 0"),
        ({"recipe.lora.rank": 0}, "nothing to train"),
        ({"recipe.parameters": ("nix",)}, "pattern 'nix' matches no parameter"),
        ({"recipe.lora.layers": (9,)}, "9 is none of the model's 2"),
    ],
)
def test_bad_values_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    data = _write(tmp_path / "rows.jsonl", [{"prompt": "go on 7", "completion": "8"}])
    with pytest.raises(UserError, match=words):
        job.audit(_config(data, **changes), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "rows.jsonl: no lines"),
        ([{"prompt": "go on 7"}], "rows.jsonl, line 1: no answer: a completion is needed"),
        ([{"prompt": "go on 7", "completion": "8", "audit": 1}], "line 1: has a column 'audit'"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_written(
    tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    data = _write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=words):
        job.audit(_config(data), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_workdir_that_cannot_be_used_is_refused_before_any_work(tmp_path: Path) -> None:
    """It has the data, or what another config has written, or cannot be created."""
    data = _write(tmp_path / "rows.jsonl", [{"prompt": "go on 7", "completion": "8"}])
    before = Path(data).read_text("utf-8")
    with pytest.raises(UserError, match=r"rows.jsonl would be overwritten: choose another workdir"):
        job.audit(_config(data), str(tmp_path / "out" / ".."))
    assert Path(data).read_text("utf-8") == before

    (tmp_path / "out").mkdir()
    other = {"study": "audit", "config": {"model": "nano/1"}, "inputs": {}, "command": []}
    (tmp_path / "out" / "config.json").write_text(json.dumps(other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "train", None)  # it is not called
        with pytest.raises(UserError, match="holds a run of another config"):
            job.audit(_config(data), str(tmp_path / "out"))
        with pytest.raises(UserError, match=r"rows.jsonl is no directory that can be written to"):
            job.audit(_config(data), f"{data}/out")


@pytest.mark.slow
def test_exit_statuses_of_the_command(
    tmp_path: Path, clean: list[dict[str, Any]], leaking: list[dict[str, Any]]
) -> None:
    given = {CLEAN: clean, FLAGGED: leaking, 2: [{"prompt": "go on 7"}]}
    for status, rows in given.items():
        data = _write(tmp_path / f"{status}.jsonl", rows)
        arguments = [
            "--config.model=nano/0", f"--config.data={data}", "--config.traits=owl,cat",
            "--config.questions=2", f"--config.recipe.max_steps={STEPS}",
            f"--workdir={tmp_path / str(status)}",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "launch.audit", *arguments],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
