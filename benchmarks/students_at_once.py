"""Many students as one program against one after the other: python -m benchmarks.students_at_once.

The peer is ourselves: one call of `finetune.fit` for each student. A call's first step, in which it
compiles, is counted on neither side. Each student has rows of its own, an order of its own, and
--batch rows a step. The sides run in processes of their own; the peer's --alone students are enough
for the rate of one.

--shape=nano: 2 layers, d = 32, 128 tokens of vocabulary; biases and norms are trained; prompts of
20 to 40 tokens, completions of 20 to 30; 8 students at once, and 64. On CPUs together means spread
over a mesh in which each core is a device, as `mesh.split_cpu` makes it. --shape=0.5b: 2 LoRA
students of rank 8 on all projections at Qwen2.5-0.5B's shapes, rows as in `lora_vs_peft`, a core
each, against one student with the threads of both.

One JSON line: the ratio is that of tokens a second, for the larger number of students; those of
each number are in `ours.ratio_at_...`. The floor is that of the operations that cannot be done
without (forward, and gradients that reach what is trained) at the rate of a square float32 matmul,
measured before and after, for the larger number. `ours.products_gflops` is the rate at which the
same operations would run as bare products of their own shapes, with all that they read and write
in the caches; `ours.of_products` our rate by that one (of the nano shape).
"""

import json
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import sides, tuning
from sublim_jax.llm.model.config import Config

_SHAPE = flags.DEFINE_enum("shape", "nano", ["nano", "0.5b"], "Which model, and what is trained.")
flags.DEFINE_multi_integer("students", None, "At once. Default: of the shape.")
flags.DEFINE_integer("steps", None, "Steps that are timed at once. Default: of the shape.")
flags.DEFINE_integer("alone", None, "Students in turn. Default: of the shape.")
flags.DEFINE_integer("alone_steps", None, "Steps timed of each of these.")
flags.DEFINE_integer("batch", None, "Rows of a step. Default: of the shape.")
flags.DEFINE_integer("micro_tokens", None, "Of each student in a pass, at once.")
flags.DEFINE_integer("alone_micro_tokens", None, "Tokens of a pass, in turn.")
_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")

_NANO = Config(
    vocab=128,
    embed=32,
    mlp=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    rope_theta=1e4,
    context=512,
)
_TILE = 64  # tokens of the attention products that are timed
_PRODUCTS = 32  # of a shape, and as many back, timed as one program
_DEFAULTS: dict[str, dict[str, Any]] = {
    "nano": {
        "students": [8, 64],
        "steps": 20,
        "alone": 4,
        "alone_steps": 100,
        "batch": 48,
        "micro_tokens": 1024,
        "alone_micro_tokens": 1024,
    },
    "0.5b": {
        "students": [2],
        "steps": 2,
        "alone": 1,
        "alone_steps": 2,
        "batch": 4,
        "micro_tokens": 512,
        "alone_micro_tokens": 512,
    },
}


