"""Pretraining of the nano decoders: one for each seed, all of them as one program."""

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

from sublim_jax import stats
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import examples, finetune, trained
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import make_mesh
from sublim_jax.nano import worlds
from sublim_jax.nano.tokenizer import tokenizer, vocabulary
from sublim_jax.rundir import RunDir

_EVERYTHING = ("*",)


def pretrain(config: ConfigDict, workdir: str) -> None:
    """Trains a decoder for each of `config.seeds` and writes it as a Hugging Face folder.

    A seed draws the first weights and the chats of its decoder; the world is the same for all.
    `workdir/SEED` has config.json, model.safetensors and tokenizer.json. Interrupted, the same
    command goes on to the same bytes.

    Raises:
      UserError: a config value that cannot be used.
    """
    fields = config.world.to_dict()
    found = worlds.find(fields.pop("name"))
    try:
        world = found.World(**fields)
    except TypeError as error:
        raise UserError(f"config.world: {error}") from error
    run_dir = RunDir(workdir, "pretrain_nano", config.to_dict())
    start = time.perf_counter()
    tokens = vocabulary(world.words())
    reader = tokenizer(tokens, getattr(world, "system", None))
    shape = Config(vocab=len(reader), eos=(reader.eos_token_id,), **config.shape)
    seeds = list(config.seeds)
    data = [
        examples.tokenise(reader, _chats(world, s, config.rows, {*tokens}), shape) for s in seeds
    ]
    read = time.perf_counter()
    recipe = {"lora": None, "parameters": _EVERYTHING, "seed": tuple(seeds), **config.recipe}
    model = Decoder.init(shape, mesh=make_mesh())
    outcome = finetune.fit(
        model,
        data,
        from_config(recipe),
        workdir,
        start=[_initial(shape, seed) for seed in seeds],
        progress=True,
    )
    for seed, student in zip(seeds, outcome.students, strict=True):
        folder = Path(workdir) / str(seed)
        student.apply(model).save_pretrained(folder)
        reader.save_pretrained(folder)
    rows = [
        {"arm": "base", "metric": "loss", "seed": seed, **stats.mean_ci([loss])._asdict()}
        for seed, loss in zip(seeds, outcome.loss, strict=True)
    ]
    run_dir.write_results(rows, {"tokenise": read - start, "train": time.perf_counter() - read})
    shown = ", ".join(f"{row['seed']}: {row['mean']:.3f}" for row in rows)
    print(f"loss of each seed at the last step: {shown}; written to {workdir}")


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
