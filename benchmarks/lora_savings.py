"""What a LoRA fine-tune need not do, against ourselves doing it: python -m benchmarks.lora_savings.

Qwen2.5-0.5B's shapes with random weights, an adapter of rank 8, --batch rows a step as in
`lora_vs_peft`, of which the first 24 tokens are the same, as a chat template's system message is.
The peer is float32, adapts all layers and reads rows without a common beginning; ours are the
others: rows with it, the upper half of the layers, bfloat16 weights, and some together. Each runs
in turn in one process; the first step is not counted.

One JSON line: the ratio is that of seconds a step, with all three; `ours.seconds_per_step` has
each. Memory and the floor are not measured.
"""

from typing import Any

from absl import app, flags

from benchmarks import sides, tuning

_SHAPE = flags.DEFINE_enum("shape", "0.5b", ["0.5b", "tiny"], "Which model.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps that are timed, after one that is not.")
_BATCH = flags.DEFINE_integer("batch", 16, "Rows of a step.")
_COMMON = 24  # tokens that all prompts begin with


def main(_: list[str]) -> None:
    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.model.lora import Lora

    shape = tuning.shape(_SHAPE.value)
    apart = tuning.make_rows(_BATCH.value * (1 + _STEPS.value), shape.vocab)
    first = apart[0][0][:_COMMON]
    alike = [([*first, *prompt[_COMMON:]], completion) for prompt, completion in apart]
    upper = tuple(range(shape.layers // 2, shape.layers))

    def seconds(dtype: str, rows: list[tuning.Row], layers: tuple[int, ...] = ()) -> float:
        model = Decoder.init(shape, dtype=dtype)
        lora = Lora(tuning.RANK, tuning.RANK, layers=layers)
        recipe = tuning.recipe(batch=_BATCH.value, lora=lora)
        data = tuning.data_of(rows, _BATCH.value, shape)
        outcome, _ = tuning.measured(model, [data], recipe)
        return float(outcome.seconds) / _STEPS.value

    theirs = {"seconds_per_step": seconds("float32", apart), "versions": {}}
    mine: dict[str, Any] = {
        "common_prefix": seconds("float32", alike),
        "upper_half": seconds("float32", apart, upper),
        "upper_half_and_common_prefix": seconds("float32", alike, upper),
        "bfloat16": seconds("bfloat16", apart),
        "bfloat16_and_common_prefix": seconds("bfloat16", alike),
        "all_three": seconds("bfloat16", alike, upper),
    }
    sides.report(
        f"lora_savings_{_SHAPE.value.replace('.', '_')}",
        theirs["seconds_per_step"] / mine["all_three"],
        None,
        None,
        {"seconds_per_step": mine, **sides.here()},
        theirs,
    )


if __name__ == "__main__":
    app.run(main)
