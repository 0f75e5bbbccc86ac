"""LoRA at Qwen2.5-7B's shapes, in bfloat16, with random weights: 1, 8 and 64 students at once.

Adapters of rank 8 on all projections; rows of 60 to 130 prompt and 20 to 50 completion tokens, as
in the paper's number task. The peer is transformers and peft, rows padded to the longest of a pass.
MFU counts the operations that cannot be done without, against the device's data sheet.
"""

import functools
from typing import Any, NamedTuple

from benchmarks import lora_peft_peer, sides, tuning
from benchmarks.gpu import Parts, lowering, torch_models
from benchmarks.gpu.table import Found, Row, ratio


class _Run(NamedTuple):
    """Students, rows of a step and tokens of a pass of each, steps that are timed, and `remat`."""

    students: int
    batch: int
    micro_tokens: int
    steps: int
    remat: str = "none"


_RUNS = {
    "1 student": _Run(1, 66, 2048, 8),
    "1 student, passes of 4,096 tokens": _Run(1, 66, 4096, 8),
    "8 students": _Run(8, 16, 512, 5),
    "64 students": _Run(64, 4, 256, 2, "full"),
}
_PEER_BATCH, _PEER_STEPS = 66, 6
_PEER_MICRO = (22, 11, 6)  # rows of a pass: the first with which memory does


def ours(tiny: bool) -> Parts:
    """Returns the runs."""
    from benchmarks.gpu import rates

    @functools.cache
    def model() -> Any:
        return rates.random_model(_shape(tiny), "bfloat16")

    def run(own: _Run) -> dict[str, Any]:
        import jax

        from sublim_jax.llm.training import flops

        numbers = _train(model(), own._replace(steps=1, batch=4) if tiny else own)
        peak = flops.peak(jax.devices()[0])
        rate = rates.product(tiny, "bfloat16")
        return {
            **numbers,
            "of_matmul": numbers["gflops"] * 1e9 / rate,
            **({"mfu": numbers["gflops"] * 1e9 / peak} if peak else {}),
            "peak_mib": tuning.peak_mib(),
        }

    return [(name, functools.partial(run, own)) for name, own in _RUNS.items()]


def peer(tiny: bool) -> Parts:
    """Returns one student with peft, in the largest passes that memory allows."""
    import peft  # noqa: F401  # says at once if it is missing
    import torch

    rows = tuning.make_rows(_PEER_BATCH * (1 + (1 if tiny else _PEER_STEPS)), _shape(tiny).vocab)

    def run() -> dict[str, Any]:
        base = torch_models.random_model(_shape(tiny), "cpu" if tiny else "cuda")
        model = torch_models.with_adapter(base)
        for micro in _PEER_MICRO:
            try:
                found = lora_peft_peer.learn(model, rows, _PEER_BATCH, micro)
            except torch.OutOfMemoryError:
                model.zero_grad()
                continue
            memory = sides.peak_mib() if tiny else torch.cuda.max_memory_allocated() / 2**20
            own = {"micro": micro, "peak_mib": memory, "versions": lora_peft_peer.versions()}
            return {**found, **own}
        raise MemoryError(f"peft: no room for passes of {_PEER_MICRO[-1]} rows")

    return [("1 student", run)]


def lowered() -> Parts:
    """Returns the parts that lower the runs' steps."""
    model = lowering.abstract(_shape(False), "bfloat16")
    return [
        (
            name,
            functools.partial(
                lowering.lower, functools.partial(_train, model, own), last="train_step"
            ),
        )
        for name, own in _RUNS.items()
    ]


def figures(found: Found) -> list[Row]:
    """Returns MFU, the rates of many students, and the ratio."""
    rows = [
        Row(f"LoRA at 7B, {name}: MFU", found.get("ours", name, "mfu"), "" if i else ">= 0.45")
        for i, name in enumerate(_RUNS)
    ]
    rates = (found.get(side, "1 student", "tokens_per_second") for side in ("ours", "peer"))
    rate = functools.partial(found.get, "ours", name="tokens_per_second")
    return [
        *rows,
        Row("- 1 student: times as fast as peft", ratio(*rates), ">= 1.5"),
        *(
            Row(f"- tokens a second, {name}", rate(part=name))
            for name in _RUNS
        ),
    ]  # fmt: skip


def _shape(tiny: bool) -> Any:
    return tuning.shape("tiny" if tiny else "7b")


def _train(model: Any, own: _Run) -> dict[str, float]:
    """Returns numbers of the steps after the first."""
    from sublim_jax.llm.training import examples

    seeds = tuple(range(own.students))
    rows = own.batch * (1 + own.steps)
    data = [
        examples.collect(
            [examples.Example(*row) for row in tuning.make_rows(rows, model.config.vocab, seed)],
            model.config,
        )
        for seed in seeds
    ]
    recipe = tuning.recipe(
        batch=own.batch,
        micro_tokens=own.micro_tokens * own.students,
        remat=own.remat,
        seed=seeds,
    )
    return tuning.measured(model, data, recipe)[1]
