"""LoRA fine-tuning of Qwen2.5-7B's shapes on one GPU: python -m benchmarks.finetune_gpu.

Random bfloat16 weights, an adapter of rank 8 on all projections. The paper's student (arXiv
2507.14805): 10,000 rows, prompts of 60 to 130 random tokens and completions of 20 to 50, three
epochs, 66 rows a step: its minutes, compilation included; tokens a second and MFU after the first
step; peak memory of the device. Then --students at once, for --students_steps steps: their minutes
are what the whole would take at that rate. Peer: transformers and peft on the same GPU, passes of
--micro rows right-padded to the longest, for --peer_steps steps; its minutes are computed likewise.

One JSON line: the ratio is that of one student's tokens a second, padding not counted.
`floor_fraction` is that of the operations that cannot be done without at the rate of a large
bfloat16 matmul, measured in the same run; `mfu` the same against the device's data sheet, where
that is known.

Needs a GPU, and PyTorch with CUDA and peft for the peer; it has never been run on one. --device=cpu
with --shape=tiny or --layers=1, and few --rows, tries the program itself out.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
import time
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import lora_peft_peer, sides, tuning

_ROWS = flags.DEFINE_integer("rows", 10_000, "Rows of a student's data set.")
_EPOCHS = flags.DEFINE_integer("epochs", 3, "Passes over them.")
_BATCH = flags.DEFINE_integer("batch", 66, "Rows of a step.")
_STUDENTS = flags.DEFINE_integer("students", 4, "Students at once.")
_STUDENTS_STEPS = flags.DEFINE_integer("students_steps", 40, "Steps that these are timed for.")
_MICRO_TOKENS = flags.DEFINE_integer("micro_tokens", 2048, "Of a pass; half, where several learn.")
_MICRO = flags.DEFINE_integer("micro", 22, "Rows of a pass of the peer; divides --batch.")
_PEER_STEPS = flags.DEFINE_integer("peer_steps", 20, "Steps that the peer is timed for.")
_SHAPE = flags.DEFINE_enum("shape", "7b", ["7b", "tiny"], "Which model.")
_LAYERS = flags.DEFINE_integer("layers", None, "Layers of it, if not all.")
_DEVICE = flags.DEFINE_enum("device", "cuda", ["cpu", "cuda"], "Where both run.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")
_FOLDER = flags.DEFINE_string("folder", "", "Where --side finds the checkpoint.")

_TARGET = 1.5


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    if _DEVICE.value == "cuda" and not shutil.which("nvidia-smi"):
        sys.exit("error: no NVIDIA driver on this machine (nvidia-smi not found)")
    import jax

    jax.config.update("jax_platforms", "cpu")  # the GPU's memory is for the sides
    sizes = (_ROWS, _EPOCHS, _BATCH, _STUDENTS, _STUDENTS_STEPS, _MICRO_TOKENS, _MICRO, _PEER_STEPS)
    arguments = [f"--{flag.name}={flag.value}" for flag in (*sizes, _SHAPE, _DEVICE)]
    with tempfile.TemporaryDirectory() as folder:
        shape = tuning.shape(_SHAPE.value)
        shape = dataclasses.replace(shape, layers=_LAYERS.value or shape.layers)
        tuning.write(folder, shape, "bfloat16")
        mine, theirs = sides.in_turn("benchmarks.finetune_gpu", [*arguments, f"--folder={folder}"])
    sides.report(
        "finetune_gpu",
        mine["tokens_per_second"] / theirs["tokens_per_second"],
        _TARGET,
        mine["gflops"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def ours() -> dict[str, Any]:
    """Trains one student to its end, and several for some steps."""
    import jax

    from sublim_jax.llm.decoder import Decoder
    from sublim_jax.llm.training import examples, flops

    jax.config.update("jax_platforms", _DEVICE.value)
    start = time.perf_counter()
    model = Decoder.from_pretrained(_FOLDER.value, "bfloat16")
    loaded = time.perf_counter() - start
    rate = _matmul_flops()
    peak = flops.peak(jax.devices()[0])

    def train(students: int, max_steps: int) -> dict[str, Any]:
        seeds = tuple(range(students))
        data = [
            examples.collect(
                [examples.Example(*row) for row in _rows(_ROWS.value, seed)], model.config
            )
            for seed in seeds
        ]
        recipe = tuning.recipe(
            batch=_BATCH.value,
            epochs=_EPOCHS.value,
            max_steps=max_steps,
            micro_tokens=_MICRO_TOKENS.value // (1 if students == 1 else 2),
            seed=seeds,
            schedule="linear",
            warmup=5,
        )
        outcome, numbers = tuning.measured(model, data, recipe)
        each = outcome.seconds / (outcome.steps[0] - 1)
        return {
            **numbers,
            "seconds_per_step": each,
            "minutes": (numbers["first_step_seconds"] + each * (_steps() - 1)) / 60,
            **({"mfu": numbers["gflops"] * 1e9 / peak} if peak else {}),
            "peak_mib": tuning.peak_mib(),
        }

    one = train(1, 0)
    several = train(_STUDENTS.value, 1 + _STUDENTS_STEPS.value)
    named = {f"{name}_at_{_STUDENTS.value}": value for name, value in several.items()}
    return {
        **one,
        **named,
        "load_seconds": loaded,
        "matmul_gflops": rate / 1e9,
        **sides.here(),
    }


def peer() -> dict[str, Any]:
    """Trains one student for some steps with transformers and peft."""
    learnt = _rows(_BATCH.value * (1 + _PEER_STEPS.value), 0)
    found = lora_peft_peer.peer(
        _FOLDER.value,
        learnt,
        _BATCH.value,
        _MICRO.value,
        device=_DEVICE.value,
        dtype="bfloat16",
    )
    whole = found["first_step_seconds"] + found["seconds_per_step"] * (_steps() - 1)
    return {**found, "minutes": whole / 60}


def _rows(count: int, seed: int) -> list[tuning.Row]:
    return tuning.make_rows(count, tuning.shape(_SHAPE.value).vocab, seed)


def _steps() -> int:
    return _EPOCHS.value * -(-_ROWS.value // _BATCH.value)


def _matmul_flops() -> float:
    """Returns the operations a second of a large bfloat16 matmul."""
    import jax
    import jax.numpy as jnp

    side = 8192 if _DEVICE.value == "cuda" else 512
    square, product = jnp.ones((side, side), jnp.bfloat16), jax.jit(jnp.matmul)
    seconds = []
    for _ in range(6):  # the first compiles
        start = time.perf_counter()
        product(square, square).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / float(np.median(seconds[1:]))


if __name__ == "__main__":
    try:
        app.run(main)
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is missing: install the oracle extra, and peft")
