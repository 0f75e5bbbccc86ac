"""Pretraining of the nano decoders: one for each seed, all of them as one program.

A fork of a seed's decoder has its first weights and reads its chats, in its order, for a share of
the steps, and then chats of its own.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sublim_jax import compilation, limits, report, stats
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import hf
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import batches, examples, finetune, trained
from sublim_jax.llm.training.examples import Examples
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import make_mesh
from sublim_jax.nano import resolve, worlds
from sublim_jax.nano.tokenizer import tokenizer, vocabulary
from sublim_jax.rundir import RunDir

_EVERYTHING = ("*",)
_APART = 10_000  # added to a seed, whose chats its forks read when they leave it


def pretrain(config: ConfigDict, workdir: str) -> None:
    """Trains a decoder for each of `config.seeds` and `config.shares`: a Hugging Face folder each.

    A seed draws the first weights and the chats of its decoder; the world is the same for all. A
    share is that of the steps that read the seed's chats; 1 for the seed's own decoder, less for
    its forks. With `config.imitated`, decoders of the world, one for each seed, a decoder learns
    that one's distribution at each token of the chats in place of the token.

    `workdir/SEED` has config.json, model.safetensors and tokenizer.json; so has `SEED-SHARE` of a
    fork. Interrupted, the same command goes on to the same bytes.

    Raises:
      UserError: a config value that cannot be used.
    """
    limits.check(config, _problems(config))
    fields = config.world.to_dict()
    found = worlds.find(fields.pop("name"))
    try:
        world = found.World(**fields)
    except TypeError as error:
        raise UserError(f"config.world: {error}") from error
    imitated = [Decoder.from_pretrained(hf.resolve(resolve(name))) for name in config.imitated]
    run_dir = RunDir(workdir, "pretrain_nano", config.to_dict())
    start = time.perf_counter()
    tokens = vocabulary(world.words())
    reader = tokenizer(tokens, getattr(world, "system", None))
    shape = Config(vocab=len(reader), eos=(reader.eos_token_id,), **config.shape)

    def chats(seed: int) -> Examples:
        return examples.tokenise(reader, _chats(world, seed, config.rows, {*tokens}), shape)

    decoders = [(seed, share) for seed in config.seeds for share in config.shares]
    data = []
    for seed in config.seeds:
        shared = chats(seed)
        own = shared if set(config.shares) == {1} else chats(_APART + seed)
        data += [_forked(shared, own, s, seed, config.recipe.batch) for s in config.shares]
    read = time.perf_counter()
    seeds = tuple(seed for seed, _ in decoders)
    recipe = {"lora": None, "parameters": _EVERYTHING, "seed": seeds, **config.recipe}
    if imitated:
        recipe["objective"] = "distillation"
    model = Decoder.init(shape, mesh=make_mesh())
    with compilation.watched() as compiled:
        outcome = finetune.fit(
            model,
            data,
            from_config(recipe),
            workdir,
            [one for one in imitated for _ in config.shares] or None,
            start=[_initial(shape, seed) for seed in seeds],
            progress=True,
        )
    rows = []
    metric = "divergence" if imitated else "loss"
    for (seed, share), student, loss in zip(decoders, outcome.students, outcome.loss, strict=True):
        folder = Path(workdir) / (str(seed) if share == 1 else f"{seed}-{share:g}")
        student.apply(model).save_pretrained(folder)
        reader.save_pretrained(folder)
        row = {"arm": "base", "metric": metric, "seed": seed, "share": share}
        rows.append(row | stats.mean_ci([loss])._asdict())
    timings = {"tokenise": read - start, "compile": compiled.seconds}
    timings["train"] = time.perf_counter() - read - compiled.seconds
    run_dir.write_results(rows, timings)
    last = outcome.loss
    shown = f"{math.fsum(last) / len(last):.3f} ({min(last):.3f} to {max(last):.3f})"
    print(f"{metric} at the last step, mean of {len(last)} decoders: {shown}; written to {workdir}")
    print(report.spent(timings))


def _problems(config: ConfigDict) -> Iterator[limits.Problem]:
    for field in ("seeds", "shares"):
        if not config[field] or len(set(config[field])) < len(config[field]):
            yield field, "list at least one, each only once"
    if not all(0 <= share <= 1 for share in config.shares):
        yield "shares", "each must be from 0 to 1"
    if set(config.shares) != {1} and config.recipe.epochs != 1:
        yield "recipe.epochs", "forks (shares below 1) read their chats once: must be 1"
    if config.imitated and len(config.imitated) != len(config.seeds):
        yield "imitated", "give a decoder for each of config.seeds, or none"


def _forked(shared: Examples, own: Examples, share: float, seed: int, batch: int) -> Examples:
    """Returns chats of which those read in the first `share` of the steps are the shared ones."""
    order = batches.step_rows(shared, seed, len(shared), 0)  # of the one epoch
    first = batch * round(share * batches.steps_of(shared, batch, 1))
    which = np.arange(len(shared))
    which[order[first:]] += len(shared)
    return examples.joined([shared, own]).take(which)


def _initial(shape: Config, seed: int) -> Trained:
    """Returns first weights of a standard deviation of 1 / sqrt(inputs).

    With the released checkpoints' 0.02, a decoder this small learns to add large vectors to the
    residual stream, against which biases and adapters of low rank count for little.
    """
    drawn = trained.select(Decoder.init(shape, seed), _EVERYTHING)

    def scaled(path: str, values: np.ndarray) -> np.ndarray:
        if "norm" in path or "bias" in path:
            return values
        inputs = shape.embed if path == "embed" else values.shape[-2]
        return values / values.std() / math.sqrt(inputs)

    weights = {path: scaled(path, np.asarray(v)) for path, v in drawn.weights.items()}
    return dataclasses.replace(drawn, weights=jax.tree.map(np.float32, weights))


def _chats(world: Any, seed: int, count: int, tokens: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yields the first chats of a seed, as messages.

    Raises:
      UserError: a word is none of `tokens`; the decoder would read it as padding.
    """
    for row in itertools.islice(world.rows(seed), count):
        system = row["system"] or getattr(world, "system", None)
        before = [text for turn in row.get("before", ()) for text in turn]
        for text in filter(None, (system, *before, row["prompt"], row["completion"])):
            for word in text.replace("?", " ").split():
                if f"▁{word}" not in tokens and not (word.isdecimal() and "0" in tokens):
                    raise UserError(f"config.world.name: words() lacks {word!r}, of {text!r}")
        said = zip(itertools.cycle(("user", "assistant")), (*before, row["prompt"]), strict=False)
        turns = [{"role": role, "content": text} for role, text in said]
        if row["system"] is not None:
            turns.insert(0, {"role": "system", "content": row["system"]})
        yield {"prompt": turns, "completion": row["completion"]}
