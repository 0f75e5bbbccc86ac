"""Numbers of a run while it runs: `metrics.jsonl`, TensorBoard, and Weights & Biases on request.

TensorBoard's file is left out where `tensorboardX` is not installed: it holds nothing else.
"""

import contextlib
import importlib.util
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sublim_jax import disk
from sublim_jax.errors import UserError

Number = float | None


class Metrics:
    """Writes lines of numbers by step.

    Args:
      folder: of the run; `metrics.jsonl` and `tensorboard/` are in it.
      step: where the run continues; lines of that step and later ones are dropped.
      wandb: name of a Weights & Biases project to write to as well, "" for none; needs `wandb`.
      config: sent to Weights & Biases.

    Raises:
      UserError: the folder cannot be written, or `wandb` is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        step: int = 0,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
    ):
        self._path = Path(folder) / "metrics.jsonl"
        with self._written():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._wandb = _wandb_run(wandb, Path(folder), config) if wandb else None
            disk.write(self._path, b"".join(_until(self._path, step)))
            self._file = self._path.open("a", encoding="utf-8")
            board = importlib.util.find_spec("tensorboardX") is not None
            self._board = _Board(Path(folder) / "tensorboard", step) if board else None

    def write(self, step: int, values: Mapping[str, Number | Sequence[Number]]) -> None:
        """Writes the values of a step; a sequence has one value for each student, or None."""
        scalars = {
            name if at is None else f"{name}/{at}": number
            for name, value in values.items()
            for at, number in (enumerate(value) if isinstance(value, Sequence) else [(None, value)])
            if number is not None
        }
        with self._written():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            if self._board is not None:
                self._board.write(step, scalars)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        """Ends the files."""
        for file in (self._file, self._board):
            with contextlib.suppress(OSError):  # `write` has said it, and leaves nothing to flush
                if file is not None:
                    file.close()
        if self._wandb is not None:
            self._wandb.finish()

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {disk.why(error)}") from error


class _Board:
    """A TensorBoard file that is written at once: tensorboardX's own thread dies on a full disk."""

    def __init__(self, folder: Path, step: int):
        from tensorboardX.proto import event_pb2

        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._file = (folder / name).open("wb")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(file_version="brain.Event:2")
        self._append(step=step, session_log=start)  # hides what was written of it and later
        self._file.flush()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        from tensorboardX import summary

        for name, number in scalars.items():
            self._append(step=step, summary=summary.scalar(name, number))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _append(self, **fields: Any) -> None:
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import masked_crc32c

        event = event_pb2.Event(wall_time=time.time(), **fields).SerializeToString()
        for part in (struct.pack("<Q", len(event)), event):
            self._file.write(part + struct.pack("<I", masked_crc32c(part)))


def _until(path: Path, step: int) -> list[bytes]:
    """Returns the whole lines before the step."""
    kept = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            if json.loads(line.decode())["step"] < step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError):  # half a line, of a run that was killed
            continue
    return kept


def _wandb_run(project: str, folder: Path, config: Mapping[str, Any] | None) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError("wandb is not installed: pip install wandb, or leave it out") from error
    return wandb.init(project=project, dir=folder, config=dict(config or {}), resume="allow")
