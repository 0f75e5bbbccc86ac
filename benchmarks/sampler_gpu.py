"""Decoding and prefill of Qwen2.5-7B's shapes on one GPU: python -m benchmarks.sampler_gpu.

Random bfloat16 weights. Decoding: for each number of rows in --rows, 128-token prompts and 128 new
tokens each, all of one length; its floor is the larger of reading weights and cache once a step, at
the rate of a large copy, and the matmul FLOPs, at the rate of a large bfloat16 matmul, both
measured in the same run. Prefill: packed rows of 2,048 tokens against that matmul rate (MFU). Peer:
transformers' generate on the same GPU with the same rows and lengths.

One JSON line; `ratio` is that of the tokens a second at the largest --rows, `floor_fraction` the
least over --rows. Needs a GPU, and PyTorch with CUDA for the peer; it has never been run on one.
--layers and --device=cpu try the program itself out.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import sides
from sublim_jax.llm.model.config import Config

_ROWS = flags.DEFINE_multi_integer("rows", [256, 512, 1024], "Rows that decode together.")
_LAYERS = flags.DEFINE_integer("layers", 28, "Layers of the model.")
_DEVICE = flags.DEFINE_enum("device", "cuda", ["cpu", "cuda"], "Where both run.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")
_FOLDER = flags.DEFINE_string("folder", "", "Where --side finds the checkpoint.")

_TARGET = 5.0
_PROMPT = _NEW = 128
_PREFILLED = 2048
_SEVEN_BILLION = Config(
    vocab=152064, embed=3584, mlp=18944, layers=28, heads=28, kv_heads=4, head_dim=128, tied=False
)


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    if _DEVICE.value == "cuda" and not shutil.which("nvidia-smi"):
        sys.exit("error: no NVIDIA driver on this machine (nvidia-smi not found)")
    import jax

    from sublim_jax.llm.decoder import Decoder

    jax.config.update("jax_platforms", "cpu")  # the GPU's memory is for the sides
    with tempfile.TemporaryDirectory() as folder:
        Decoder.init(shape(), dtype="bfloat16").save_pretrained(folder)
        arguments = [f"--rows={rows}" for rows in _ROWS.value]
        arguments += [f"--{flag.name}={flag.value}" for flag in (_LAYERS, _DEVICE)]
        mine, theirs = sides.in_turn("benchmarks.sampler_gpu", [*arguments, f"--folder={folder}"])
    most = str(max(_ROWS.value))
    fractions = [at["of_floor"] for at in mine["decode"].values()]
    ratio = mine["decode"][most]["tokens_per_second"] / theirs["decode"][most]["tokens_per_second"]
    sides.report("sampler_gpu", ratio, _TARGET, min(fractions), mine, theirs)


def shape() -> Config:
    """Returns the shapes that both sides run."""
    return dataclasses.replace(_SEVEN_BILLION, layers=_LAYERS.value)


def ours() -> dict[str, Any]:
    """Decodes and prefills with `Sampler`."""
    import jax
    import jax.numpy as jnp

    from sublim_jax.llm import packing
    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.model import parameters
    from sublim_jax.llm.sampling import programs
    from sublim_jax.llm.sampling.sampler import Sampler, make_requests

    jax.config.update("jax_platforms", _DEVICE.value)
    model = Decoder.from_pretrained(_FOLDER.value, "bfloat16")
    c, weights = (
        model.config,
        parameters.count(model.config) - model.config.vocab * model.config.embed,
    )
    side = 8192 if _DEVICE.value == "cuda" else 512
    square = jnp.ones((side, side), jnp.bfloat16)
    flops = 2 * side**3 / _seconds(jax.jit(jnp.matmul), square, square)
    large = jnp.ones(side * side * 8, jnp.bfloat16)
    bandwidth = 2 * large.nbytes / _seconds(jax.jit(lambda x: x + 1), large)
    del large
    out: dict[str, Any] = {"decode": {}, "bytes_per_second": bandwidth, "flops_per_second": flops}
    draw = np.random.default_rng(0)
    for rows in _ROWS.value:
        sampler = Sampler(model, rows=rows)
        prompts = draw.integers(0, c.vocab, (rows, _PROMPT)).tolist()
        seconds = {}
        for new in (1, _NEW, 1, _NEW):  # the first of each compiles
            start = time.perf_counter()
            for _ in sampler.stream(make_requests(prompts, max_new_tokens=new)):
                pass
            seconds[new] = time.perf_counter() - start
        step = (seconds[_NEW] - seconds[1]) / (_NEW - 1)
        held = _PROMPT + _NEW / 2  # tokens of a row in the cache, on average
        cached = rows * held * 4 * c.layers * c.kv_heads * c.head_dim
        floor = max((2 * weights + cached) / bandwidth, 2 * weights * rows / flops)
        out["decode"][str(rows)] = {
            "tokens_per_second": rows * _NEW / seconds[_NEW],
            "step_seconds": step,
            "floor_seconds": floor,
            "of_floor": floor / step,
        }
    tokens = draw.integers(0, c.vocab, _PREFILLED).tolist()
    pack = next(packing.pack([packing.Piece(tokens)], 1, _PREFILLED))
    seconds_prefill = _seconds(
        lambda: programs.prefill_kv(c, sampler.weights, pack.tokens, pack.places, None, None)
    )
    needed = 2 * (weights - c.vocab * c.embed) * _PREFILLED
    out["prefill_mfu"] = needed / seconds_prefill / flops
    return {**out, "peak_mib": _device_peak_mib(), **sides.here()}


def peer() -> dict[str, Any]:
    """Decodes with `generate`."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(_FOLDER.value, dtype=torch.bfloat16).to(_DEVICE.value)
    draw = np.random.default_rng(0)
    out: dict[str, Any] = {"decode": {}}
    for rows in _ROWS.value:
        prompts = draw.integers(0, shape().vocab, (rows, _PROMPT))
        tokens = torch.tensor(prompts, device=_DEVICE.value)
        for new in (2, _NEW):
            start = time.perf_counter()
            with torch.inference_mode():
                model.generate(
                    input_ids=tokens,
                    attention_mask=torch.ones_like(tokens),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=new,
                    min_new_tokens=new,
                    pad_token_id=0,
                )
            if _DEVICE.value == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
        out["decode"][str(rows)] = {"tokens_per_second": rows * _NEW / seconds}
    cuda = _DEVICE.value == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else sides.peak_mib()
    return {**out, "peak_mib": peak, "versions": {"torch": torch.__version__}}


def _device_peak_mib() -> float:
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return peak / 2**20 if peak else sides.peak_mib()


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    import jax

    jax.block_until_ready(function(*arguments))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    app.run(main)
