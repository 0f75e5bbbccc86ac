"""LoRA fine-tuning, ours against transformers and peft: python -m benchmarks.lora_vs_peft.

Qwen2.5-0.5B's shapes with random weights in float32, or in bfloat16 by --dtype; an adapter of rank
8 on all seven projections that both start from; AdamW, clipped. Rows are of unequal length: prompts
of 60 to 130 random tokens, completions of 20 to 50, which alone are learnt. Each step learns
--batch rows of its own, the same on both sides; the losses of the last step must agree. The first
step compiles or warms up and is not counted. The peer right-pads each of its passes of --micro rows
to their longest row, and computes logits of every token, as transformers does by default. Each side
runs in a process of its own, twice: the second time the peer computes logits of the completions'
tokens alone, a stronger peer that people would have to write themselves; its figures are under
`peer.completion_logits...`.

One JSON line; the ratio is that of completion tokens a second. The floor is that of the operations
that cannot be done without at the rate of a square float32 matmul, measured before and after.
Needs the oracle extra, and peft. --shape=tiny tries the program out.
"""

import json
import sys
import tempfile
from typing import Any

from absl import app, flags

from benchmarks import lora_peft_peer, sides, tuning

_SHAPE = flags.DEFINE_enum("shape", "0.5b", ["0.5b", "tiny"], "Which model.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps that are timed, after one that is not.")
_BATCH = flags.DEFINE_integer("batch", 16, "Rows of a step.")
_MICRO = flags.DEFINE_integer("micro", 8, "Rows of one pass of the peer; divides --batch.")
_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the weights.")
_FOLDER = flags.DEFINE_string("folder", "", "Where --side finds the checkpoint.")
_COMPLETION_LOGITS = flags.DEFINE_bool(
    "completion_logits", False, "With --side=peer: logits of the completions' tokens alone."
)

_TARGET = 1.5
_SAME_LOSS = {"float32": 2e-3, "bfloat16": 1e-2}  # other rows differ by twice as much and more


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    arguments = [f"--{flag.name}={flag.value}" for flag in (_SHAPE, _STEPS, _BATCH, _MICRO, _DTYPE)]
    with tempfile.TemporaryDirectory() as folder:
        tuning.write(folder, tuning.shape(_SHAPE.value), _DTYPE.value)
        pairs = [
            sides.in_turn(
                "benchmarks.lora_vs_peft",
                [*arguments, f"--folder={folder}", f"--completion_logits={asked}"],
                _TURNS.value,
            )
            for asked in (False, True)
        ]
    for mine, theirs in pairs:
        if abs(mine["loss"] - theirs["loss"]) > _SAME_LOSS[_DTYPE.value]:
            sys.exit(f"error: not the same work: losses {mine['loss']} and {theirs['loss']}")
    (mine, theirs), (mine_again, stronger) = pairs
    rate = "completion_tokens_per_second"
    mine["second_run"] = {k: mine_again[k] for k in (rate, "seconds_per_step", "matmul_gflops")}
    theirs["completion_logits_tokens_per_second"] = stronger[rate]
    theirs["completion_logits_ratio"] = mine_again[rate] / stronger[rate]
    theirs["completion_logits_peak_mib"] = stronger["peak_mib"]
    half = "_bfloat16" * (_DTYPE.value == "bfloat16")
    sides.report(
        f"lora_vs_peft_{_SHAPE.value.replace('.', '_')}{half}",
        mine[rate] / theirs[rate],
        _TARGET,
        mine["gflops"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def rows() -> list[tuning.Row]:
    """Returns those that both sides learn, in order."""
    return tuning.make_rows(_BATCH.value * (1 + _STEPS.value), tuning.shape(_SHAPE.value).vocab)


def ours() -> dict[str, Any]:
    """Learns them with `finetune.fit`."""
    return tuning.ours(_FOLDER.value, rows(), _BATCH.value, _DTYPE.value)


def peer() -> dict[str, Any]:
    """Learns them with transformers and peft."""
    return lora_peft_peer.peer(
        _FOLDER.value,
        rows(),
        _BATCH.value,
        _MICRO.value,
        _COMPLETION_LOGITS.value,
        _DTYPE.value,
    )


if __name__ == "__main__":
    try:
        app.run(main)
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is missing: install the oracle extra, and peft")
