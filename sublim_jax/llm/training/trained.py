"""What a student has learnt: in memory, laid over its base, and on disk."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sublim_jax import digest as digests
from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import peft
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import Adapter
from sublim_jax.llm.training import trainable
from sublim_jax.llm.training.trainable import Trainable, Tree
from sublim_jax.mesh import on_host

PARAMETERS = "parameters.safetensors"


@dataclasses.dataclass(frozen=True)
class Trained:
    """What one student has learnt.

    Attributes:
      adapter: its LoRA adapter, or None.
      weights: its own parameters by path, float32, of the chosen layers alone.
      patterns: which parameters these are, as in `Trainable`.
    """

    adapter: Adapter | None = None
    weights: Tree = dataclasses.field(default_factory=dict)
    patterns: tuple[str, ...] = ()

    @property
    def tree(self) -> Tree:
        """All arrays, as a step trains them: {"lora": factors, "weights": {path: array}}."""
        return {"lora": self.adapter.factors if self.adapter else {}, "weights": self.weights}

    def tensors(self, config: Config) -> dict[str, np.ndarray]:
        """Returns the parameters under the names and in the layout of a checkpoint."""
        out = {}
        for path, (names, transposed) in _names(self.patterns, config).items():
            value = self.weights[path]
            parts = value if path.startswith("layers/") else [value]
            for name, part in zip(names, parts, strict=True):
                out[name] = np.ascontiguousarray(part.T if transposed else part)
        return out

    def apply(self, model: Decoder) -> Decoder:
        """Returns the model with these parameters, and the adapter merged in.

        Raises:
          UserError: the model's shapes are others.
        """
        if self.weights:
            model = self._with_parameters(model)
        return model if self.adapter is None else model.merge(self.adapter)

    def save(self, folder: str | os.PathLike[str], config: Config) -> None:
        """Writes PEFT files for the adapter, and `parameters.safetensors` for the rest.

        They come together, in place of what an earlier student left there. The first of several
        processes writes.

        Raises:
          UserError: the folder cannot be written.
        """
        if jax.process_index():
            return
        with disk.together(folder, (*peft.FILES, PARAMETERS)) as new:
            if self.adapter is not None:
                peft.write(self.adapter, new)
            if self.weights:
                save_file(self.tensors(config), new / PARAMETERS)

    def _with_parameters(self, model: Decoder) -> Decoder:
        own, base = Trainable(None, self.patterns), model.pure()
        wanted, _ = jax.eval_shape(lambda: trainable.start(own, model.config, base, jnp.uint32(0)))
        shapes = [{p: w.shape for p, w in t.items()} for t in (self.weights, wanted["weights"])]
        for path in shapes[0] | shapes[1]:
            found, needed = (list(s[path]) if path in s else "none" for s in shapes)
            if found != needed:
                raise UserError(
                    f"parameters made for another base: {path} is {found}, this model's: {needed}"
                )
        weights, _ = trainable.bind(own, model.config, base, {"weights": self.weights}, {})
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), weights, base)
        return Decoder(model.config, placed, model.mesh)


def exists(folder: str | os.PathLike[str]) -> bool:
    """Returns whether a folder holds what `Trained.save` writes, or any PEFT adapter."""
    return peft.is_adapter(folder) or (Path(folder) / PARAMETERS).exists()


def digest(folder: str | os.PathLike[str]) -> str:
    """Returns the digest of what `load` reads.

    Raises:
      UserError: there is nothing to load.
    """
    _check_exists(folder)
    return digests.of_files(folder, (*peft.FILES, PARAMETERS))


def load(folder: str | os.PathLike[str], config: Config) -> Trained:
    """Returns what `Trained.save` wrote, or a PEFT adapter of any origin.

    Args:
      config: of the base.

    Raises:
      UserError: nothing of the kind, a damaged file, or one of another base.
    """
    _check_exists(folder)
    adapter = peft.load(folder, config) if peft.is_adapter(folder) else None
    file = Path(folder) / PARAMETERS
    if not file.exists():
        return Trained(adapter)
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise disk.unreadable(file, error) from error
    patterns = tuple(tensors)
    weights = {}
    try:
        if not patterns:
            raise UserError("no tensors")
        for path, (names, transposed) in _names(patterns, config).items():
            wanted = trainable.declared(config)[path].hf_shape
            for name in names:
                _check_tensor(name, tensors[name], wanted)
            parts = [np.float32(tensors[n].T if transposed else tensors[n]) for n in names]
            weights[path] = np.stack(parts) if path.startswith("layers/") else parts[0]
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    return Trained(adapter, weights, patterns)


def select(model: Decoder, patterns: tuple[str, ...]) -> Trained:
    """Returns the parameters of a model that the patterns name, as if they had been trained."""
    what = Trainable(None, patterns)
    chosen, _ = trainable.start(what, model.config, model.pure(), jnp.uint32(0))
    return Trained(None, jax.tree.map(on_host, chosen["weights"]), patterns)


def from_step(what: Trainable, trained: Tree, fixed: Tree, seed: int, base: str) -> Trained:
    """Returns what one student's arrays of a step have become, on the host."""
    trained, fixed = jax.tree.map(on_host, (trained, fixed))
    adapter = None
    if what.lora is not None:
        own = dataclasses.replace(what.lora, seed=seed)
        factors = trainable.factors_of(trained, fixed)
        if idle := what.lora.idle(len(next(iter(factors.values()))["b"])):
            for factor in factors.values():  # they were no part of the student
                factor["b"] = factor["b"].copy()
                factor["b"][idle] = 0
        adapter = Adapter(own, factors, base)
    return Trained(adapter, trained["weights"], what.patterns)


def _check_exists(folder: str | os.PathLike[str]) -> None:
    if not exists(folder):
        raise UserError(
            f"{folder}: no adapter_config.json and no {PARAMETERS}: give the folder of a PEFT "
            "adapter or of a student"
        )


def _check_tensor(name: str, tensor: np.ndarray, wanted: tuple[int, ...]) -> None:
    if tensor.shape != wanted:
        raise UserError(
            f"made for another base: {name} is {list(tensor.shape)}, this model's: {list(wanted)}"
        )
    if not np.isfinite(tensor.astype(np.float32)).all():
        raise UserError(f"{name}: NaN or infinite numbers")


def _names(patterns: tuple[str, ...], config: Config) -> dict[str, tuple[list[str], bool]]:
    """Returns the tensors of each chosen path in a checkpoint, and whether they are [out, in]."""
    if not patterns:
        return {}
    out = {}
    for path, layers in trainable.selection(Trainable(None, patterns), config).items():
        array: Any = trainable.declared(config)[path]
        names = [array.hf_names[layer] for layer in layers] or array.hf_names
        out[path] = (names, array.transposed)
    return out
