"""What a LoRA fine-tune need not do, against ourselves doing it: python -m benchmarks.lora_savings.

Qwen2.5-0.5B's shapes with random weights, an adapter of rank 8, --batch rows a step as in
`lora_vs_peft`, of which the first 24 tokens are the same, as a chat template's system message is.
The peer is float32, adapts all layers, and its rows share no beginning; it runs before and after
ours, and the mean counts. Ours are five variants: rows with a common beginning, the upper half of
the layers, both, a common beginning in bfloat16, and all three. Each runs in turn in one process;
the first step is not counted. `filling` is the time in which the frozen lower half reads the rows
of a step, which is done once for all epochs.

One JSON line: the ratio is that of the peer's step to one of the upper half with a common beginning
and a third of `filling`, as for three epochs; `ours.ratio_of_steps` leaves filling out. `minutes`
is what five students of 1,000 rows each would take, one after the other, by the steps that were
timed, and `floor_minutes` their needed operations at the rate of a matmul (of filling,
the kernels' alone). The floor's share is that of a step; memory is not measured.
"""

import dataclasses
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import sides, tuning

_SHAPE = flags.DEFINE_enum("shape", "0.5b", ["0.5b", "tiny"], "Which model.")
_STEPS = flags.DEFINE_integer("steps", 2, "Steps that are timed, after one that is not.")
_BATCH = flags.DEFINE_integer("batch", 16, "Rows of a step.")
_COMMON = 24  # tokens that all prompts begin with
_STUDENTS, _ROWS, _EPOCHS = 5, 1000, 3


def main(_: list[str]) -> None:
    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.model.lora import Lora
    from sublim_jax.llm.training import flops

    shape = tuning.shape(_SHAPE.value)
    apart = tuning.make_rows(_BATCH.value * (1 + _STEPS.value), shape.vocab)
    first = apart[0][0][:_COMMON]
    alike = [([*first, *prompt[_COMMON:]], completion) for prompt, completion in apart]
    upper = tuple(range(shape.layers // 2, shape.layers))

    def given(dtype: str, rows: list[tuning.Row], layers: tuple[int, ...]) -> tuple[Any, ...]:
        lora = Lora(tuning.RANK, tuning.RANK, layers=layers)
        data = tuning.data_of(rows, _BATCH.value, shape)
        recipe = tuning.recipe(batch=_BATCH.value, lora=lora)
        return Decoder.init(shape, dtype=dtype), [data], recipe

    def seconds(dtype: str, rows: list[tuning.Row], layers: tuple[int, ...] = ()) -> float:
        outcome, _ = tuning.measured(*given(dtype, rows, layers))
        return float(outcome.seconds) / _STEPS.value

    def filling(rows: list[tuning.Row], step: float) -> float:
        """Returns the seconds for a step's rows, in a fit whose programs are compiled."""
        _, found = tuning.measured(*given("float32", rows, upper))
        before = found["first_step_seconds"] - found["compile_seconds"] - step
        return before / (1 + _STEPS.value)

    floor = [sides.matmul_gflops()]
    all_layers = [seconds("float32", apart)]
    mine = {
        "common_prefix": seconds("float32", alike),
        "upper_half": seconds("float32", apart, upper),
        "upper_half_and_common_prefix": seconds("float32", alike, upper),
    }
    step = mine["upper_half_and_common_prefix"]
    filled = filling(alike, step)
    mine |= {
        "bfloat16_and_common_prefix": seconds("bfloat16", alike),
        "all_three": seconds("bfloat16", alike, upper),
    }
    all_layers.append(seconds("float32", apart))
    floor.append(sides.matmul_gflops())

    whole, rate = float(np.mean(all_layers)), float(np.mean(floor))
    data = tuning.data_of(alike, _BATCH.value, shape)
    half = dataclasses.replace(shape, layers=len(upper))
    each = flops.per_token(half, [data], kernels=False, prefix=_COMMON)
    read = (data.lengths - 1).astype(float)
    needed = each * read.sum() / (1 + _STEPS.value) / 1e9  # of a step
    below = flops.needed(half, (read - _COMMON).sum(), 0.0, 0.0, kernels=False) / 2  # forwards
    below /= (1 + _STEPS.value) * 1e9
    steps = _STUDENTS * _ROWS * _EPOCHS / _BATCH.value / 60
    sides.report(
        f"lora_savings_{_SHAPE.value.replace('.', '_')}",
        whole / (step + filled / _EPOCHS),
        2.0,
        needed / step / rate,
        {
            "seconds_per_step": mine,
            "filling_seconds_per_step": filled,
            "ratio_of_steps": whole / step,
            "minutes": steps * (step + filled / _EPOCHS),
            "floor_minutes": steps * (needed + below / _EPOCHS) / rate,
            "matmul_gflops": rate,
            **sides.here(),
        },
        {"seconds_per_step": all_layers, "minutes": steps * whole, "versions": {}},
    )


if __name__ == "__main__":
    app.run(main)