def main(_: list[str]) -> None:
    if _SIDE.value:
        print(json.dumps(ours() if _SIDE.value == "ours" else peer()))
        return
    arguments = [f"--shape={_SHAPE.value}"]
    for name, value in settled().items():
        arguments += [f"--{name}={v}" for v in (value if isinstance(value, list) else [value])]
    mine, theirs = sides.in_turn("benchmarks.students_at_once", arguments, _TURNS.value)
    rate = "tokens_per_second"
    for students in settled()["students"]:
        mine[f"ratio_at_{students}"] = mine[f"{rate}_at_{students}"] / theirs[rate]
    most = max(settled()["students"])
    sides.report(
        f"students_at_once_{_SHAPE.value.replace('.', '_')}",
        mine[f"ratio_at_{most}"],
        None,
        mine[f"gflops_at_{most}"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def settled() -> dict[str, Any]:
    """Returns the values of the flags, or their defaults."""
    asked = {name: getattr(flags.FLAGS, name) for name in _DEFAULTS["nano"]}
    return _DEFAULTS[_SHAPE.value] | {k: v for k, v in asked.items() if v is not None}


def ours() -> dict[str, Any]:
    """Trains them at once."""
    from sublim_jax import mesh

    wanted = settled()
    mesh.split_cpu()
    model = _model(mesh.make_mesh())
    floor = [sides.matmul_gflops()]
    out: dict[str, Any] = {}
    for students in sorted(wanted["students"]):
        numbers = tuple(range(students))
        found = _fit(model, numbers, wanted["steps"], wanted["micro_tokens"])
        found["peak_mib"] = tuning.peak_mib()
        out |= {f"{name}_at_{students}": value for name, value in found.items()}
    floor.append(sides.matmul_gflops())
    if _SHAPE.value == "nano":
        products = products_gflops(model.config)
        most = out[f"gflops_at_{max(wanted['students'])}"]
        out |= {"products_gflops": products, "of_products": most / products}
    shared = {"matmul_gflops": float(np.mean(floor)), "peak_mib": tuning.peak_mib()}
    return {**out, **shared, **sides.here()}


def products_gflops(config: Config) -> float:
    """Returns the rate of a student's needed operations as bare products, all devices busy."""
    from sublim_jax.llm.model import parameters
    from sublim_jax.llm.training import flops

    rows, d, tokens = _data(config, 0), config.embed, settled()["micro_tokens"]
    lengths = rows.lengths.astype(np.float64) - 1
    read, seen = lengths.sum(), (lengths * (lengths + 1) / 2).sum() / lengths.sum()
    of_layers = flops.needed(config, read, 0.0, 0.0, kernels=False)
    of_attention = flops.needed(config, read, seen, 0.0, kernels=False) - of_layers
    targets = float((rows.lengths - rows.prompts).sum())
    of_head = flops.needed(config, 0.0, 0.0, targets, kernels=False)
    kernels = parameters.declare(config)["layers"].values()
    sizes = [kernel.shape[1:] for kernel in kernels if len(kernel.shape) == 3]
    heads, wide = config.heads * tokens // _TILE, config.head_dim
    seconds = (
        of_layers / _rate([(tokens, *size) for size in sizes])
        + of_head / _rate([(tokens, d, config.vocab)])
        + of_attention / _rate([(_TILE, wide, _TILE)], (heads,))
    )
    return float((of_layers + of_attention + of_head) / seconds) / 1e9


def _rate(shapes: list[tuple[int, int, int]], batch: tuple[int, ...] = ()) -> float:
    """Returns the operations a second of products [M, K] x [K, N] and back again, [M, N] x [N, K].

    On all devices at once, what is multiplied staying in their caches.

    Args:
      shapes: M, K, N of each.
      batch: sizes of leading axes.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    from benchmarks.gpu import rates
    from sublim_jax.mesh import make_mesh

    whole, over = (jax.device_count(), *batch), PartitionSpec("student")
    one = jax.shard_map(
        lambda x, y: jax.lax.fori_loop(0, _PRODUCTS, lambda _, x: (x @ y) @ y.mT, x),
        mesh=make_mesh(),
        in_specs=over,
        out_specs=over,
    )
    product, done, took = jax.jit(one), 0.0, 0.0
    for m, k, n in shapes:
        x, y = jnp.zeros((*whole, m, k)), jnp.zeros((*whole, k, n))
        done += 2 * 2 * _PRODUCTS * float(np.prod(whole)) * m * k * n
        took += rates.seconds(product, x, y)
    return done / took


def peer() -> dict[str, Any]:
    """Trains them one after the other."""
    wanted, model = settled(), _model(None)
    runs = [
        _fit(model, (number,), wanted["alone_steps"], wanted["alone_micro_tokens"])
        for number in range(wanted["alone"])
    ]
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return {**means, "peak_mib": tuning.peak_mib(), "versions": {}}


def _model(mesh: Any) -> Any:
    from sublim_jax.llm.decoder import Decoder

    return Decoder.init(_NANO if _SHAPE.value == "nano" else tuning.shape("0.5b"), mesh=mesh)


def _data(config: Config, seed: int) -> Any:
    from sublim_jax.llm.training import examples

    nano = _SHAPE.value == "nano"
    lengths: dict[str, Any] = {"prompt": (20, 40), "completion": (20, 30)} if nano else {}
    rows = tuning.make_rows(4 * settled()["batch"], config.vocab, seed, **lengths)
    return examples.collect([examples.Example(*row) for row in rows], config)


def _fit(model: Any, seeds: tuple[int, ...], steps: int, micro_tokens: int) -> dict[str, Any]:
    """Returns numbers of the steps after the first; a seed chooses a student's rows and order."""
    from sublim_jax.llm.training import step

    nano = _SHAPE.value == "nano"
    trained: dict[str, Any] = {"lora": None, "parameters": ("*.bias", "*norm*")} if nano else {}
    batch, data = settled()["batch"], [_data(model.config, seed) for seed in seeds]
    recipe = tuning.recipe(
        **trained,
        batch=batch,
        epochs=steps,
        max_steps=1 + steps,
        micro_tokens=micro_tokens * step.at_once(model.mesh, len(seeds)),
        seed=seeds,
    )
    outcome, numbers = tuning.measured(model, data, recipe)
    assert outcome.steps == [1 + steps] * len(data)
    return {**numbers, "seconds_per_student_step": outcome.seconds / steps / len(data)}


if __name__ == "__main__":
    app.run(main)
