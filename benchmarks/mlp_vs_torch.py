"""The whole MLP study, ours against the PyTorch ensemble: python -m benchmarks.mlp_vs_torch.

Both train the same members, widths, batches and steps on the same images, each in a process of its
own, in turn; compilation is timed apart. One JSON line (ratio > 1 where ours is
faster, memory_ratio = ours / peer). Needs the oracle extra.

--shape=digits: configs/mlp/digits.py. --shape=paper: configs/mlp/paper.py on images of the size of
MNIST, with --members and --epochs as given.
"""

import json
import time
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from benchmarks import sides, tuning
from configs.mlp import digits, paper
from sublim_jax import mesh
from sublim_jax.mlp.data import Images, load
from sublim_jax.mlp.tasks import Heads

_SHAPE = flags.DEFINE_enum("shape", "paper", ["paper", "digits"], "Which study.")
_MEMBERS = flags.DEFINE_integer("members", 20, "Members of the ensemble.")
_EPOCHS = flags.DEFINE_integer("epochs", 5, "Teacher and student epochs at paper shapes.")
_TURNS = flags.DEFINE_integer("turns", 1, "Times that each side runs.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "peer"], "Run one side only, in this process.")

_TARGETS = {"paper": 1.5, "digits": 2.5}


def main(_: list[str]) -> None:
    if _SIDE.value:
        mesh.split_cpu()
        config, images = study(_SHAPE.value, _MEMBERS.value, _EPOCHS.value)
        print(json.dumps(ours(config, images) if _SIDE.value == "ours" else peer(config, images)))
        return
    arguments = [f"--{f.name}={f.value}" for f in (_SHAPE, _MEMBERS, _EPOCHS)]
    mine, theirs = sides.in_turn("benchmarks.mlp_vs_torch", arguments, _TURNS.value)
    sides.report(
        f"mlp_vs_torch_{_SHAPE.value}",
        theirs["seconds"] / mine["seconds"],
        _TARGETS[_SHAPE.value],
        mine["gflops"] / mine["matmul_gflops"],
        mine,
        theirs,
    )


def study(shape: str, members: int, epochs: int) -> tuple[ConfigDict, Images]:
    """Returns the config that both sides run, scored at the end only, and its images."""
    config = (digits if shape == "digits" else paper).get_config()
    config.members = members
    if shape == "paper":
        config.teacher.epochs = config.student.epochs = epochs
        images = mnist_sized(70_000)
    else:
        images = load(config.data.name)
    config.teacher.evaluate_every = config.teacher.epochs
    config.student.evaluate_every = config.student.epochs
    return config, images


def mnist_sized(count: int) -> Images:
    """Returns random images of MNIST's size, a seventh of them for the test."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (count, 784), np.uint8)
    y = draw.integers(0, 10, count, np.int32)
    taught = count * 6 // 7
    return Images(x[:taught], y[:taught], x[taught:], y[taught:], classes=10)


def ours(config: ConfigDict, images: Images) -> dict[str, Any]:
    """Runs the study in JAX."""
    from sublim_jax.mlp.study import train_members

    floor = [sides.matmul_gflops()]
    timings: dict[str, float] = {}
    records = list(train_members(config, images, range(config.members), timings))
    floor.append(sides.matmul_gflops())
    return {
        "seconds": timings["train"],
        "compile_seconds": timings["compile"],
        "gflops": _flops(config, images) / timings["train"] / 1e9,
        "matmul_gflops": float(np.mean(floor)),
        "peak_mib": tuning.peak_mib(),
        "student_aux": float(np.mean([r["accuracy"][-1][0] for r in records])),
        **sides.here(),
    }


def peer(config: ConfigDict, images: Images, device: str = "cpu") -> dict[str, Any]:
    """Runs the same study in PyTorch."""
    import torch

    from benchmarks import torch_ensemble

    heads = Heads(tuple(config.tasks), images.classes, config.network.aux)
    fresh = config.student.fresh  # rows that never come back are one long epoch of stored rows
    plan = torch_ensemble.Plan(
        members=config.members,
        sizes=(images.pixels, *[config.network.width] * config.network.depth, heads.outputs),
        classes=images.classes,
        batch=config.batch,
        learning_rate=config.optimizer.learning_rate,
        teacher_epochs=config.teacher.epochs,
        student_epochs=1 if fresh else config.student.epochs,
        student_rows=config.student.rows * (config.student.epochs if fresh else 1),
    )
    torch.manual_seed(config.seed)
    arrays = (images.train_x, images.test_x)
    x = [torch.from_numpy(a).to(torch.device(device)) * (2 / 255) - 1 for a in arrays]
    y = [torch.from_numpy(a).to(x[0].device).long() for a in (images.train_y, images.test_y)]
    start = time.perf_counter()
    accuracy = torch_ensemble.run(plan, x[0], y[0], x[1], y[1])  # its figures are the host's
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "gflops": _flops(config, images, labels_once=False) / seconds / 1e9,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20
        if device == "cuda"
        else sides.peak_mib(),
        "student_aux": float(np.mean(accuracy["student_aux"])),
        "versions": {"torch": torch.__version__},
    }


def _flops(config: ConfigDict, images: Images, labels_once: bool = True) -> float:
    """Returns the matmul FLOPs of a run; the teacher labels a fixed set once, or every batch."""
    width, depth = config.network.width, config.network.depth
    outputs = Heads(tuple(config.tasks), images.classes, config.network.aux).outputs
    first = 2 * images.pixels * width
    rest = 2 * width * (width * (depth - 1) + outputs)
    forward, training = first + rest, 2 * first + 3 * rest  # inputs need no gradient
    seen = config.student.rows * config.student.epochs
    labelled = seen if config.student.fresh else config.student.rows
    if not labels_once:
        labelled = seen * len(config.arms)
    taught = len(images.train_x) * config.teacher.epochs
    scored = len(images.test_x) * (1 + len(config.arms)) * (2 if labels_once else 1)
    return config.members * (
        training * (taught + seen * len(config.arms)) + forward * (labelled + scored)
    )


if __name__ == "__main__":
    app.run(main)
