"""Batched sampling, ours against Tunix's vanilla sampler: python -m benchmarks.sampler_vs_tunix.

Both run the same random weights in float32 on the same jax: the prompts of `sampling_vs_generate`
(unequal; 40 tokens shared), each answered with --new_tokens tokens at temperature 1 over the whole
vocabulary, so that neither gains by rows that end early. For Tunix that is temperature=1, top_p=1:
its path without a sort (temperature=1 alone would be greedy). Its cache has just the slots that the
call needs. Three calls a side: one that compiles, one with another temperature, one with other
prompt lengths in the same bucket; the last is the one that is timed again and reported.

One JSON line: the ratio is that of new tokens a second. --tunix_python is the interpreter of an
environment with google-tunix 0.1.7 and the same jax; its dependencies exclude ours.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import sampling_vs_generate as workload
from benchmarks import sides

_TUNIX_PYTHON = flags.DEFINE_string("tunix_python", "", "Python of an environment with Tunix.")
_NEW = flags.DEFINE_integer("new_tokens", 48, "Tokens of each answer.")

_TARGET = 1.5
_COMPILED = "/jax/core/compile/backend_compile_duration"


def main(_: list[str]) -> None:
    flag = flags.FLAGS
    if flag.side:
        print(json.dumps(ours() if flag.side == "ours" else peer()))
        return
    if not Path(_TUNIX_PYTHON.value).is_file():
        sys.exit(
            "error: --tunix_python: name the Python of an environment with google-tunix==0.1.7 "
            "and the jax of this one"
        )
    with tempfile.TemporaryDirectory() as folder:
        workload.write_checkpoint(folder)
        mine, theirs = sides.in_turn(
            "benchmarks.sampler_vs_tunix",
            [
                f"--shape={flag.shape}",
                f"--chats={flag.chats}",
                f"--new_tokens={_NEW.value}",
                f"--folder={folder}",
            ],
            peer_python=_TUNIX_PYTHON.value,
        )
    sides.report(
        "sampler_vs_tunix",
        mine["tokens_per_second"] / theirs["tokens_per_second"],
        _TARGET,
        mine["gflops"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def ours() -> dict[str, Any]:
    """Samples with `Sampler`."""
    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.sampling.sampler import Sampler, make_requests

    sampler = Sampler(Decoder.from_pretrained(flags.FLAGS.folder))

    def run(prompts: list[list[int]], temperature: float) -> list[list[int]]:
        requests = make_requests(prompts, max_new_tokens=_NEW.value)
        return [s.tokens for s in sampler.stream(requests, temperature)]

    floor = [sides.matmul_gflops()]
    measured = _measure(run)
    floor.append(sides.matmul_gflops())
    return {**measured, "matmul_gflops": float(np.mean(floor)), **sides.here()}


def peer() -> dict[str, Any]:
    """Samples with Tunix."""
    from importlib import metadata

    import jax
    from tunix.generate import sampler as tunix_sampler
    from tunix.models.qwen2 import model as tunix_model
    from tunix.models.qwen2 import params

    c = workload.shape()
    config = tunix_model.ModelConfig(
        num_layers=c.layers,
        vocab_size=c.vocab,
        embed_dim=c.embed,
        hidden_dim=c.mlp,
        num_heads=c.heads,
        head_dim=c.head_dim,
        num_kv_heads=c.kv_heads,
        rope_theta=int(c.rope_theta),
        norm_eps=c.norm_eps,
        use_tied_embedding=True,
    )
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    model = params.create_model_from_safe_tensors(
        flags.FLAGS.folder, config, mesh, dtype=jax.numpy.float32
    )
    slots = _bucket() + _NEW.value
    sampler = tunix_sampler.Sampler(
        model,
        _Tokens(),
        tunix_sampler.CacheConfig(slots, c.layers, c.kv_heads, c.head_dim),
    )

    def run(prompts: list[list[int]], temperature: float) -> list[list[int]]:
        out = sampler(
            [json.dumps(prompt) for prompt in prompts],
            _NEW.value,
            max_prompt_length=_bucket(),
            temperature=temperature,
            top_p=1.0,
            seed=0,
        )
        return [list(tokens) for tokens in out.tokens]

    versions = {name: metadata.version(name) for name in ("google-tunix", "jax")}
    return {**_measure(run), "versions": {f"peer {k}": v for k, v in versions.items()}}


class _Tokens:
    """Passes tokens through as text; 0 pads and never occurs, nothing begins or ends."""

    def encode(self, text: str, **_: Any) -> list[int]:
        return json.loads(text)

    def decode(self, ids: list[int], **_: Any) -> str:
        return ""

    def bos_id(self) -> int:
        return 0

    def eos_id(self) -> int:
        return -1

    def pad_id(self) -> int:
        return 0


def _measure(run: Callable[[list[list[int]], float], list[list[int]]]) -> dict[str, Any]:
    import jax

    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    prompts = [[max(t, 1) for t in prompt] for prompt in workload.workload()[0]]
    longest = max(map(len, prompts))
    shorter = [p if len(p) == longest else p[: max(41, len(p) - 1)] for p in prompts]
    counts, seconds = [], []
    for asked, temperature in ((prompts, 1.0), (prompts, 0.9), (shorter, 0.9), (prompts, 1.0)):
        start, before = time.perf_counter(), len(compiled)
        drawn = run(asked, temperature)
        seconds.append(time.perf_counter() - start)
        counts.append(len(compiled) - before)
        assert [len(tokens) for tokens in drawn] == [_NEW.value] * len(asked)
    new = _NEW.value * len(prompts)
    lengths = [_NEW.value] * len(prompts)
    return {
        "seconds": seconds[-1],
        "tokens_per_second": new / seconds[-1],
        "compile_seconds": seconds[0] - seconds[-1],
        "programs": counts[0],
        "recompiled": sum(counts[1:]),
        "gflops": workload.useful_flops(prompts, lengths) / seconds[-1] / 1e9,
        "peak_mib": sides.peak_mib(),
    }


def _bucket() -> int:
    return 1 << (max(map(len, workload.workload()[0])) - 1).bit_length()


if __name__ == "__main__":
    app.run(main)
