"""What the launch scripts do: a file of prompts completed, a file of completions scored."""

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from sublim_jax import stats
from sublim_jax.errors import UserError
from sublim_jax.llm import chat, hf, records
from sublim_jax.llm.qwen2 import Qwen2
from sublim_jax.llm.sampler import Sampler, make_requests
from sublim_jax.llm.score import Pair, score
from sublim_jax.mesh import make_mesh
from sublim_jax.rundir import RunDir

_PROMPT = ("prompt", "messages")
_NAME = ("id", "sample")  # what names a completion
_SCORED_AT_ONCE = 4096  # pairs between two writes

_Item = TypeVar("_Item")


def generate(config: ConfigDict, workdir: str) -> None:
    """Writes `data/completions.jsonl`: one line for every prompt and sample, ordered by them.

    A line has id, sample, prompt (or messages), system, completion, ended, and logprob where asked.
    Rows are kept as they come; the same command goes on after an interruption, to the same bytes.

    Raises:
      UserError: a bad config value, file or line; nothing is sampled then.
    """
    rows = records.read(_required(config, "data"), [_PROMPT])
    settings = config.sampling
    sampler, run_dir, timings = _load(config, workdir, "generate")
    turns = [_messages(sampler.tokenizer, row, config) for row in rows]
    prompts = [chat.prompt_tokens(sampler.tokenizer, t) for t in turns]
    requests = make_requests(
        prompts, settings.n, settings.max_new_tokens, ids=[row["id"] for row in rows]
    )
    stream = None
    if run_dir:
        stream = records.Stream(run_dir.path / "data" / "completions.jsonl", _NAME)
    missing = _missing(stream, requests, [(r.id, r.sample) for r in requests])
    texts = {row["id"]: _prompt_fields(row, t) for row, t in zip(rows, turns, strict=True)}
    start = time.perf_counter()
    for sample in sampler.stream(
        missing,
        settings.temperature,
        settings.top_p,
        settings.seed,
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
    rows = records.read(_required(config, "data"), [_PROMPT, ("completion",)], _NAME)
    sampler, run_dir, timings = _load(config, workdir, "score")
    stream = records.Stream(run_dir.path / "data" / "scores.jsonl", _NAME) if run_dir else None
    names = [tuple(row[key] for key in _NAME) for row in rows]
    pairs = [_pair(sampler.tokenizer, row, config) for row in rows]
    order = _missing(stream, list(zip(names, pairs, strict=True)), names)
    start = time.perf_counter()
    for first in range(0, len(order), _SCORED_AT_ONCE):
        some = order[first : first + _SCORED_AT_ONCE]
        found = score(sampler, [pair for _, pair in some])
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


def _load(
    config: ConfigDict, workdir: str, study: str
) -> tuple[Sampler, RunDir | None, dict[str, float]]:
    """Returns the sampler, the run directory (the first process's alone) and the timings so far."""
    start = time.perf_counter()
    folder = hf.resolve(_required(config, "model"))
    tokenizer = chat.load_tokenizer(folder)
    mesh = make_mesh(**config.mesh)
    model = Qwen2.from_pretrained(folder, config.dtype, mesh if mesh.size > 1 else None)
    sampler = Sampler(model, tokenizer, config.rows or None)
    run_dir = None if jax.process_index() else RunDir(workdir, study, config.to_dict())
    return sampler, run_dir, {"load": time.perf_counter() - start}


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


def _missing(
    stream: records.Stream | None, items: list[_Item], names: Sequence[tuple[int, ...]]
) -> list[_Item]:
    """Returns the items without a row yet; only the first process knows, and tells the others."""
    done = np.array([stream is not None and name in stream for name in names])
    if jax.process_count() > 1:
        done = np.asarray(multihost_utils.broadcast_one_to_all(done))
    return [item for item, there in zip(items, done, strict=True) if not there]
