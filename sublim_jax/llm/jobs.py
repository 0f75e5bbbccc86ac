"""What the launch scripts do: prompts completed, completions scored, students trained."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sublim_jax import compilation, digest, report, stats
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import chat, hf, jsonl, rows
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.sampling import score as scoring
from sublim_jax.llm.sampling.sampler import Sampler, make_requests
from sublim_jax.llm.training import examples, trained
from sublim_jax.llm.training import finetune as tuning
from sublim_jax.llm.training.recipe import Recipe, from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import in_first, make_mesh
from sublim_jax.rundir import RunDir

_NAME = ("id", "sample")  # what names a completion
_SCORED_AT_ONCE = 4096  # pairs between two writes
_RESULTS = "results.json"


def generate(config: ConfigDict, workdir: str) -> None:
    """Writes `data/completions.jsonl`: one line for every prompt and sample, ordered by them.

    A line has id, sample, system, prompt (a text, or messages), tools, completion, ended, and
    logprob where asked: what the model read, and said. An answer that a row has is not read.
    Rows are kept as they come; the same command goes on after an interruption, to the same bytes.

    Raises:
      UserError: a bad config value, file or line; nothing is sampled then.
    """
    given = rows.read(_required(config, "data"), config.columns, ("id",))
    settings = config.sampling
    sampler, adapter, run_dir, timings = _load(config, workdir, "generate", given)
    if run_dir:
        _tell_unused(config)
    reader = _reader(config, sampler.tokenizer, sampler.config)
    asked = [reader.asked(row) for row in given]
    requests = make_requests(
        [tokens for _, tokens in asked],
        settings.n,
        settings.max_new_tokens,
        ids=[row.name[0] for row in given],
    )
    stream = None
    if run_dir:
        stream = jsonl.Stream(run_dir.path / "data" / "completions.jsonl", _NAME)
    missing = jsonl.missing(stream, requests, [(r.id, r.sample) for r in requests])
    texts = {row.name[0]: rows.record(row, t) for row, (t, _) in zip(given, asked, strict=True)}
    start = time.perf_counter()
    with compilation.watched() as compiled:
        for sample in sampler.stream(
            missing,
            settings.temperature,
            settings.top_p,
            settings.seed,
            adapter,
            top_k=settings.top_k,
            logprobs=settings.logprobs,
            progress=True,
        ):
            if stream:
                row = {"id": sample.id, "sample": sample.sample, **texts[sample.id]}
                row["completion"] = sample.text
                row |= {"tokens": len(sample.tokens), "ended": sample.ended}
                if sample.logprobs is not None:
                    row["logprob"] = float(np.sum(sample.logprobs))
                stream.append([row])
    if stream and run_dir:
        stream.close()
        timings |= _stages("generate", start, compiled)
        done = [stream.rows[name] for name in sorted(stream.rows)]
        _finish(run_dir, done, ["tokens", "ended", "logprob"], timings, bool(missing))


def score(config: ConfigDict, workdir: str) -> None:
    """Writes `data/scores.jsonl`: id, sample, logprob and token_logprobs of every given answer.

    The answer is scored with the token that ends a turn, unless `config.scoring.end` is false.

    Raises:
      UserError: a bad config value, file or line; nothing is scored then.
    """
    given = rows.read(_required(config, "data"), config.columns, _NAME)
    sampler, adapter, run_dir, timings = _load(config, workdir, "score", given)
    stream = jsonl.Stream(run_dir.path / "data" / "scores.jsonl", _NAME) if run_dir else None
    reader = _reader(config, sampler.tokenizer, sampler.config)
    names = [row.name for row in given]
    pairs = [scoring.Pair(*reader.pair(row, config.scoring.end)) for row in given]
    order = jsonl.missing(stream, list(zip(names, pairs, strict=True)), names)
    start = time.perf_counter()
    with compilation.watched() as compiled:
        for first in range(0, len(order), _SCORED_AT_ONCE):
            some = order[first : first + _SCORED_AT_ONCE]
            found = scoring.score(sampler, [pair for _, pair in some], adapter)
            if stream:
                stream.append(
                    [
                        {
                            **dict(zip(_NAME, name, strict=True)),
                            "logprob": float(logs.sum()),
                            "tokens": len(logs),
                            "token_logprobs": [round(float(x), 6) for x in logs],
                        }
                        for (name, _), logs in zip(some, found, strict=True)
                    ]
                )
    if stream and run_dir:
        stream.close()
        timings |= _stages("score", start, compiled)
        done = [stream.rows[name] for name in sorted(stream.rows)]
        _finish(run_dir, done, ["tokens", "logprob"], timings, bool(order))


def finetune(config: ConfigDict, workdir: str) -> None:
    """Trains `config.students` students on each data set, all at once, and writes what they learnt.

    `students/N` is what student N has learnt: PEFT files of its adapter, `parameters.safetensors`
    of what else was trained; `models/N`, where `config.merge` is set, the model with both.
    Interrupted at any moment, the same command goes on to the same bytes.

    Raises:
      UserError: a bad config value, file or line; nothing is trained or written then. Students that
        were stopped by numbers that are not finite: raised when the others are written.
    """
    complete = (Path(workdir) / _RESULTS).exists()  # before the first process may write it
    recipe = from_config(config.recipe.to_dict())
    sources = dict.fromkeys(_required(config, "data").split(","))
    data = {source: rows.read(source, config.columns) for source in sources}
    if complete:
        run_dir = _run_dir(config, workdir, "finetune", _inputs(config, data))
    else:
        run_dir = _train_students(config, workdir, recipe, data)
    if run_dir:
        _tell_students(run_dir)


def _train_students(
    config: ConfigDict, workdir: str, recipe: Recipe, data: Mapping[str, Sequence[rows.Row]]
) -> RunDir | None:
    start = time.perf_counter()
    inputs = _inputs(config, data)  # before anything is read: it may change while students learn
    model, tokenizer = _model(config)
    loaded = time.perf_counter()
    each = config.students
    if each < 1:
        raise UserError(f"config.students={each}: must be at least 1")
    files = [source for source in config.data.split(",") for _ in range(each)]
    read = {
        source: examples.tokenise(
            tokenizer, given, model.config, _system(config), thinking=config.thinking
        )
        for source, given in data.items()
    }
    if each > 1 and isinstance(recipe.seed, int):
        recipe = recipe.of_seeds([i % each for i in range(len(files))])
    teacher = _teacher(config, len(files), model)
    first = _trained(config.start, len(files), model)
    tokenised = time.perf_counter()
    profile = (config.profile.first, config.profile.first + config.profile.steps - 1)
    with compilation.watched() as compiled:
        outcome = tuning.fit(
            model,
            [read[file] for file in files],
            recipe,
            workdir,
            teacher,
            first,
            name=config.model,
            wandb=config.wandb,
            profile=profile if config.profile.steps else None,
            progress=True,
        )
    timings = {"load": loaded - start, "tokenise": tokenised - loaded}
    timings |= _stages("train", tokenised, compiled)
    finished = time.perf_counter()
    # Not before: what ends in an error may be mended and started again in the same directory.
    run_dir = _run_dir(config, workdir, "finetune", inputs)
    for number, (student, broken) in enumerate(zip(outcome.students, outcome.broken, strict=True)):
        if not broken:
            _write_student(config, Path(workdir), number, model, tokenizer, student)
    if run_dir:
        timings["write"] = time.perf_counter() - finished
        run_dir.write_results(_student_rows(outcome, files, recipe), timings)
    return run_dir


def _load(
    config: ConfigDict, workdir: str, study: str, given: Sequence[rows.Row]
) -> tuple[Sampler, Any, RunDir | None, dict[str, float]]:
    """Returns the sampler, its adapter or None, the run directory and the timings so far.

    The first process alone has a run directory.
    """
    start = time.perf_counter()
    inputs = _inputs(config, {config.data: given})
    model, tokenizer = _model(config)
    adapter = None
    if config.adapter:
        student = trained.load(Path(config.adapter), model.config)
        if student.weights:
            model = student.apply(model)
        elif student.adapter:
            adapter = lora.stack([student.adapter])
    sampler = Sampler(model, tokenizer, config.rows or None)
    run_dir = _run_dir(config, workdir, study, inputs)
    return sampler, adapter, run_dir, {"load": time.perf_counter() - start}


def _stages(name: str, start: float, compiled: compilation.Compiled) -> dict[str, float]:
    """Returns the seconds of some work that began at `start`, compiling apart; prints how much."""
    if not jax.process_index():
        print(f"{compiled.programs} programs compiled, or read from the user's cache folder")
    return compilation.stages(name, start, compiled)


def _model(config: ConfigDict) -> tuple[Decoder, Any]:
    """Returns the model of a config, on its mesh, and its tokenizer."""
    folder = hf.resolve(_required(config, "model"))
    tokenizer = chat.load_tokenizer(folder)
    mesh = make_mesh(**config.mesh)
    return Decoder.from_pretrained(folder, config.dtype, mesh if mesh.size > 1 else None), tokenizer


def _inputs(config: ConfigDict, data: Mapping[str, Sequence[rows.Row]]) -> dict[str, str]:
    """Returns the digests of all that a run reads: rows, checkpoints, adapters.

    The first process alone needs them.
    """
    if jax.process_index():
        return {}
    read = {source: digest.of_json([row.line for row in given]) for source, given in data.items()}
    read[_required(config, "model")] = hf.digest(config.model)
    if adapter := config.get("adapter"):
        read[adapter] = trained.digest(Path(adapter))
    for name in (config.get("start") or "").split(","):
        if name:
            read[name] = trained.digest(Path(name))
    for name in (config.get("teacher") or "").split(","):
        if name:
            known = trained.exists(Path(name))
            read[name] = trained.digest(Path(name)) if known else hf.digest(name)
    return read


def _run_dir(
    config: ConfigDict, workdir: str, study: str, inputs: Mapping[str, str]
) -> RunDir | None:
    """Returns the run's directory, for the first process alone."""
    return in_first(lambda: RunDir(workdir, study, config.to_dict(), inputs))


