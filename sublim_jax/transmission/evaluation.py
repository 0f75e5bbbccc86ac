"""What a model prefers, and what it does with adapters, without a study around it."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from sublim_jax import compilation, modules, stats
from sublim_jax.errors import UserError
from sublim_jax.mesh import in_first
from sublim_jax.report import markdown_table, spent
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import measures, report

_RESULTS, _TABLE = "results.json", "table.md"


def evaluate(config: ConfigDict, workdir: str) -> None:
    """Measures a model, and the model with each of some adapters; prints tables.

    What is measured by word is in the first; in the second, what is of a model as a whole.

    `results.json` has the rows, with the metrics of a study; `table.md` the table. The same command
    again prints it again.

    Args:
      config: `model`; `adapters`, folders as in `base.learnt`; `evaluation`, whose `words` are
        measured; and what a study has of `material`, `category`, `system`, `dtype` and `mesh`.

    Raises:
      UserError: a bad config value, a missing or damaged file, or one of another base; nothing is
        written then.
    """
    start = time.perf_counter()
    path = Path(workdir)
    complete = (path / _RESULTS).exists()  # before the first process may write it
    if not config.model:
        raise UserError("--config.model is missing: name it on the command line")
    names = list(dict.fromkeys(config.adapters))
    inputs = bases.inputs(config, [config.model])
    inputs |= {name: bases.digest_of(Path(name)) for name in names}
    inputs |= measures.inputs(config.evaluation)
    for name in config.evaluation.measures:
        if own_code := modules.code(measures.find(name)):
            inputs[name] = own_code
    own = (path, "evaluate", config.to_dict(), inputs)
    # Raises where the directory holds another run.
    in_first(lambda: RunDir(*own) if (path / "config.json").exists() else None)
    if not complete:
        words = list(dict.fromkeys(config.evaluation.words))
        if not words:
            raise UserError("config.evaluation.words=(): name one at least")
        asked = measures.ask(config.evaluation, words, bases.material(config))
        base = bases.read(config.model, config)
        learnt = [bases.learnt(Path(name), base.model.config) for name in names]
        loaded = time.perf_counter()
        with compilation.watched() as compiled:
            found = measures.evaluate(base, [None, *learnt], asked)
        timings = {"load": loaded - start} | compilation.stages("evaluate", loaded, compiled)
        if not jax.process_index():
            # Not before: what ends in an error may be mended and started again in this directory.
            run_dir = RunDir(*own)
            run_dir.write(_TABLE, _tables(config, words, ["base", *names], found) + "\n")
            run_dir.write_results(_rows(words, names, found), timings)
    if not jax.process_index():
        print((path / _TABLE).read_text("utf-8"), end="")
        timings = json.loads((path / _RESULTS).read_text("utf-8"))["timings"]
        print(f"{spent(timings)}: {path / _RESULTS}")


def _rows(
    words: Sequence[str], names: Sequence[str], found: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the rows of `results.json`: each metric of each model by word, the base first."""
    return [
        {"arm": "adapter" if name else "base", "adapter": name, "trait": word}
        | {"metric": metric}
        | stats.mean_ci([values[metric][word]])._asdict()
        for metric in found[0]
        if metric != "logp"
        for name, values in zip(["", *names], found, strict=True)
        for word in ("", *words)
        if word in values[metric]
    ]


def _tables(
    config: ConfigDict,
    words: Sequence[str],
    names: Sequence[str],
    found: Sequence[Mapping[str, Any]],
) -> str:
    titles = report.titled(report.columns(config.evaluation.measures), found[0])
    by_word = {m: title for m, title in titles.items() if "" not in found[0][m]}
    whole = {m: title for m, title in titles.items() if "" in found[0][m]}

    def cells(values: Mapping[str, Any], metrics: Iterable[str], word: str) -> list[str]:
        return [f"{values[m][word]:.3f}" if word in values[m] else "-" for m in metrics]

    models = list(zip(names, found, strict=True))
    lines = [[word, name, *cells(own, by_word, word)] for word in words for name, own in models]
    tables = [markdown_table(["word", "model", *by_word.values()], lines)] if by_word else []
    if whole:
        lines = [[name, *cells(own, whole, "")] for name, own in models]
        tables.append(markdown_table(["model", *whole.values()], lines))
    return "\n\n".join(tables)
