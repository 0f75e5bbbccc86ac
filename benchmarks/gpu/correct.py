"""The same on a GPU as on a CPU: logits, greedy samples and training steps of a small decoder.

Qwen2.5-0.5B's shapes, cut to four layers. The side `cpu` is the same code on the CPU.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from benchmarks import tuning
from benchmarks.gpu import Parts, lowering
from benchmarks.gpu.table import Found, Row

_LAYERS = 4
_SEEN = (2, 128)  # tokens whose logits are compared, at every eighth and for 64 of the vocabulary
_EVERY, _WORDS = 8, 64
_PROMPTS = range(5, 45, 5)  # lengths
_NEW = 24
_ROWS = 8
_DTYPES = ("float32", "bfloat16")
_STEPS = (1, 4)
_HALF = "training bfloat16"


def ours(tiny: bool) -> Parts:
    """Returns the parts; each has the `values` that are compared."""
    from benchmarks.gpu import rates

    @functools.cache
    def model(dtype: str) -> Any:
        import jax

        from sublim_jax.llm.decoder import Decoder

        if dtype == "float32":
            return rates.random_model(_shape(tiny), dtype)
        exact = model("float32")
        return Decoder(exact.config, jax.tree.map(lambda a: a.astype(dtype), exact.pure()))

    def logits(dtype: str) -> dict[str, Any]:
        found = np.asarray(model(dtype)(_tokens(_shape(tiny).vocab)), np.float64)
        kept = found[:, ::_EVERY, :: found.shape[-1] // _WORDS]
        return {"values": kept.ravel().tolist(), "deviation": float(found.std())}

    def samples(temperature: float) -> dict[str, Any]:
        return {"values": _samples(model("float32"), temperature)}

    def training(dtype: str, students: int = 1) -> dict[str, Any]:
        return {"values": [_losses(model(dtype), steps, students) for steps in _STEPS]}

    return [
        (_HALF, lambda: training("bfloat16", 2)),
        ("training float32", lambda: training("float32")),
        ("logits float32", lambda: logits("float32")),
        ("logits bfloat16", lambda: logits("bfloat16")),
        ("greedy samples", lambda: samples(0.0)),
        ("samples", lambda: samples(1.0)),
    ]


def cpu(tiny: bool) -> Parts:
    """Returns the parts that those of a GPU are compared with."""
    return [(name, part) for name, part in ours(tiny) if name != _HALF]


def lowered() -> Parts:
    """Returns the parts that lower them."""
    from sublim_jax.llm import decoder

    def logits(model: Any) -> Any:
        return decoder._logits(model.config, model.pure(), _tokens(model.config.vocab), None, None)

    parts: Parts = []
    for dtype in _DTYPES:
        model = lowering.abstract(_shape(False), dtype)
        for name, work, last in (
            ("training", functools.partial(_losses, model, 1, 2), "train_step"),
            ("logits", functools.partial(logits, model), "_logits"),
            ("samples", functools.partial(_samples, model), "decode"),
        ):
            parts.append((f"{name} {dtype}", functools.partial(lowering.lower, work, last)))
    return parts


def figures(found: Found) -> list[Row]:
    """Returns how far the GPU's values are from the CPU's."""

    def values(side: str, part: str) -> Any:
        own = found.get(side, part, "values")
        return None if own is None else np.array(own)

    def apart(part: str, of: str, at: Any = ...) -> float | None:
        mine, theirs = values("ours", part), values("cpu", of)
        if mine is None or theirs is None:
            return None
        scale = found.get("cpu", of, "deviation") or 1.0
        return float(np.abs(mine - theirs)[at].max()) / scale

    def same(part: str) -> float | None:
        mine, theirs = values("ours", part), values("cpu", part)
        return None if mine is None or theirs is None else float((mine == theirs).mean())

    logits, half, training = "logits float32", "logits bfloat16", "training float32"
    rows: list[tuple[str, str, str, Any, str]] = [
        ("logits, float32: most apart from a CPU's, in deviations", logits, logits, ..., "<= .001"),
        ("- bfloat16: from the CPU's in bfloat16", half, half, ..., "<= .1"),
        ("first LoRA step, float32: loss from the CPU's", training, training, 0, "<= .0001"),
        ("- bfloat16, two students: from the CPU's in float32", _HALF, training, 0, "<= .02"),
        ("- three steps later, float32", training, training, 1, "<= .001"),
    ]
    return [
        *(Row(text, apart(part, of, at), target) for text, part, of, at, target in rows),
        Row("greedy tokens, float32: share equal to the CPU's", same("greedy samples"), "1"),
        Row("tokens drawn at temperature 1: share equal", same("samples"), "near 1"),
    ]


def _shape(tiny: bool) -> Any:
    return dataclasses.replace(tuning.shape("tiny" if tiny else "0.5b"), layers=_LAYERS)


def _tokens(vocab: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, vocab, _SEEN, np.int32)


def _samples(model: Any, temperature: float = 0.0) -> list[int]:
    """Returns tokens drawn after some prompts."""
    from sublim_jax.llm.sampling.sampler import Sampler, make_requests

    draw = np.random.default_rng(0)
    prompts = [draw.integers(1, model.config.vocab, n).tolist() for n in _PROMPTS]
    requests = make_requests(prompts, max_new_tokens=_NEW)
    drawn = {own.id: own.tokens for own in Sampler(model).stream(requests, temperature)}
    return [token for i in range(len(prompts)) for token in drawn[i]]


def _losses(model: Any, steps: int, students: int) -> list[float]:
    """Returns each student's loss in the last of so many LoRA steps on the same rows."""
    from sublim_jax.llm.training import finetune

    data = tuning.data_of(tuning.make_rows(_ROWS, model.config.vocab), _ROWS, model.config)
    recipe = tuning.recipe(
        batch=_ROWS, epochs=steps, max_steps=steps, learning_rate=1e-2, micro_tokens=1024
    )
    return finetune.fit(model, [data] * students, recipe).loss
