"""What the launch scripts do: prompts completed, completions scored, students trained."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sublim_jax import stats
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import chat, hf, jsonl
from sublim_jax.llm.model import lora
from sublim_jax.llm.sampling.sampler import Sampler, make_requests
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.llm.training import examples, trained
from sublim_jax.llm.training import finetune as tuning
from sublim_jax.llm.training.recipe import Recipe, from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import make_mesh
from sublim_jax.rundir import RunDir

_PROMPT = ("prompt", "messages")
_NAME = ("id", "sample")  # what names a completion
_SCORED_AT_ONCE = 4096  # pairs between two writes
_RESULTS = "results.json"


def generate(config: ConfigDict, workdir: str) -> None:
    """Writes `data/completions.jsonl`: one line for every prompt and sample, ordered by them.

    A line has id, sample, prompt (or messages), system, completion, ended, and logprob where asked.
    Rows are kept as they come; the same command goes on after an interruption, to the same bytes.

    Raises:
      UserError: a bad config value, file or line; nothing is sampled then.
    """
    rows = jsonl.read(_required(config, "data"), [_PROMPT])
    settings = config.sampling
    sampler, adapter, run_dir, timings = _load(config, workdir, "generate")
    turns = [_messages(sampler.tokenizer, row, config) for row in rows]
    prompts = [chat.prompt_tokens(sampler.tokenizer, t) for t in turns]
    requests = make_requests(
        prompts, settings.n, settings.max_new_tokens, ids=[row["id"] for row in rows]
    )
    stream = None
    if run_dir:
        stream = jsonl.Stream(run_dir.path / "data" / "completions.jsonl", _NAME)
    missing = jsonl.missing(stream, requests, [(r.id, r.sample) for r in requests])
    texts = {row["id"]: _prompt_fields(row, t) for row, t in zip(rows, turns, strict=True)}
    start = time.perf_counter()
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
            row |= {"completion": sample.text, "tokens": len(sample.tokens), "ended": sample.ended}
            if sample.logprobs is not None:
                row["logprob"] = float(np.sum(sample.logprobs))
            stream.append([row])
    if stream and run_dir:
        stream.close()
        timings["generate"] = time.perf_counter() - start
        done = [stream.rows[name] for name in sorted(stream.rows)]
        _finish(run_dir, done, ["tokens", "ended", "logprob"], timings, bool(missing))


def score_file(config: ConfigDict, workdir: str) -> None:
    """Writes `data/scores.jsonl`: id, sample, logprob and token_logprobs of every given completion.

    The input's lines have a completion beside their prompt or messages. The completion is scored
    with the token that ends a turn, unless `config.scoring.end` is false.

    Raises:
      UserError: a bad config value, file or line; nothing is scored then.
    """
    rows = jsonl.read(_required(config, "data"), [_PROMPT, ("completion",)], _NAME)
    sampler, adapter, run_dir, timings = _load(config, workdir, "score")
    stream = jsonl.Stream(run_dir.path / "data" / "scores.jsonl", _NAME) if run_dir else None
    names = [tuple(row[key] for key in _NAME) for row in rows]
    pairs = [_pair(sampler.tokenizer, row, config) for row in rows]
    order = jsonl.missing(stream, list(zip(names, pairs, strict=True)), names)
    start = time.perf_counter()
    for first in range(0, len(order), _SCORED_AT_ONCE):
        some = order[first : first + _SCORED_AT_ONCE]
        found = score(sampler, [pair for _, pair in some], adapter)
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
        timings["score"] = time.perf_counter() - start
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
    if not complete:
        _train_students(config, workdir, from_config(config.recipe.to_dict()))
    if not jax.process_index():
        _tell_students(RunDir(workdir, "finetune", config.to_dict()))


def _train_students(config: ConfigDict, workdir: str, recipe: Recipe) -> None:
    start = time.perf_counter()
    model, tokenizer = _model(config)
    loaded = time.perf_counter()
    each = config.students
    if each < 1:
        raise UserError(f"config.students={each}: must be at least 1")
    files = [file for file in _required(config, "data").split(",") for _ in range(each)]
    read = {file: _examples(config, file, tokenizer, model) for file in dict.fromkeys(files)}
    if each > 1 and isinstance(recipe.seed, int):
        recipe = recipe.of_seeds([i % each for i in range(len(files))])
    teacher = _teacher(config, len(files), model)
    first = _trained(config.start, len(files), model)
    tokenised = time.perf_counter()
    profile = (config.profile.first, config.profile.first + config.profile.steps - 1)
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
    finished = time.perf_counter()
    # Not before: what ends in an error may be mended and started again in the same directory.
    run_dir = None if jax.process_index() else RunDir(workdir, "finetune", config.to_dict())
    for number, (student, broken) in enumerate(zip(outcome.students, outcome.broken, strict=True)):
        if not broken:
            _write_student(config, Path(workdir), number, model, tokenizer, student)
    if run_dir:
        timings = {"load": loaded - start, "tokenise": tokenised - loaded}
        timings |= {"train": finished - tokenised, "write": time.perf_counter() - finished}
        run_dir.write_results(_student_rows(outcome, files, recipe), timings)


def _load(
    config: ConfigDict, workdir: str, study: str
) -> tuple[Sampler, Any, RunDir | None, dict[str, float]]:
    """Returns the sampler, its adapter or None, the run directory and the timings so far.

    The first process alone has a run directory.
    """
    start = time.perf_counter()
    model, tokenizer = _model(config)
    adapter = None
    if config.adapter:
        student = trained.load(Path(config.adapter), model.config)
        if student.weights:
            model = student.apply(model)
        elif student.adapter:
            adapter = lora.stack([student.adapter])
    sampler = Sampler(model, tokenizer, config.rows or None)
    run_dir = None if jax.process_index() else RunDir(workdir, study, config.to_dict())
    return sampler, adapter, run_dir, {"load": time.perf_counter() - start}


def _model(config: ConfigDict) -> tuple[Decoder, Any]:
    """Returns the model of a config, on its mesh, and its tokenizer."""
    folder = hf.resolve(_required(config, "model"))
    tokenizer = chat.load_tokenizer(folder)
    mesh = make_mesh(**config.mesh)
    return Decoder.from_pretrained(folder, config.dtype, mesh if mesh.size > 1 else None), tokenizer


def _finish(
    run_dir: RunDir,
    rows: Sequence[dict[str, Any]],
    metrics: Sequence[str],
    timings: dict[str, float],
    worked: bool,
) -> None:
    if worked or run_dir.read_json("results.json") is None:
        results = []
        for metric in metrics:
            if metric in rows[0]:
                summary = stats.mean_ci([float(row[metric]) for row in rows])
                results.append({"arm": "base", "metric": metric, **summary._asdict()})
        run_dir.write_results(results, timings)
    written = run_dir.read_json("results.json")
    shown = ", ".join(f"{row['metric']} {row['mean']:.3f}" for row in written["rows"])
    seconds = written["timings"]
    print(f"{len(rows)} rows, mean {shown}; {sum(seconds.values()):.0f} s: {run_dir.path / 'data'}")


def _examples(config: ConfigDict, source: str, tokenizer: Any, model: Decoder) -> examples.Examples:
    rows: Iterable[Mapping[str, Any]]
    if source.startswith("hf:"):
        import datasets

        try:
            rows = datasets.load_dataset(source.removeprefix("hf:"), split="train")
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"config.data={source}: {reason}") from error
    else:
        rows = jsonl.read(source, examples.FIELDS, keys=())
    system = chat.DEFAULT if config.system is None else config.system
    return examples.tokenise(tokenizer, rows, model.config, system, f"{source}: row")


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
    rows = []
    seeds = recipe.of_each("seed", len(files))
    for number, (file, seed) in enumerate(zip(files, seeds, strict=True)):
        about = {"student": number, "data": file, "seed": seed, "steps": outcome.steps[number]}
        about |= {"finite": not outcome.broken[number]}
        for metric, values in (("loss", outcome.loss), ("held_out_loss", outcome.held_out)):
            if metric == "loss" or not math.isnan(values[number]):
                summary = stats.mean_ci([values[number]])
                rows.append({"arm": "student", "metric": metric, **summary._asdict(), **about})
    return rows


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
    print(f"{sum(results['timings'].values()):.0f} s: {run_dir.path}")
    if bad := {row["student"]: row["steps"] for row in results["rows"] if not row["finite"]}:
        raise UserError(tuning.stopped(bad))


def _required(config: ConfigDict, field: str) -> str:
    if not config[field]:
        raise UserError(f"--config.{field} is missing: name it on the command line")
    return config[field]


def _messages(tokenizer: Any, row: dict[str, Any], config: ConfigDict) -> list[dict[str, str]]:
    given = row["messages"] if "messages" in row else row["prompt"]
    system = chat.DEFAULT if config.system is None else config.system
    try:
        return chat.messages(tokenizer, given, system)
    except UserError as error:
        raise UserError(f"{config.data}, id {row['id']}: {error}") from error


def _prompt_fields(row: dict[str, Any], turns: list[dict[str, str]]) -> dict[str, Any]:
    if "messages" in row:
        return {"messages": turns}
    system = turns[0]["content"] if turns[0]["role"] == "system" else None
    return {"system": system, "prompt": row["prompt"]}


def _pair(tokenizer: Any, row: dict[str, Any], config: ConfigDict) -> Pair:
    if not isinstance(row["completion"], str):
        raise UserError(f"{config.data}, id {row['id']}: the completion is not a text")
    prompt = chat.prompt_tokens(tokenizer, _messages(tokenizer, row, config))
    completion = chat.completion_tokens(tokenizer, row["completion"], config.scoring.end)
    return Pair(tuple(prompt), tuple(completion))
