"""LoRA fine-tuning, ours against Tunix's PeftTrainer: python -m benchmarks.finetune_vs_tunix.

Both train an adapter of rank 8 on all seven projections of the same random weights in float32, on
the same jax: Qwen2.5-0.5B's shapes. Rows are of unequal length: prompts of 60 to 130 random tokens,
completions of 20 to 50, which alone are learnt. Each step learns --batch rows of its own, the same
on both sides. Tunix runs as it documents its trainer: the default loss, qwix's LoRA, rows
right-padded to one width (192 tokens, the least multiple of 64 that holds them all), no
checkpoints, no metrics backend. Ours packs the rows.

One JSON line: the ratio is that of tokens a second, padding not counted; it is that of the
completions' tokens as well, whose rates are beside it. `ours.compile_ratio` is our seconds of
compiling over Tunix's, its target 1/2: the wall time that jax's events of tracing, lowering and
compiling cover, in our `fit` and in its `train`. The first step, in which that happens, is not
counted in the rates. Floor as in `lora_vs_peft`. Each side runs in a process of its own.

--tunix_python is the interpreter of an environment with google-tunix 0.1.7 and the jax of this one;
its dependencies exclude ours. --shape=tiny tries the program out.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import sides, tuning

_TUNIX_PYTHON = flags.DEFINE_string("tunix_python", "", "Python of an environment with Tunix.")
_SHAPE = flags.DEFINE_enum("shape", "0.5b", ["0.5b", "tiny"], "Which model.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps that are timed, after one that compiles.")
_BATCH = flags.DEFINE_integer("batch", 8, "Rows of a step.")
_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")
_FOLDER = flags.DEFINE_string("folder", "", "Where --side finds the checkpoint.")

_TARGET = 1.5
_COMPILE_TARGET = 0.5
_PROJECTIONS = ".*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
_SAME_LOSS = 5e-3  # other rows differ by more; the adapters' first values are not the same


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    if not Path(_TUNIX_PYTHON.value).is_file():
        sys.exit(
            "error: --tunix_python: name the Python of an environment with google-tunix==0.1.7 "
            "and the jax of this one"
        )
    with tempfile.TemporaryDirectory() as folder:
        tuning.write(folder, tuning.shape(_SHAPE.value))
        arguments = [f"--{flag.name}={flag.value}" for flag in (_SHAPE, _STEPS, _BATCH)]
        mine, theirs = sides.in_turn(
            "benchmarks.finetune_vs_tunix",
            [*arguments, f"--folder={folder}"],
            _TURNS.value,
            _TUNIX_PYTHON.value,
        )
    if abs(mine["loss"] - theirs["loss"]) > _SAME_LOSS:
        sys.exit(f"error: not the same work: losses {mine['loss']} and {theirs['loss']}")
    mine["compile_ratio"] = mine["compile_seconds"] / theirs["compile_seconds"]
    mine["compile_target"] = _COMPILE_TARGET
    sides.report(
        f"finetune_vs_tunix_{_SHAPE.value.replace('.', '_')}",
        mine["tokens_per_second"] / theirs["tokens_per_second"],
        _TARGET,
        mine["gflops"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def rows() -> list[tuning.Row]:
    """Returns those that both sides learn, in order."""
    vocab = json.loads((Path(_FOLDER.value) / "config.json").read_text("utf-8"))["vocab_size"]
    return tuning.make_rows(_BATCH.value * (1 + _STEPS.value), vocab)


def ours() -> dict[str, Any]:
    """Learns them with `finetune.fit`."""
    return tuning.ours(_FOLDER.value, rows(), _BATCH.value)


def peer() -> dict[str, Any]:
    """Learns them with `PeftTrainer`.

    With max_inflight_computations=1 it waits for a step's loss before it starts the next, and for
    the last before it ends: the time between two starts is that of a step, its input and logging
    included.
    """
    from importlib import metadata

    import jax
    import optax
    from tunix.sft import hooks, peft_trainer
    from tunix.sft import utils as tunix_utils

    class Hooks(hooks.TrainingHooks):
        def __init__(self) -> None:
            self.times: list[float] = []
            self.losses: list[float] = []

        def on_train_start(self, train_ctx: Any) -> None: ...

        def on_train_end(self, train_ctx: Any) -> None:
            self.times.append(time.perf_counter())

        def on_train_step_start(self, train_ctx: Any) -> None:
            self.times.append(time.perf_counter())

        def on_train_step_end(self, train_ctx: Any, train_step: int, train_loss: float) -> None:
            self.losses.append(float(train_loss))

        def on_eval_step_start(self, train_ctx: Any) -> None: ...

        def on_eval_step_end(self, train_ctx: Any, eval_loss: float) -> None: ...

    def model_input(given: Any) -> dict[str, Any]:
        real = given.input_tokens != tuning.PAD
        return {
            "input_tokens": given.input_tokens,
            "input_mask": given.input_mask,
            "positions": tunix_utils.build_positions_from_mask(real),
            "attention_mask": tunix_utils.make_causal_attn_mask(real),
        }

    learnt, batch = rows(), _BATCH.value
    batches = [learnt[i : i + batch] for i in range(0, len(learnt), batch)]
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    start = time.perf_counter()
    with mesh:
        model = _load(_FOLDER.value, mesh)
        trainer = peft_trainer.PeftTrainer(
            model,
            optax.chain(
                optax.clip_by_global_norm(tuning.CLIP),
                optax.adamw(tuning.LEARNING_RATE, weight_decay=0.0),
            ),
            peft_trainer.TrainingConfig(
                eval_every_n_steps=len(batches) + 1, max_inflight_computations=1
            ),
        ).with_gen_model_input_fn(model_input)
        hook = Hooks()
        trainer.with_training_hooks(hook)
        loaded = time.perf_counter() - start
        seen = tuning.Compiling()
        trainer.train([peft_trainer.TrainingInput(*_collate(now)) for now in batches])
    first, second, *_, last = hook.times
    versions = {name: metadata.version(name) for name in ("google-tunix", "qwix", "jax")}
    return {
        **tuning.rates(learnt[batch:], batch, last - second, hook.losses[-1]),
        "compile_seconds": seen.seconds,
        "first_step_seconds": second - first,
        "load_seconds": loaded,
        "programs": len(seen.ends),
        "recompiled": sum(end > second for end in seen.ends),
        "peak_mib": sides.peak_mib(),
        "versions": {f"peer {name}": version for name, version in versions.items()},
    }


def _load(folder: str, mesh: Any) -> Any:
    import jax
    from tunix.cli.utils import model as tunix_cli
    from tunix.models.qwen2 import model as tunix_model
    from tunix.models.qwen2 import params

    c = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    config = tunix_model.ModelConfig(
        num_layers=c["num_hidden_layers"],
        vocab_size=c["vocab_size"],
        embed_dim=c["hidden_size"],
        hidden_dim=c["intermediate_size"],
        num_heads=c["num_attention_heads"],
        head_dim=c["head_dim"],
        num_kv_heads=c["num_key_value_heads"],
        rope_theta=int(c["rope_theta"]),
        norm_eps=c["rms_norm_eps"],
        use_tied_embedding=c["tie_word_embeddings"],
    )
    base = params.create_model_from_safe_tensors(folder, config, mesh, dtype=jax.numpy.float32)
    lora = {"module_path": _PROJECTIONS, "rank": tuning.RANK, "alpha": float(tuning.RANK)}
    return tunix_cli.apply_lora_to_model(base, mesh, lora)


def _collate(rows: list[tuning.Row]) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(rows), tuning.WIDTH)
    tokens, wanted = np.full(shape, tuning.PAD, np.int32), np.zeros(shape, bool)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        tokens[i, :end] = prompt + completion
        wanted[i, len(prompt) : end] = True
    return tokens, wanted


if __name__ == "__main__":
    app.run(main)
