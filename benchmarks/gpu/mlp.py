"""The paper's setting, configs/mlp/paper.py, on random images of MNIST's size.

The peer is `torch_ensemble` on the same GPU: as written, in float32, and with the products of
float32 that jax takes there by default, TF32.
"""

from typing import Any

from benchmarks.gpu import Parts, lowering
from benchmarks.gpu.table import Found, Row, ratio

_MEMBERS, _EPOCHS = 100, 5


def ours(tiny: bool) -> Parts:
    """Returns the whole study, compiled apart."""
    from benchmarks import mlp_vs_torch
    from benchmarks.gpu import rates

    def study() -> dict[str, Any]:
        found = mlp_vs_torch.ours(*_study(tiny))
        rate = rates.product(tiny, "float32")
        return {**found, "of_matmul": found["gflops"] * 1e9 / rate, "flops_per_second": rate}

    return [("study", study)]


def peer(tiny: bool) -> Parts:
    """Returns the same in PyTorch, after a short study that warms it up."""
    import torch

    from benchmarks import mlp_vs_torch

    device = "cpu" if tiny else "cuda"

    def study(precision: str) -> dict[str, Any]:
        torch.set_float32_matmul_precision(precision)
        mlp_vs_torch.peer(*_study(True), device)
        return mlp_vs_torch.peer(*_study(tiny), device)

    return [("float32", lambda: study("highest")), ("TF32", lambda: study("high"))]


def lowered() -> Parts:
    """Returns the part that lowers the study's program."""
    from sublim_jax import mesh
    from sublim_jax.mlp.study import train_members

    def study() -> None:
        config, images = _study(False)
        list(train_members(config, images, range(_MEMBERS), {}, mesh.make_mesh(student=1)))

    return [("study", lambda: lowering.lower(study))]


def figures(found: Found) -> list[Row]:
    """Returns the seconds and the ratios."""
    seconds = found.get("ours", "study", "seconds")
    theirs = {name: found.get("peer", name, "seconds") for name in ("float32", "TF32")}
    return [
        Row("configs/mlp/paper.py, seconds", seconds, "<= 10"),
        Row("- with compilation: seconds more", found.get("ours", "study", "compile_seconds")),
        Row("- of the rate of a large float32 product", found.get("ours", "study", "of_matmul")),
        Row("- times as fast as the PyTorch script", ratio(theirs["float32"], seconds), ">= 10"),
        Row("- and with TF32 in that script", ratio(theirs["TF32"], seconds)),
    ]


def _study(tiny: bool) -> tuple[Any, Any]:
    from benchmarks import mlp_vs_torch

    config, images = mlp_vs_torch.study("paper", 2 if tiny else _MEMBERS, 1 if tiny else _EPOCHS)
    if tiny:
        images = mlp_vs_torch.mnist_sized(2800)
        config.student.rows = config.match.rows = len(images.train_x)
    return config, images
