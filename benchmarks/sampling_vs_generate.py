"""Batched sampling, ours against transformers' generate: python -m benchmarks.sampling_vs_generate.

64 chats of unequal length (a shared system prompt of 40 tokens, then 20 to 110 of their own) are
answered with 60 tokens on average, the lengths lognormal (sigma 0.6) and forced on both sides; the
same weights, float32, temperature 1 over the whole vocabulary. generate takes them as one
left-padded batch and stops when the last row has. Each side runs in a process of its own; a
warm-up of the same shapes comes first, its time is given as compile_seconds. One JSON line: ratio
of the seconds, memory of the whole process. Needs the oracle extra.

--shape=0.5b: Qwen2.5-0.5B's. --shape=small: 4 layers, d = 256, the same vocabulary.
"""

import dataclasses
import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import sides
from sublim_jax.llm.model.config import Config

_SHAPE = flags.DEFINE_enum("shape", "0.5b", ["0.5b", "small"], "Which model.")
_CHATS = flags.DEFINE_integer("chats", 64, "Chats to answer.")
_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")
_FOLDER = flags.DEFINE_string("folder", "", "Where --side finds the checkpoint.")

_TARGETS = {"0.5b": 3.0, "small": 10.0}
_SYSTEM = 40  # tokens that all prompts begin with
_OWN = (20, 110)
_MEAN, _SIGMA = 60, 0.6


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(folder)
        arguments = [f"--{flag.name}={flag.value}" for flag in (_SHAPE, _CHATS)]
        mine, theirs = sides.in_turn(
            "benchmarks.sampling_vs_generate", [*arguments, f"--folder={folder}"], _TURNS.value
        )
    sides.report(
        f"sampling_vs_generate_{_SHAPE.value.replace('.', '_')}",
        theirs["seconds"] / mine["seconds"],
        _TARGETS[_SHAPE.value],
        mine["gflops"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def write_checkpoint(folder: str) -> None:
    """Writes the random weights that both sides load."""
    from sublim_jax.llm.decoder import Decoder

    Decoder.init(shape()).save_pretrained(folder)


def shape() -> Config:
    """Returns the shapes of the model that both sides run."""
    from sublim_jax.llm.testing import HALF_BILLION

    if _SHAPE.value == "0.5b":
        return HALF_BILLION
    return dataclasses.replace(HALF_BILLION, layers=4, embed=256, mlp=1024, heads=4)


def workload() -> tuple[list[list[int]], list[int]]:
    """Returns the prompts and how many tokens each is answered with."""
    draw = np.random.default_rng(0)
    system = draw.integers(0, shape().vocab, _SYSTEM).tolist()
    prompts = [
        system + draw.integers(0, shape().vocab, draw.integers(*_OWN)).tolist()
        for _ in range(_CHATS.value)
    ]
    lengths = draw.lognormal(np.log(_MEAN) - _SIGMA**2 / 2, _SIGMA, _CHATS.value)
    lengths *= _MEAN / lengths.mean()
    return prompts, [max(1, round(n)) for n in lengths]


def ours() -> dict[str, Any]:
    """Answers them with `Sampler`."""
    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.sampling.sampler import Sampler, make_requests

    start = time.perf_counter()
    sampler = Sampler(Decoder.from_pretrained(_FOLDER.value))
    loaded = time.perf_counter() - start
    prompts, lengths = workload()
    requests = make_requests(prompts, max_new_tokens=lengths)
    seconds = []
    floor = [sides.matmul_gflops()]
    for seed in (1, 0):  # the first run compiles
        start = time.perf_counter()
        drawn = list(sampler.stream(requests, seed=seed))
        seconds.append(time.perf_counter() - start)
    floor.append(sides.matmul_gflops())
    assert sorted(len(s.tokens) for s in drawn) == sorted(lengths)
    return {
        "seconds": seconds[1],
        "compile_seconds": seconds[0] - seconds[1],
        "load_seconds": loaded,
        "tokens_per_second": sum(lengths) / seconds[1],
        "gflops": useful_flops(prompts, lengths) / seconds[1] / 1e9,
        "matmul_gflops": float(np.mean(floor)),
        "peak_mib": sides.peak_mib(),
        **sides.here(),
    }


def peer() -> dict[str, Any]:
    """Answers them with `generate`."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    start = time.perf_counter()
    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(_FOLDER.value, dtype=torch.float32)
    loaded = time.perf_counter() - start
    prompts, lengths = workload()
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    ends = torch.tensor(lengths)

    class Ends(transformers.StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            return input_ids.shape[1] - width >= ends

    def run(most: int) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                input_ids=tokens,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=most,
                eos_token_id=None,
                pad_token_id=0,
                stopping_criteria=transformers.StoppingCriteriaList([Ends()]),
            )
        return time.perf_counter() - start

    run(2)
    seconds = run(max(lengths))
    return {
        "seconds": seconds,
        "load_seconds": loaded,
        "tokens_per_second": sum(lengths) / seconds,
        "gflops": useful_flops(prompts, lengths) / seconds / 1e9,
        "peak_mib": sides.peak_mib(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def useful_flops(prompts: list[list[int]], lengths: list[int]) -> float:
    """Returns the FLOPs of the matmuls that the work needs: the shared prompt once, no padding."""
    c = shape()
    attention = c.embed * (2 * c.heads + 2 * c.kv_heads) * c.head_dim
    layer = 2 * (attention + 3 * c.embed * c.mlp)
    seen = _SYSTEM + sum(len(p) - _SYSTEM for p in prompts) + sum(lengths)
    return seen * c.layers * layer + sum(lengths) * 2 * c.embed * c.vocab


if __name__ == "__main__":
    try:
        app.run(main)
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is missing: install the oracle extra")
