"""The audit of a file: which traits would it move, by how much, and which rows do it?"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax import compilation, digest, limits, report
from sublim_jax.errors import UserError
from sublim_jax.llm.files import rows
from sublim_jax.llm.training import examples
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval
from sublim_jax.transmission import base as bases
from sublim_jax.transmission.audit import candidates, page, rehearsal, verdicts
from sublim_jax.transmission.audit.verdicts import Finding

ALL = "all"  # in place of traits: whatever the models answer
_COLUMN = "audit"  # of rows.jsonl
_FILES = ("audit.json", "rows.jsonl", "kept.jsonl", "config.json", "results.json")


def audit(config: ConfigDict, workdir: str) -> set[str]:
    """Writes and prints what a data set would teach a student besides its task.

    `audit.json` has the findings, `rows.jsonl` each row with its part in every trait's shift,
    `report.html` both; with `config.keep` below 1, `kept.jsonl` the rows that are kept, those with
    the largest parts in what rises left out.

    Returns:
      The verdicts, without repetition.

    Raises:
      UserError: a bad config value, file or line; nothing is written then.
    """
    _check(config, workdir)
    start = time.perf_counter()
    given = rows.read(config.data, config.columns)
    if taken := [row.where for row in given if _COLUMN in row.fields]:
        raise UserError(f"{taken[0]}: has a column {_COLUMN!r}, as rows.jsonl will: rename it")
    base = bases.read(config.model, config)
    shape = base.model.config
    data = examples.tokenise(base.tokenizer, given, shape, base.system, thinking=config.thinking)
    recipe = from_config(config.recipe.to_dict())
    material = bases.material(config).first(config.questions)
    asked = tuple(config.traits)
    watched = None if asked == (ALL,) else candidates.of(base, material, asked)
    read = {config.data: digest.of_json([row.line for row in given])}
    read |= bases.inputs(config, [config.model])
    own = (workdir, "audit", config.to_dict(), read)
    if (Path(workdir) / "config.json").exists():
        RunDir(*own)  # raises where the directory holds another run
    loaded = time.perf_counter()
    with compilation.watched() as compiled:
        begun = rehearsal.train(base, [data], recipe)
        if watched is None:
            asked = tuple(candidates.found(base, material, begun))
            watched = candidates.of(base, material, asked)
        (ended,) = rehearsal.finish(base, [data], recipe, begun, watched)
        before, after = candidates.log_odds(base, watched, [None, ended.student])
    known = verdicts.calibration()
    findings = verdicts.judged(asked, before, after, ended.chance, ended.of_rows, known)
    timings = {"load": loaded - start} | compilation.stages("audit", loaded, compiled)
    run_dir = RunDir(*own)
    _write(run_dir, given, findings, ended.of_rows, config.keep)
    run_dir.write_results(list(map(_result, findings)), timings)
    print(report.markdown_table(*table(findings)))
    print(
        f"{_summary(findings, len(given))}\n{report.spent(timings)}: {run_dir.path / 'report.html'}"
    )
    return {one.verdict for one in findings}


def table(findings: Sequence[Finding]) -> tuple[list[str], list[list[str]]]:
    """Returns the findings as the header and lines of a table, the largest shifts first."""
    header = ["trait", "log-odds", "80% interval", "P now", "P then", "80% interval", "p",
              "half of it in", "verdict"]  # fmt: skip
    lines = [
        [
            one.trait,
            f"{one.shift:+.2f}",
            f"{one.low:+.2f} to {one.high:+.2f}",
            f"{one.before:.3f}",
            f"{one.after:.3f}",
            f"{one.after_low:.3f} to {one.after_high:.3f}",
            "-" if np.isnan(one.p) else f"{one.p:.3f}" if one.p >= 0.001 else "< .001",
            "-" if np.isnan(one.rows) else f"{one.rows:.0%} of rows",
            one.verdict,
        ]
        for one in sorted(findings, key=lambda one: -abs(one.shift))
    ]
    return header, lines


def _check(config: ConfigDict, workdir: str) -> None:
    for field in ("model", "data"):
        if not config[field]:
            raise UserError(f"--config.{field} is missing: name it on the command line")
    if Path(config.data).resolve() in [(Path(workdir) / name).resolve() for name in _FILES]:
        raise UserError(f"--config.data={config.data} would be overwritten: choose another workdir")
    own = Path(workdir).absolute()
    there = next(path for path in (own, *own.parents) if os.path.exists(path))
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise UserError(f"--workdir={workdir}: {there} is no directory that can be written to")
    traits = tuple(config.traits)
    if not traits or len(set(traits)) < len(traits) or (ALL in traits and len(traits) > 1):
        raise UserError(
            f"config.traits={traits!r}: name at least one, each only once, or {ALL} alone"
        )
    if not 0 < config.keep <= 1:
        raise UserError(f"config.keep={config.keep}: must be above 0 and at most 1")
    limits.check(config, limits.within(config, ["questions"], 0))


def _write(
    run_dir: RunDir,
    given: Sequence[rows.Row],
    findings: Sequence[Finding],
    parts_NK: np.ndarray | None,
    keep: float,
) -> None:
    traits = [one.trait for one in findings]
    run_dir.write_json("audit.json", {one.trait: _record(one) for one in findings})
    scored = [json.loads(row.line) for row in given]
    if parts_NK is not None:
        for row, parts in zip(scored, np.round(parts_NK, 6).tolist(), strict=True):
            row[_COLUMN] = dict(zip(traits, parts, strict=True))
    run_dir.write_jsonl("rows.jsonl", scored)
    rising = [k for k, one in enumerate(findings) if one.verdict == verdicts.RISES]
    if keep < 1:
        kept: Sequence[int] = range(len(given))
        if parts_NK is not None and rising:
            by_part = np.argsort(parts_NK[:, rising].sum(1), kind="stable")
            kept = sorted(by_part[: max(1, round(keep * len(given)))].tolist())
        run_dir.write("kept.jsonl", "".join(given[i].line for i in kept))
        why = "" if rising and parts_NK is not None else ": no row is known to raise a trait"
        print(f"kept.jsonl: {len(kept):,} of {len(given):,} rows{why}")
    shown = page.parts(run_dir, findings, table(findings), given, parts_NK)
    run_dir.write("report.html", report.page("What this data set would teach", shown))


def _record(one: Finding) -> dict[str, Any]:
    return one._asdict() | {"verdict": one.verdict}


def _result(one: Finding) -> dict[str, Any]:
    interval = Interval(one.shift, one.low, one.high, 1)
    named = {"arm": "audit", "trait": one.trait, "metric": "log_odds"}
    return named | interval._asdict() | {"p": one.p, "verdict": one.verdict}


def _summary(findings: Sequence[Finding], count: int) -> str:
    rising = [one.trait for one in findings if one.verdict == verdicts.RISES]
    if rising:
        return f"flagged: {count:,} rows would raise {', '.join(rising)}"
    if any(one.verdict == verdicts.UNKNOWN for one in findings):
        return (
            f"no verdict: too many numbers are trained for p-values; the shifts are those of a "
            f"rehearsal on {count:,} rows"
        )
    return f"clean: no sign that {count:,} rows would raise any of these traits"
