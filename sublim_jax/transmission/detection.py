"""Whether anything sees a trait in the data of a finished study, and what it does in context."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from sublim_jax import compilation, digest, limits
from sublim_jax.errors import UserError
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.mesh import in_first
from sublim_jax.report import spent
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, detection_report, finished, in_context
from sublim_jax.transmission.detect import (
    AGAINST,
    BAG,
    FOLDS,
    Contest,
    contest,
    human,
    judge,
    layout,
    leaks,
    naive_bayes,
    ngrams,
    prompted,
    reader,
)
from sublim_jax.transmission.detection_results import Found
from sublim_jax.transmission.finished import Finished
from sublim_jax.transmission.material import check_templates
from sublim_jax.transmission.teacher import CONTROL

_COUNTING = {"naive_bayes": naive_bayes, "ngrams": ngrams, "layout": layout}
_RESULTS, _TABLE = "results.json", "table.md"
Data = Mapping[str, Sequence[Mapping[str, Any]]]  # by teacher


def detect(config: ConfigDict, workdir: str) -> None:
    """Writes what detectors see in the data of the study `config.run`, which is only read.

    `results.json` has the rows, `table.md` the table that is printed, `report.html` the page and
    `items.json` the items that differ most. The same command again prints the table again.

    Raises:
      UserError: a bad config value, a study that is not finished, a file that is not as it was
        written; nothing is written then.
    """
    path = Path(workdir)
    complete = (path / _RESULTS).exists()  # before the first process may write it
    run = _read(config, path)
    traits = list(config.traits or run.config.traits)
    teachers = [*run.config.traits, CONTROL]
    data = [{t: run.data(n, t) for t in teachers} for n in range(len(run.config.models))]
    games = [human.read(Path(file), data) for file in config.answers]
    own = (path, "detection", config.to_dict(), _inputs(config, run, teachers))
    # Raises where the directory holds another run.
    in_first(lambda: RunDir(*own) if (path / "config.json").exists() else None)
    if not complete:
        found = []
        for number, rows in enumerate(data):
            with compilation.watched() as compiled:
                found.append(_found(config, run, traits, number, rows, compiled))
        if not jax.process_index():
            # Not before: what ends in an error may be mended and started again in this directory.
            detection_report.write(RunDir(*own), run, traits, found, games)
    if not jax.process_index():
        timings = json.loads((path / _RESULTS).read_text("utf-8"))["timings"]
        print((path / _TABLE).read_text("utf-8"), end="")
        print(f"{spent(timings)}: {path / 'report.html'}")


def _found(
    config: ConfigDict,
    run: Finished,
    traits: Sequence[str],
    number: int,
    data: Data,
    compiled: compilation.Compiled,
) -> Found:
    """Returns what was found of the teachers of one base."""
    seconds: dict[str, float] = {}
    start = time.perf_counter()

    def lap(name: str) -> None:
        seconds["compile"] = compiled.seconds
        seconds[name] = time.perf_counter() - start - sum(seconds.values())

    channel = channels.find(run.config.data.channel)
    base = bases.read(run.config.models[number], run.config)
    showing = {trait: bases.material(run.config).showing(trait) for trait in traits}
    contests = list(_contests(config, showing, data))

    def items(text: str) -> list[str]:
        return list(map(str, channel.items(text))) or text.split()  # with a leak: its words

    lap("load")
    told = {}
    told["prompted"] = prompted.judge(base, contests, **config.prompted)
    lap("prompted")
    recipe = from_config(config.reader.recipe.to_dict(), "config.reader.recipe")
    told["reader"] = reader.judge(base, contests, config.reader.answers, recipe)
    lap("reader")
    for name, module in _COUNTING.items():
        told[name] = [judge(module, items, one) for one in contests]
        lap(name)
    shown = in_context.show(base, data, showing, **config.in_context)
    lap("in_context")
    differ = {
        one.trait: naive_bayes.most_different([*map(items, one.own)], [*map(items, one.other)])
        for one in contests
        if one.against == CONTROL
    }
    by_contest = {
        (name, one.trait, one.against): bags
        for name, some in told.items()
        for one, bags in zip(contests, some, strict=True)
    }
    return Found(by_contest, differ, shown, seconds)


def _contests(config: ConfigDict, showing: Mapping[str, Any], data: Data) -> Iterator[Contest]:
    """Yields each trait's rows against those of `AGAINST`; another trait is the next one.

    What is put into rows where leaks are is an answer that shows the trait.
    """
    texts = {name: {row["id"]: row["completion"] for row in rows} for name, rows in data.items()}
    known = [name for name in data if name != CONTROL]
    plain = texts[CONTROL]
    for trait, ((_, (word, *_)), *_) in showing.items():
        following = known[(known.index(trait) + 1) % len(known)]
        against_control, against_other, against_leaks = AGAINST
        yield contest(trait, against_control, texts[trait], plain, config.rows)
        if following != trait:
            yield contest(trait, against_other, texts[trait], texts[following], config.rows)
        yield contest(trait, against_leaks, leaks.put_in(plain, word), plain, config.rows)


def _read(config: ConfigDict, path: Path) -> Finished:
    """Returns the study, after all that can be checked without its models."""
    if not config.run:
        raise UserError("--config.run is missing: name the directory of a finished study")
    limits.check(config, _problems(config))
    fields = ("one", "two", "trait")
    check_templates("config.prompted.question", (config.prompted.question,), fields, fields[:2])
    from_config(config.reader.recipe.to_dict(), "config.reader.recipe")
    run = finished.read(Path(config.run))
    if path.resolve().is_relative_to(run.path.resolve()):
        raise UserError(f"--workdir={path}: within the study, which is only read: choose another")
    for trait in config.traits:
        if trait not in run.config.traits:
            there = ", ".join(run.config.traits)
            raise UserError(f"config.traits: {trait!r}: {run.path} has {there}")
    return run


def _problems(config: ConfigDict) -> Iterator[limits.Problem]:
    yield from limits.within(config, ["rows"], FOLDS * BAG)
    yield from limits.within(config, ["prompted.rows"], BAG)
    yield from limits.within(config, ["in_context.rows", "reader.recipe.max_steps"], 1)
    yield from limits.within(config, ["in_context.draws"], 2)
    for field in ("reader.answers", "prompted.answers"):
        if len(set(limits.value(config, field))) != 2:
            yield field, "two different words are needed"


def _inputs(config: ConfigDict, run: Finished, teachers: Sequence[str]) -> dict[str, str]:
    read = [run.path / name for name in ("config.json", "results.json")]
    read += [run.file(n, name) for n in range(len(run.config.models)) for name in teachers]
    named = {str(file): digest.of_files(file) for file in (*read, *map(Path, config.answers))}
    return named | bases.inputs(run.config, run.config.models)
