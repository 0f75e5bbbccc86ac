"""Prefill and decoding at Qwen2.5-7B's shapes, in bfloat16, with random weights.

Decoding: prompts of 128 tokens and 128 new ones, all rows of one length. A step's floor is the
larger of reading the weights and the cache once, at the rate of a copy, and of the products, at the
rate of a large one; both rates are measured in the same process. The peer is transformers'
`generate` with as many rows.
"""

import functools
import time
from typing import Any

import numpy as np

from benchmarks import sides, tuning
from benchmarks.gpu import Parts, lowering, torch_models
from benchmarks.gpu.table import Found, Row, ratio

_ROWS = (256, 1024, 512)  # by what matters
_PROMPT = _NEW = 128
_PREFILLED = 2048


def ours(tiny: bool) -> Parts:
    """Returns prefill, and decoding of each number of rows."""
    from benchmarks.gpu import rates

    @functools.cache
    def model() -> Any:
        return rates.random_model(_shape(tiny), "bfloat16")

    def prefill() -> dict[str, Any]:
        import jax

        from sublim_jax.llm.training import flops

        seconds = rates.seconds(_prefill(model()))
        c, size = model().config, _weights(model().config) - _shape(tiny).vocab * _shape(tiny).embed
        attention = 2 * c.layers * c.heads * c.head_dim * _PREFILLED  # a token sees half of them
        needed = (2 * size + attention) * _PREFILLED
        rate, peak = rates.product(tiny, "bfloat16"), flops.peak(jax.devices()[0])
        return {
            "seconds": seconds,
            "of_matmul": needed / seconds / rate,
            **({"mfu": needed / seconds / peak} if peak else {}),
            "flops_per_second": rate,
            "bytes_per_second": rates.copy(tiny),
        }

    def decoding(rows: int) -> dict[str, Any]:
        seconds, seen = {}, tuning.Compiling()
        sampler = _sampler(model(), rows)
        for new in (_NEW, 1, _NEW):  # the first compiles
            compiled, start = len(seen.ends), time.perf_counter()
            drawn = _decode(sampler, new)
            seconds[new] = time.perf_counter() - start
        assert drawn == rows * _NEW
        step = (seconds[_NEW] - seconds[1]) / (_NEW - 1)
        c, weights = model().config, _weights(model().config)
        cache = 4 * c.layers * c.kv_heads * c.head_dim * rows * (_PROMPT + _NEW / 2)
        moved = (2 * weights + cache) / rates.copy(tiny)
        floor = max(moved, 2 * weights * rows / rates.product(tiny, "bfloat16"))
        return {
            "tokens_per_second": rows * _NEW / seconds[_NEW],
            "step_seconds": step,
            "floor_seconds": floor,
            "of_floor": floor / step,
            "compile_seconds": seen.seconds,
            "programs_while_timed": len(seen.ends) - compiled,
            "peak_mib": tuning.peak_mib(),
        }

    named = [(f"{rows} rows", functools.partial(decoding, rows)) for rows in _rows(tiny)]
    return [("prefill", prefill), *named]


def peer(tiny: bool) -> Parts:
    """Returns `generate` of each number of rows."""
    import torch

    @functools.cache
    def model() -> Any:
        return torch_models.random_model(_shape(tiny), "cpu" if tiny else "cuda")

    def generate(rows: int) -> dict[str, Any]:
        torch_models.generate(model(), rows, _PROMPT, 2)
        start = time.perf_counter()
        torch_models.generate(model(), rows, _PROMPT, _NEW)
        seconds = time.perf_counter() - start
        memory = sides.peak_mib() if tiny else torch.cuda.max_memory_allocated() / 2**20
        return {"tokens_per_second": rows * _NEW / seconds, "peak_mib": memory}

    return [(f"{rows} rows", functools.partial(generate, rows)) for rows in _rows(tiny)]


def lowered() -> Parts:
    """Returns the parts that lower them."""
    model = lowering.abstract(_shape(False), "bfloat16")
    parts: Parts = [("prefill", lambda: lowering.lower(_prefill(model), "prefill_kv"))]

    def decoding(rows: int) -> dict[str, Any]:
        return lowering.lower(lambda: _decode(_sampler(model, rows), _NEW), "decode")

    return parts + [(f"{rows} rows", functools.partial(decoding, rows)) for rows in _ROWS]


def figures(found: Found) -> list[Row]:
    """Returns MFU, parts of the floor, and ratios."""
    rows = [
        Row("prefill at 7B, MFU", found.get("ours", "prefill", "mfu")),
        Row("- of the rate of a large product", found.get("ours", "prefill", "of_matmul")),
    ]
    for part in (f"{rows} rows" for rows in sorted(_ROWS)):
        rate, theirs = (found.get(side, part, "tokens_per_second") for side in ("ours", "peer"))
        rows += [
            Row(f"decoding at 7B, {part}: tokens a second", rate),
            Row("- of the floor", found.get("ours", part, "of_floor"), ">= 0.6"),
            Row("- times as fast as `generate`", ratio(rate, theirs), ">= 5"),
        ]
    return rows


def _shape(tiny: bool) -> Any:
    return tuning.shape("tiny" if tiny else "7b")


def _rows(tiny: bool) -> tuple[int, ...]:
    return (16, 32) if tiny else _ROWS


def _weights(config: Any) -> int:
    """Returns how many weights a token is multiplied by, those of the head among them."""
    from sublim_jax.llm.model import parameters

    return parameters.count(config) - (0 if config.tied else config.vocab * config.embed)


def _prefill(model: Any) -> Any:
    """Returns the call that prefills one packed row."""
    from sublim_jax.llm import packing
    from sublim_jax.llm.sampling import programs

    tokens = np.random.default_rng(0).integers(1, model.config.vocab, _PREFILLED).tolist()
    pack = next(packing.pack([packing.Piece(tokens)], 1, _PREFILLED))
    weights = model.pure()
    return lambda: programs.prefill_kv(model.config, weights, pack.tokens, pack.places, None, None)


def _sampler(model: Any, rows: int) -> Any:
    from sublim_jax.llm.sampling.sampler import Sampler

    return Sampler(model, rows=rows)


def _decode(sampler: Any, new: int) -> int:
    """Returns how many tokens were drawn, in all rows at once."""
    from sublim_jax.llm.sampling.sampler import make_requests

    draw = np.random.default_rng(0)
    prompts = draw.integers(1, sampler.config.vocab, (sampler.rows, _PROMPT)).tolist()
    requests = make_requests(prompts, max_new_tokens=new)
    return sum(len(own.tokens) for own in sampler.stream(requests))
