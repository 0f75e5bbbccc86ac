"""The run directory: written whole or not at all, and of one config only."""

import errno
import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sublim_jax.errors import UserError
from sublim_jax.rundir import RunDir, _commit, environment

CONFIG = {"seed": 0, "network": {"width": 8, "depth": 2}, "arms": ("a", "b")}


def strict(text: str) -> Any:
    """Parses JSON proper: Python's reader alone takes NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def complaint(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_goes_on_under_the_same_config(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    first = RunDir(path, "mlp", CONFIG)
    asked = (path / "config.json").read_bytes()
    assert strict(asked.decode())["config"] == {**CONFIG, "arms": ["a", "b"]}
    first.write_json("members/0000.json", [1])
    again = RunDir(path, "mlp", CONFIG)
    assert again.config == first.config
    assert again.read_json("members/0000.json") == [1]
    assert (path / "config.json").read_bytes() == asked
    assert listing(path) == ["config.json", "members", "members/0000.json"]


def test_a_run_that_read_something_else_is_refused(tmp_path: Path) -> None:
    read = {"p.jsonl": "ab12", "model": "cd34"}
    RunDir(tmp_path, "generate", CONFIG, read)
    assert RunDir(tmp_path, "generate", CONFIG, read).config["seed"] == 0
    for other in ({**read, "model": "ef56"}, {"p.jsonl": "ab12"}, {**read, "model2": "cd34"}, None):
        said = complaint(RunDir, tmp_path, "generate", CONFIG, other)
        assert "holds a run that read something else (" in said
        assert "model" in said
        assert strict((tmp_path / "config.json").read_text())["inputs"] == read


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "(seed was 0, is 1)"),
        ({"network": {"width": 9, "depth": 2}}, "(network.width was 8, is 9)"),
        ({"arms": ("a",)}, "(arms was ['a', 'b'], is ['a'])"),
        ({"batch": 3}, "(batch was None, is 3)"),
        ({"network": 5}, "network was {"),
    ],
)
def test_another_config_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    RunDir(tmp_path, "mlp", CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    message = complaint(RunDir, tmp_path, "mlp", {**CONFIG, **change})
    assert words in message
    assert str(tmp_path) in message
    assert (tmp_path / "config.json").read_bytes() == before


def test_another_study_is_refused(tmp_path: Path) -> None:
    RunDir(tmp_path, "mlp", CONFIG)
    assert "(study was 'mlp', is 'theorem')" in complaint(RunDir, tmp_path, "theorem", CONFIG)


def test_many_differences_stay_one_short_line(tmp_path: Path) -> None:
    RunDir(tmp_path, "mlp", {f"field{i}": 0 for i in range(50)})
    message = complaint(RunDir, tmp_path, "mlp", {f"field{i}": 1 for i in range(50)})
    assert message.count(" was ") == 3


def test_a_config_with_numbers_that_are_not_finite_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        RunDir(tmp_path, "mlp", {"clip": math.inf, "rate": 1.0})


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "mlp", CONFIG)
    value = {"a": math.nan, "b": [1.5, -math.inf, (math.inf, "x")], "c": {"d": None, "e": True}}
    clean = {"a": None, "b": [1.5, None, [None, "x"]], "c": {"d": None, "e": True}}
    run.write_json("value.json", value)
    assert strict((tmp_path / "value.json").read_text()) == clean
    run.write_jsonl("rows.jsonl", [value, {"f": 2}])
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [strict(line) for line in lines] == [clean, {"f": 2}]


def fill_the_disk(path: Path, content: bytes) -> int:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_to_rename(path: Path, target: Path) -> None:
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    ("method", "failure", "words"),
    [
        ("write_bytes", fill_the_disk, "No space left"),
        ("replace", fail_to_rename, "Permission denied"),
    ],
)
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    failure: Callable[..., Any],
    words: str,
) -> None:
    run = RunDir(tmp_path, "mlp", CONFIG)
    run.write("note.txt", "old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, method, failure)
        message = complaint(run.write, "note.txt", "new and longer")
    assert words in message
    assert str(tmp_path / "note.txt") in message
    assert (tmp_path / "note.txt").read_text() == "old"
    assert listing(tmp_path) == ["config.json", "note.txt"]
    run.write("note.txt", b"new")
    assert (tmp_path / "note.txt").read_text() == "new"


def test_a_file_is_never_seen_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path, "mlp", CONFIG)
    run.write("note.txt", "old")
    seen = []
    write_bytes = Path.write_bytes

    def write_and_look(path: Path, content: bytes) -> int:
        size = write_bytes(path, content)
        seen.append((tmp_path / "note.txt").read_text())
        return size

    monkeypatch.setattr(Path, "write_bytes", write_and_look)
    run.write("note.txt", "new")
    assert seen == ["old"]
    assert (tmp_path / "note.txt").read_text() == "new"


def test_unreadable_files(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "mlp", CONFIG)
    assert run.read_json("none.json") is None
    for content in (b"", b'{"a": 1', b"\xff\xfe", b"a\nb"):
        (tmp_path / "bad.json").write_bytes(content)
        assert f"{tmp_path / 'bad.json'}: not readable" in complaint(run.read_json, "bad.json")
    (tmp_path / "folder.json").mkdir()
    assert "folder.json: not readable" in complaint(run.read_json, "folder.json")


@pytest.mark.parametrize(
    "content", ['{"study": "mlp"', "[]", "3", '{"config": 1, "inputs": {}}', "{}", '{"config": {}}']
)
def test_a_broken_config_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    message = complaint(RunDir, tmp_path, "mlp", CONFIG)
    assert str(tmp_path / "config.json") in message
    assert (tmp_path / "config.json").read_text() == content


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        assert f"--workdir={path}: cannot be created" in complaint(RunDir, path, "mlp", CONFIG)


def test_the_commit_is_that_of_the_checkout_and_of_no_folder_around_it(tmp_path: Path) -> None:
    assert _commit(tmp_path) == {"commit": None, "clean": None}
    (tmp_path / "a").write_text("1")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init"], ["add", "a"], [*author, "commit", "-m", "one"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True, capture_output=True)
    found = _commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", found["commit"])
    assert found["clean"] is True
    (tmp_path / "new").mkdir()
    assert _commit(tmp_path) == found
    assert _commit(tmp_path / "new") == {"commit": None, "clean": None}
    (tmp_path / "a").write_text("2")
    assert _commit(tmp_path) == {**found, "clean": False}


def test_results(tmp_path: Path) -> None:
    run = RunDir(tmp_path, "mlp", CONFIG)
    row = {"arm": "a", "metric": "accuracy", "mean": 0.5, "ci_low": math.nan, "n": 1}
    run.write_results([row], {"train": 1.5})
    results = strict((tmp_path / "results.json").read_text())
    assert results["rows"] == [{**row, "ci_low": None}]
    assert (results["study"], results["timings"]) == ("mlp", {"train": 1.5})
    assert results["config"] == run.config
    assert results["environment"] == strict(json.dumps(environment()))
    assert {"sublim_jax", "jax", "numpy"} <= results["environment"]["versions"].keys()
    assert results["environment"]["backend"] == "cpu"
