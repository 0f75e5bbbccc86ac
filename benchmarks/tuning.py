"""What the benchmarks of fine-tuning share: rows, our side, the time spent compiling.

The sides of a benchmark see the same rows in the same steps; the first step compiles or warms up.
This module runs in the peers' environments too: it imports our library in our side's functions.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import sides

RANK = 8
LEARNING_RATE = 2e-4
CLIP = 1.0
PAD = 0  # occurs in no row
WIDTH = 192  # of all rows below, padded to one
Row = tuple[list[int], list[int]]

_PROMPT, _COMPLETION = (60, 130), (20, 50)
# Vocabulary, embedding, MLP, layers, heads, key-value heads, size of a head, tied head.
_SHAPES = {
    "tiny": (2048, 128, 384, 2, 4, 2, 32, True),
    "0.5b": (151936, 896, 4864, 24, 14, 2, 64, True),
    "1.5b": (151936, 1536, 8960, 28, 12, 2, 128, True),
    "7b": (152064, 3584, 18944, 28, 28, 4, 128, False),
    "14b": (152064, 5120, 13824, 48, 40, 8, 128, False),
    "72b": (152064, 8192, 29568, 80, 64, 8, 128, False),
}
_COMPILE = "/jax/core/compile/"
_COMPILED = "/jax/core/compile/backend_compile_duration"


def make_rows(
    count: int,
    vocab: int,
    seed: int = 0,
    prompt: tuple[int, int] = _PROMPT,
    completion: tuple[int, int] = _COMPLETION,
) -> list[Row]:
    """Returns pairs of prompt and completion: random tokens, of lengths in the given ranges."""
    draw = np.random.default_rng(seed)

    def tokens(least: int, most: int) -> list[int]:
        return draw.integers(PAD + 1, vocab, draw.integers(least, most + 1)).tolist()

    return [(tokens(*prompt), tokens(*completion)) for _ in range(count)]


def count(rows: list[Row]) -> dict[str, int]:
    """Returns the tokens of the completions, and all, without padding."""
    completion = sum(len(c) for _, c in rows)
    return {"completion": completion, "real": completion + sum(len(p) for p, _ in rows)}


def rates(rows: list[Row], batch: int, seconds: float, loss: float) -> dict[str, Any]:
    """Returns what a side reports of the steps that learnt `rows` in so many seconds."""
    tokens = count(rows)
    return {
        "seconds_per_step": seconds * batch / len(rows),
        "completion_tokens_per_second": tokens["completion"] / seconds,
        "tokens_per_second": tokens["real"] / seconds,
        "loss": loss,
    }


class Compiling:
    """What jax has compiled since this was made.

    Attributes:
      seconds: wall time that tracing, lowering and compiling covered, once where they are nested.
      ends: when each program was compiled, by `time.perf_counter`.
    """

    def __init__(self) -> None:
        import jax

        self._spans: list[tuple[float, float]] = []
        self.ends: list[float] = []
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    @property
    def seconds(self) -> float:
        total, reached = 0.0, -np.inf
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith(_COMPILE):
            now = time.perf_counter()
            self._spans.append((now - duration_secs, now))
            if event == _COMPILED:
                self.ends.append(now)


def shape(name: str) -> Any:
    """Returns the config of Qwen2.5's "0.5b" to "72b", or of a "tiny" model for trials."""
    from sublim_jax.llm.model.config import Config

    vocab, embed, mlp, layers, heads, kv_heads, head_dim, tied = _SHAPES[name]
    return Config(vocab, embed, mlp, layers, heads, kv_heads, head_dim, tied=tied)


def write(folder: str, config: Any, dtype: str = "float32") -> None:
    """Writes a checkpoint of random weights, and the adapter that sides start from, in /adapter."""
    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.files import peft
    from sublim_jax.llm.model import lora

    Decoder.init(config, dtype=dtype).save_pretrained(folder)
    ours = lora.Lora(RANK, RANK)
    peft.save(lora.Adapter(ours, lora.initialise(ours, config)), f"{folder}/adapter")


def recipe(**more: Any) -> Any:
    """Returns the recipe of all: AdamW at one rate, clipped."""
    from sublim_jax.llm.model.lora import Lora
    from sublim_jax.llm.training.recipe import Recipe

    settled = {"learning_rate": LEARNING_RATE, "clip": CLIP, "schedule": "constant", "warmup": 0}
    return Recipe(**{"lora": Lora(RANK, RANK), **settled, "epochs": 1, **more})


def data_of(rows: list[Row], batch: int, config: Any) -> Any:
    """Returns the data set of which `fit` learns `rows`, in their order, in its first epoch.

    Within a step, which has `batch` rows, the order is `fit`'s own.
    """
    from sublim_jax.llm.training import batches, examples

    data = examples.collect([examples.Example(*row) for row in rows], config)
    steps = range(-(-len(rows) // batch))
    order = np.concatenate([batches.step_rows(data, 0, batch, step) for step in steps])
    return data.take(np.argsort(order))


def measured(model: Any, data: Sequence[Any], recipe: Any) -> tuple[Any, dict[str, float]]:
    """Calls `finetune.fit` once; returns its `Outcome`, and numbers of the steps after the first.

    Tokens are those of the rows, their last ones included, which are predicted and not read.
    """
    from sublim_jax.llm.training import finetune, flops

    seen, start = Compiling(), time.perf_counter()
    outcome = finetune.fit(model, data, recipe)
    whole = time.perf_counter() - start
    read, each = outcome.tokens, flops.per_token(model.config, data, kernels=False)
    lengths = np.concatenate([own.lengths for own in data])
    return outcome, {
        "seconds": whole,
        "tokens_per_second": read / outcome.seconds * lengths.sum() / (lengths - 1).sum(),
        "gflops": read * each / outcome.seconds / 1e9,
        "compile_seconds": seen.seconds,
        "first_step_seconds": whole - outcome.seconds,
        "programs": len(seen.ends),
    }


def ours(folder: str, rows: list[Row], batch: int, dtype: str = "float32") -> dict[str, Any]:
    """Learns the rows in order, `batch` a step, with `finetune.fit`, on the CPU."""
    from sublim_jax.llm.decoder import Decoder

    start = time.perf_counter()
    model = Decoder.from_pretrained(folder, dtype)
    loaded = time.perf_counter() - start
    data = data_of(rows, batch, model.config)
    floor = [sides.matmul_gflops()]
    outcome, numbers = measured(model, [data], recipe(batch=batch))
    floor.append(sides.matmul_gflops())
    timed = rows[batch:]
    assert outcome.tokens == count(timed)["real"] - len(timed)
    return {
        **numbers,
        **rates(timed, batch, outcome.seconds, outcome.loss[0]),
        "load_seconds": loaded,
        "matmul_gflops": float(np.mean(floor)),
        "peak_mib": peak_mib(),
        **sides.here(),
    }


def peak_mib() -> float:
    """Returns the most memory held: of the device if it is an accelerator, else of the process."""
    import jax

    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return peak / 2**20 if peak else sides.peak_mib()
