"""Files written whole or not at all, and in plain words why one cannot be written or read.

A file is written beside its final name and renamed; files that belong together are written in a
folder of their own, which takes one rename as well. A process may be killed at any moment.
"""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sublim_jax.errors import UserError

_WRITING, _WRITTEN = ".writing", ".written"
_STALE = ".stale"  # in a folder that is written: names that go when its files come
_FULL = "free some space, then run the same command again"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
    errno.EPERM: "choose a folder that can be written",
    errno.ENAMETOOLONG: "choose a shorter path",
}
# Libraries in C++ and Rust tell the number in their text alone: "(os error 28)",
# "[os_error_code='28']", "[Errno 28]".
_NUMBER = re.compile(r"(?:os.error|os_error_code|errno)[ ='(]+(\d+)", re.IGNORECASE)
_LFS = b"version https://git-lfs"


def why(error: BaseException) -> str:
    """Returns in one line what an error of the file system is, and what to do about it."""
    number = _number(error)
    if number is None:
        return (str(error).splitlines() or [type(error).__name__])[0]
    remedy = _REMEDIES.get(number)
    return f"{os.strerror(number)}: {remedy}" if remedy else os.strerror(number)


def is_to_blame(error: BaseException) -> bool:
    """Returns whether the file system is what an error comes from: full, read-only and the like."""
    return _number(error) in _REMEDIES


def _number(error: BaseException) -> int | None:
    number = getattr(error, "errno", None)
    found = _NUMBER.search(str(error))
    return int(found[1]) if number is None and found else number


def unreadable(file: Path, problem: BaseException | str) -> UserError:
    """Returns the error of a file that cannot be read.

    Args:
      problem: what reading it raised, or what to say.
    """
    if not isinstance(problem, str):
        problem = f"missing, truncated or damaged ({why(problem)})"
    return UserError(f"{file}: {cause(file, problem)}")


def cause(file: Path, problem: str) -> str:
    """Returns the problem with a file, or that it is what a clone without Git LFS has of it."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        if opened.read(len(_LFS)) == _LFS:
            return "a Git LFS pointer, not the file itself: run git lfs pull there"
    return problem


def read_object(file: Path, absent: str) -> dict[str, Any]:
    """Returns the JSON object of a file that other programs write; a byte-order mark may be there.

    Args:
      absent: what to do where there is no such file, for the message.

    Raises:
      UserError: no such file, or none that holds a JSON object.
    """
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing: {absent}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(file, f"not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: not a JSON object")
    return content


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a file to write, which becomes `path` when the block ends well.

    Raises:
      UserError: it cannot be written; the file of before is still there, and nothing else.
    """
    file = Path(path)
    temporary = file.with_name(f".{file.name}.tmp")  # one name: the next writer replaces a leftover
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be written: {why(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file whole; text as UTF-8.

    Raises:
      UserError: as `whole`.
    """
    with whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def together(path: str | os.PathLike[str], replaces: Sequence[str]) -> Iterator[Path]:
    """Yields an empty folder; its files come into the folder `path` when the block ends well.

    All of them or none come. After a kill, the next `finish` does the rest; every reader of such
    files calls it first. Other files in the folder stay.

    Args:
      replaces: patterns of names; files that match and are not written again are removed.

    Raises:
      UserError: it cannot be written; the files of before are still there, or all the new ones.
    """
    folder = Path(path)
    temporary = folder / _WRITING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        finish(folder)
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        temporary.mkdir()
        yield temporary
        before = {file.name for pattern in replaces for file in folder.glob(pattern)}
        stale = before - {file.name for file in temporary.iterdir()}
        (temporary / _STALE).write_text("".join(f"{name}\n" for name in sorted(stale)), "utf-8")
        temporary.replace(folder / _WRITTEN)
        finish(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be written: {why(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def finish(path: str | os.PathLike[str]) -> None:
    """Brings files to their places that `together` had written when its process was killed.

    Raises:
      UserError: the folder cannot be written.
    """
    folder, written = Path(path), Path(path) / _WRITTEN
    if not written.is_dir():
        return
    try:
        for file in sorted(written.iterdir()):  # the list of what goes is the first
            with contextlib.suppress(FileNotFoundError):  # another process does the same
                if file.name != _STALE:
                    file.replace(folder / file.name)
                    continue
                for name in file.read_text("utf-8").splitlines():
                    (folder / name).unlink(missing_ok=True)
                file.unlink()  # a file of such a name that comes later is not stale
        shutil.rmtree(written, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{folder}: a process was killed while it wrote here, and its files in {_WRITTEN} "
            f"cannot be moved into place: {why(error)}"
        ) from error