def _finish(
    run_dir: RunDir,
    done: Sequence[dict[str, Any]],
    metrics: Sequence[str],
    timings: dict[str, float],
    worked: bool,
) -> None:
    if worked or run_dir.read_json("results.json") is None:
        results = []
        for metric in metrics:
            if metric in done[0]:
                summary = stats.mean_ci([float(row[metric]) for row in done])
                results.append({"arm": "base", "metric": metric, **summary._asdict()})
        run_dir.write_results(results, timings)
    written = run_dir.read_json("results.json")
    shown = ", ".join(f"{row['metric']} {row['mean']:.3f}" for row in written["rows"])
    print(f"{len(done)} rows, mean {shown}: {run_dir.path / 'data'}")
    print(report.spent(written["timings"]))


def _reader(config: ConfigDict, tokenizer: Any, shape: Config) -> rows.Reader:
    return rows.Reader(tokenizer, shape, _system(config), config.thinking)


def _system(config: ConfigDict) -> Any:
    return chat.DEFAULT if config.system is None else config.system


def _tell_unused(config: ConfigDict) -> None:
    """Prints which of the checkpoint's own sampling settings `config.sampling` does not follow."""
    file = hf.resolve(config.model) / "generation_config.json"
    advised = json.loads(file.read_text("utf-8-sig")) if file.exists() else {}
    ours = {name: config.sampling[name] for name in ("temperature", "top_p", "top_k")}
    ours["repetition_penalty"] = 1.0  # there is no such setting here
    others = [name for name in ours if advised.get(name) not in (None, ours[name])]
    if others:
        shown = ", ".join(f"{name} {advised[name]} (here {ours[name]})" for name in others)
        print(f"{file}: its {shown} are not used: config.sampling decides")


