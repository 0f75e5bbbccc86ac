"""A run directory: its config, its results, and what is already done.

Every file is written whole or not at all, so a run may be killed at any moment and started again.
In a job of several processes the first one writes for all.
"""

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from sublim_jax import __version__, disk
from sublim_jax.errors import UserError


class RunDir:
    """The directory of one run of one config.

    Args:
      path: created if it is missing.
      study: name of the study, as in `results.json`.
      config: the full resolved config, JSON values only.
      inputs: a digest (`digest`) of everything the run reads, by the name that messages use.
      anew: whether a run of another config may continue here; `config.json` is then replaced.

    Raises:
      UserError: the directory holds a run of another config, or one that read something else, or
        cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        study: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        anew: bool = False,
    ):
        self.path = Path(path)
        self.study = study
        self.config = json.loads(json.dumps(finite(config)))  # as it is read back
        self.command = list(map(str, sys.argv))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--workdir={path}: cannot be created: {disk.why(error)}") from error
        read = dict(inputs or {})
        asked = {"study": study, "config": self.config, "inputs": read, "command": self.command}
        before = self.read_json("config.json")
        if before is None:
            self.write_json("config.json", asked)
            return
        if not isinstance(before, dict) or not all(
            isinstance(before.get(part), dict) for part in ("config", "inputs")
        ):
            raise UserError(f"{self.path / 'config.json'}: not the config of a run: remove it")
        if anew and before.get("study") == study:
            self.write_json("config.json", asked)
            return
        changes = _differences(
            {"study": before.get("study"), **before["config"]},
            {"study": study, **self.config},
        )
        if changes:
            raise UserError(
                f"{self.path} holds a run of another config ({'; '.join(changes[:3])}): "
                "choose another --workdir, or remove this one"
            )
        known = before["inputs"]
        if changed := [name for name in sorted(read | known) if read.get(name) != known.get(name)]:
            raise UserError(
                f"{self.path} holds a run that read something else ({', '.join(changed)}: changed "
                "since): choose another --workdir, or remove this one"
            )

    def read_json(self, name: str) -> Any:
        """Returns the content of the file `name`, or None where there is no such file."""
        file = self.path / name
        try:
            return json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not readable as JSON ({error}): remove it") from error

    def write_json(self, name: str, value: Any) -> None:
        """Writes `value` as the file `name`; numbers that are not finite become null."""
        self.write(name, json.dumps(finite(value), indent=1) + "\n")

    def write_jsonl(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes `rows` as the file `name`, one JSON object a line."""
        self.write(name, "".join(json.dumps(finite(row)) + "\n" for row in rows))

    def write(self, name: str, content: str | bytes) -> None:
        """Writes the file `name` whole or not at all."""
        if jax.process_index():
            return
        disk.write(self.path / name, content)

    def write_results(
        self, rows: Sequence[Mapping[str, Any]], timings: Mapping[str, float]
    ) -> None:
        """Writes `results.json`: rows of arm, trait, metric, mean, ci_low, ci_high, n, ..."""
        results = {
            "study": self.study,
            "config": self.config,
            "environment": environment(),
            "rows": list(rows),
            "timings": dict(timings),
        }
        self.write_json("results.json", results)


def environment() -> dict[str, Any]:
    """Returns what a figure depends on besides its config: the code, versions and devices."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        **_commit(Path(__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "device": _device(),
        "backend": jax.default_backend(),
        "devices": jax.device_count(),
        "versions": {"sublim_jax": __version__} | {p: metadata.version(p) for p in packages},
    }


def _commit(root: Path) -> dict[str, Any]:
    """Returns the commit of a checkout, and whether its tracked files are as committed."""

    def git(*asked: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *asked], capture_output=True, text=True)
        done.check_returncode()
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) == root:  # not installed within another's
            clean = not git("status", "--porcelain", "--untracked-files=no")
            return {"commit": git("rev-parse", "HEAD"), "clean": clean}
    except (OSError, subprocess.CalledProcessError):
        pass
    return {"commit": None, "clean": None}


def _device() -> str:
    kind = jax.devices()[0].device_kind
    cpus = Path("/proc/cpuinfo")
    if kind != "cpu" or not cpus.exists():
        return kind
    model = re.search(r"^model name\s*: (.+)$", cpus.read_text("utf-8"), re.MULTILINE)
    return model[1] if model else kind


def finite(value: Any) -> Any:
    """Returns JSON values with null for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    out: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            out += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            out.append(f"{prefix}{key} was {old!r}, is {new!r}")
    return out
