"""Files come whole or not at all, whatever stops the process, and nothing is left over."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from sublim_jax import disk
from sublim_jax.errors import UserError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def listing(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file()
    }


def complaint(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestWhole:
    def test_text_and_bytes_in_a_new_folder(self, tmp_path: Path) -> None:
        disk.write(tmp_path / "deep" / "a", "höö")
        disk.write(tmp_path / "deep" / "b", b"\x00")
        assert listing(tmp_path) == {"deep/a": "höö", "deep/b": "\x00"}

    @pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), SafetensorError("os error 28")])
    def test_what_stops_the_block_leaves_the_old_file(
        self, tmp_path: Path, error: BaseException
    ) -> None:
        def stopped() -> None:
            with disk.whole(tmp_path / "a") as file:
                file.write_text("new")
                raise error

        disk.write(tmp_path / "a", "old")
        with pytest.raises(
            KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
        ):
            stopped()
        assert listing(tmp_path) == {"a": "old"}

    def test_what_a_killed_process_left_goes_with_the_next_write(self, tmp_path: Path) -> None:
        with disk.whole(tmp_path / "a") as file:
            file.write_text("old")
        file.write_text("hal")  # as if another had been killed here
        disk.write(tmp_path / "a", "new")
        assert listing(tmp_path) == {"a": "new"}

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (
                errno.ENOSPC,
                "No space left on device: free some space, then run the same command again",
            ),
            (errno.EDQUOT, "Disk quota exceeded: free some space, then run the same command again"),
            (errno.EROFS, "Read-only file system: choose a folder that can be written"),
            (errno.EACCES, "Permission denied: choose a folder that can be written"),
            (errno.EIO, "Input/output error"),
        ],
    )
    def test_an_error_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
    ) -> None:
        def fail(*_: Any) -> None:
            raise OSError(number, "")

        monkeypatch.setattr(Path, "write_bytes", fail)
        said = complaint(disk.write, tmp_path / "a", "new")
        assert said == f"{tmp_path / 'a'}: cannot be written: {words}"

    def test_a_name_too_long(self, tmp_path: Path) -> None:
        said = complaint(disk.write, tmp_path / ("a" * 300), "new")
        assert said.endswith("File name too long: choose a shorter path")
        assert listing(tmp_path) == {}


def test_the_number_is_found_in_the_text_of_other_libraries() -> None:
    said = disk.why(SafetensorError("Error: I/O error: gone (os error 28)"))
    assert said == "No space left on device: free some space, then run the same command again"
    assert disk.why(ValueError("a file: [os_error_code='28']")) == said
    assert disk.is_to_blame(ValueError("[Errno 28]"))
    assert not disk.is_to_blame(FileNotFoundError(2, "No such file"))
    assert disk.why(ValueError("odd\nlines")) == "odd"
    assert disk.why(ValueError()) == "ValueError"


def test_a_pointer_of_git_lfs_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert "a: missing, truncated or damaged (x)" in str(disk.unreadable(file, ValueError("x")))
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert "a: a Git LFS pointer, not the file itself" in str(disk.unreadable(file, ValueError()))


OLD = {"config": "old", "shard-1": "old", "shard-2": "old", "other": "stays"}
NEW = {"config": "new", "shard-1": "new", "other": "stays"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in OLD.items():
        disk.write(tmp_path / name, text)
    return tmp_path


def save(folder: Path) -> None:
    with disk.together(folder, ("shard-*",)) as fresh:
        for name in ("config", "shard-1"):
            (fresh / name).write_text("new")


class TestTogether:
    def test_files_replace_those_of_before(self, folder: Path) -> None:
        save(folder)
        assert listing(folder) == NEW

    # Each way to change a folder, in turn the first, second, ... time that it is used.
    STEPS = (
        *((Path, "mkdir", n) for n in range(2)),
        *((Path, "write_text", n) for n in range(3)),
        *((Path, "replace", n) for n in range(3)),
        (Path, "unlink", 0),
        *((shutil, "rmtree", n) for n in range(3)),
    )

    @pytest.mark.parametrize("kill", [False, True], ids=["fails", "killed"])
    @pytest.mark.parametrize(("home", "method", "turn"), STEPS)
    def test_what_stops_it_at_any_step_leaves_all_of_the_old_or_the_new(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, home: Any, method: str, turn: int,
        kill: bool,
    ) -> None:  # fmt: skip
        real, calls = getattr(home, method), []

        def stopped(*args: Any, **more: Any) -> Any:
            calls.append(args)
            if len(calls) > turn and (kill or len(calls) == turn + 1):  # a killed one does no more
                raise KeyboardInterrupt if kill else FULL
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(home, method, stopped)
            with pytest.raises((UserError, KeyboardInterrupt, OSError)):
                save(folder)
        assert len(calls) > turn
        disk.finish(folder)
        found = {n: t for n, t in listing(folder).items() if not n.startswith(disk._WRITING)}
        assert found in (OLD, NEW)
        save(folder)
        assert listing(folder) == NEW

    def test_what_comes_later_is_not_stale(self, folder: Path) -> None:
        written = folder / ".written"
        written.mkdir()
        (written / ".stale").write_text("old\n")
        (folder / "old").write_text("1")
        with pytest.MonkeyPatch.context() as patched:  # it is killed before the last removal
            patched.setattr(shutil, "rmtree", lambda *_, **__: None)
            disk.finish(folder)
        assert not (folder / "old").exists()
        (folder / "old").write_text("2")
        disk.finish(folder)
        assert (folder / "old").read_text() == "2"

    def test_a_finished_folder_is_left_alone(self, folder: Path) -> None:
        disk.finish(folder)
        disk.finish(folder / "nowhere")
        assert listing(folder) == OLD

    def test_what_cannot_be_finished_is_one_line(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = folder / disk._WRITTEN
        written.mkdir()
        (written / "config").write_text("new")

        def fail(*_: Any) -> None:
            raise OSError(errno.EROFS, "")

        monkeypatch.setattr(Path, "replace", fail)
        assert "cannot be moved into place: Read-only file" in complaint(disk.finish, folder)