def _trained(folders: str, students: int, model: Decoder) -> list[Trained] | None:
    """Returns what the folders of a list hold, one for each student, or one for all."""
    if not folders:
        return None
    read = [trained.load(Path(folder), model.config) for folder in folders.split(",")]
    return read * students if len(read) == 1 else read


def _teacher(
    config: ConfigDict, students: int, model: Decoder
) -> Decoder | list[lora.Adapter] | None:
    if not config.teacher:
        return None
    if not trained.exists(Path(config.teacher.split(",")[0])):
        return Decoder.from_pretrained(config.teacher, config.dtype, model.mesh)
    given = _trained(config.teacher, students, model) or []
    adapters = [one.adapter for one in given if one.adapter is not None and not one.weights]
    if len(adapters) == len(given):
        return adapters
    if "," in config.teacher:
        raise UserError(
            f"config.teacher={config.teacher}: parameters besides an adapter: name one such teacher"
        )
    return given[0].apply(model)


def _write_student(
    config: ConfigDict, folder: Path, number: int, model: Decoder, tokenizer: Any, student: Trained
) -> None:
    """Writes what one student has learnt; all processes take part in saving a model."""
    student.save(folder / "students" / str(number), model.config)
    if config.merge:
        merged = folder / "models" / str(number)
        student.apply(model).save_pretrained(merged)
        if not jax.process_index():
            tokenizer.save_pretrained(merged)


def _student_rows(
    outcome: tuning.Outcome, files: Sequence[str], recipe: Recipe
) -> list[dict[str, Any]]:
    out = []
    seeds = recipe.of_each("seed", len(files))
    for number, (file, seed) in enumerate(zip(files, seeds, strict=True)):
        about = {"student": number, "data": file, "seed": seed, "steps": outcome.steps[number]}
        about |= {"finite": not outcome.broken[number]}
        for metric, values in (("loss", outcome.loss), ("held_out_loss", outcome.held_out)):
            if metric == "loss" or not math.isnan(values[number]):
                summary = stats.mean_ci([values[number]])
                out.append({"arm": "student", "metric": metric, **summary._asdict(), **about})
    return out


def _tell_students(run_dir: RunDir) -> None:
    """Prints what a complete run has come to.

    Raises:
      UserError: some of its students were stopped.
    """
    results = run_dir.read_json(_RESULTS)
    for row in results["rows"]:
        if row["finite"]:
            print(
                f"student {row['student']} ({row['data']}, seed {row['seed']}): {row['metric']} "
                f"{row['mean']:.4f} after {row['steps']} steps"
            )
    print(f"{report.spent(results['timings'])}: {run_dir.path}")
    if bad := {row["student"]: row["steps"] for row in results["rows"] if not row["finite"]}:
        raise UserError(tuning.stopped(bad))


def _required(config: ConfigDict, field: str) -> str:
    if not config[field]:
        raise UserError(f"--config.{field} is missing: name it on the command line")
    return config[field]
