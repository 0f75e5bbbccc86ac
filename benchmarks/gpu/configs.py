"""Two steps of every student config of configs/llm that one GPU holds, with random weights.

The pod's is lowered only. The loss of the second step is near that of guessing. That of the small
models on a few rows is compared with a CPU's; the others would take a CPU too long.
"""

import dataclasses
import functools
import importlib
import math
from typing import Any

from benchmarks import tuning
from benchmarks.gpu import Parts, lowering
from benchmarks.gpu.table import Found, Row

_SIZES = {  # what `lora` has not run comes first
    "student_0_5b": "0.5b",
    "student_14b": "14b",
    "student_1_5b": "1.5b",
    "student_7b": "7b",
    "student_tiny": "tiny",
    "student_72b_pod": "72b",
}
_POD = "student_72b_pod"
_OF_A_CPU = ("student_tiny", "student_0_5b")
_FEW = 8  # rows
_DEVICES = 8  # that the lowered meshes have at most


def ours(tiny: bool) -> Parts:
    """Returns a part for each config that one GPU may hold."""
    whole = [(name, functools.partial(_run, name, tiny)) for name in _SIZES if name != _POD]
    return [*cpu(tiny), *whole]


def cpu(tiny: bool) -> Parts:
    """Returns the parts that are compared with a CPU's."""
    return [(_few(name), functools.partial(_run, name, tiny, _FEW)) for name in _OF_A_CPU]


def lowered() -> Parts:
    """Returns a part for each config, on a mesh as it says, of eight devices at most."""
    import jax

    from sublim_jax.llm.training import finetune
    from sublim_jax.mesh import make_mesh

    jax.config.update("jax_num_cpu_devices", _DEVICES)

    def run(name: str) -> dict[str, Any]:
        config, recipe = _read(name)
        axes = dict(config.mesh)
        axes["model"] = min(axes["model"], _DEVICES // axes["data"])
        mesh = make_mesh(**axes) if max(axes.values()) > 1 else None
        model = lowering.abstract(tuning.shape(_SIZES[name]), config.dtype, mesh)
        data = _rows(recipe.batch, model.config)
        return lowering.lower(lambda: finetune.fit(model, [data], recipe), "train_step")

    return [(name, functools.partial(run, name)) for name in _SIZES]


def figures(found: Found) -> list[Row]:
    """Returns each config's loss and memory."""
    rows = []
    for name in (name for name in _SIZES if name != _POD):
        loss, guess = (found.get("ours", name, figure) for figure in ("loss", "guess"))
        memory = found.get("ours", name, "peak_mib")
        rows.append(Row(f"{name}: loss of the second step less that of guessing",
                        None if loss is None else loss - guess, "near 0"))  # fmt: skip
        if name in _OF_A_CPU:
            few, other = (found.get(side, _few(name), "loss") for side in ("ours", "cpu"))
            apart = None if few is None or other is None else abs(few - other)
            rows.append(Row(f"- of {_FEW} rows: from a CPU's", apart, "<= .001"))
        rows.append(Row("- most memory so far, GiB", None if memory is None else memory / 1024))
    return rows


def _few(name: str) -> str:
    return f"{name} of {_FEW} rows"


def _run(name: str, tiny: bool, batch: int = 0) -> dict[str, Any]:
    """Returns the loss of the second step, and what it took; `batch`: other than the config's."""
    from benchmarks.gpu import rates

    config, recipe = _read(name)
    shape = tuning.shape("tiny" if tiny else _SIZES[name])
    if tiny:
        recipe = dataclasses.replace(recipe, batch=4, micro_tokens=512)
    recipe = dataclasses.replace(recipe, batch=batch or recipe.batch)
    model = rates.random_model(shape, config.dtype)
    outcome, numbers = tuning.measured(model, [_rows(recipe.batch, shape)], recipe)
    loss, guess = outcome.loss[0], math.log(shape.vocab)
    return {**numbers, "loss": loss, "guess": guess, "peak_mib": tuning.peak_mib()}


def _read(name: str) -> tuple[Any, Any]:
    from sublim_jax.llm.training.recipe import from_config

    config = importlib.import_module(f"configs.llm.{name}").get_config()
    return config, dataclasses.replace(from_config(config.recipe.to_dict()), max_steps=2)


def _rows(batch: int, config: Any) -> Any:
    return tuning.data_of(tuning.make_rows(2 * batch, config.vocab), batch, config)
