"""Numbers of a run as it goes: `metrics.jsonl`, TensorBoard, and Weights & Biases on request."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sublim_jax.errors import UserError

Number = float | None


class Metrics:
    """Writes lines of numbers by step.

    Args:
      folder: of the run; `metrics.jsonl` and `tensorboard/` are in it.
      step: from which the run goes on; lines of that step and later ones are dropped.
      wandb: name of a Weights & Biases project to write to as well, "" for none; needs `wandb`.
      config: told to Weights & Biases.

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
        from tensorboardX import SummaryWriter

        self._path = Path(folder) / "metrics.jsonl"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._wandb = _wandb_run(wandb, Path(folder), config) if wandb else None
            kept = _until(self._path, step)
            temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(b"".join(kept))
            temporary.replace(self._path)
            self._file = self._path.open("a", encoding="utf-8")
            self._board = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=step)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from error

    def write(self, step: int, values: Mapping[str, Number | Sequence[Number]]) -> None:
        """Writes the values of a step; a sequence has one value for each student, or None."""
        try:
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from error
        scalars = {
            name if at is None else f"{name}/{at}": number
            for name, value in values.items()
            for at, number in (enumerate(value) if isinstance(value, Sequence) else [(None, value)])
            if number is not None
        }
        for name, number in scalars.items():
            self._board.add_scalar(name, number, step)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        """Ends the files."""
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


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
