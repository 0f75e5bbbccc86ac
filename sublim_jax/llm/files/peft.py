"""LoRA adapters as PEFT files, for `peft`, vLLM and others, both ways."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sublim_jax.errors import UserError
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import KERNELS, Adapter, Lora, check

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(
    r"base_model\.model\.model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)_proj\.lora_([AB])\.weight"
)
# What a PEFT file may say that changes what the adapter computes, and that is not done here.
_UNSUPPORTED = (
    "use_dora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "lora_bias",
)


def save(adapter: Adapter, path: str | os.PathLike[str]) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors`, for `peft`, vLLM and others.

    Raises:
      UserError: the folder cannot be written; nothing is left half-written, but a folder that held
        an adapter may hold none.
    """
    lora = adapter.lora
    names = _hf_names()
    tensors = {}
    for name in lora.targets:
        for ours, theirs in (("a", "A"), ("b", "B")):
            for layer, value in enumerate(np.asarray(adapter.factors[name][ours], np.float32)):
                tensor = f"base_model.model.{names[name].format(layer)}.lora_{theirs}.weight"
                tensors[tensor] = np.ascontiguousarray(value.T)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": [names[name].rpartition(".")[2] for name in lora.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
    }
    target = Path(path)
    try:
        target.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=target))
    except OSError as error:
        raise UserError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        save_file(tensors, temporary / _TENSORS, metadata={"format": "pt"})
        (temporary / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        (target / _CONFIG).unlink(missing_ok=True)  # it is never beside other tensors than its own
        for name in (_TENSORS, _CONFIG):
            (temporary / name).replace(target / name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Returns whether the folder is that of a PEFT adapter."""
    return (Path(path) / _CONFIG).exists()


def load(path: str | os.PathLike[str], config: Config | None = None) -> Adapter:
    """Returns the LoRA adapter of a PEFT folder.

    Args:
      config: of the base; given, the adapter must fit it.

    Raises:
      UserError: a missing or damaged file, a kind of adapter that is not LoRA on a decoder's
        kernels, a feature that is not supported, or another base.
    """
    folder = Path(path)
    said = _config(folder / _CONFIG)
    try:
        tensors = load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / _TENSORS}: missing, truncated or damaged ({error})") from error
    found: dict[str, dict[str, dict[int, np.ndarray]]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if not match or match[2] not in KERNELS:
            raise UserError(f"{folder / _TENSORS}: {name}: not a LoRA factor of a decoder's kernel")
        if not np.isfinite(tensor.astype(np.float32)).all():
            raise UserError(f"{folder / _TENSORS}: {name}: NaN or infinite numbers")
        factor = found.setdefault(match[2], {"a": {}, "b": {}})[match[3].lower()]
        factor[int(match[1])] = tensor.astype(np.float32).T
    if not found:
        raise UserError(f"{folder / _TENSORS}: no tensors")
    targets = tuple(name for name in KERNELS if name in found)
    modules = said.get("target_modules")
    if isinstance(modules, list):  # a text is a regular expression over all of a model's modules
        named = [str(m).rpartition(".")[2].removesuffix("_proj") for m in modules]
        if {*named} & {*KERNELS} != {*targets}:
            raise UserError(
                f"{folder / _CONFIG}: target_modules names {', '.join(named)}, the tensors are "
                f"those of {', '.join(targets)}"
            )
    try:
        lora = Lora(
            rank=said.get("r"),  # type: ignore[arg-type]
            alpha=said.get("lora_alpha"),  # type: ignore[arg-type]
            targets=targets,
            rslora=said.get("use_rslora") or False,
            dropout=said.get("lora_dropout") or 0.0,
        )
    except UserError as error:
        raise UserError(f"{folder / _CONFIG}: {error}") from error
    depth = 1 + max(layer for f in found.values() for part in f.values() for layer in part)
    factors: dict[str, Any] = {}
    for name in lora.targets:
        factors[name] = {}
        for part, by_layer in found[name].items():
            shapes = {tensor.shape for tensor in by_layer.values()}
            for shape in shapes:
                if len(shape) != 2 or shape[part == "a"] != lora.rank:
                    raise UserError(
                        f"{folder / _TENSORS}: {part} of {name} is {list(shape)}: not of the rank "
                        f"{lora.rank}"
                    )
            if sorted(by_layer) != list(range(depth)) or len(shapes) > 1:
                raise UserError(
                    f"{folder / _TENSORS}: {part} of {name} is not there for all of {depth} "
                    "layers, in one shape: adapters of some layers only are not supported"
                )
            factors[name][part] = np.stack([by_layer[i] for i in range(depth)])
    adapter = Adapter(lora, factors, str(said.get("base_model_name_or_path") or ""))
    if config is not None:
        check(adapter, config, str(folder))
    return adapter


def _config(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing: give the folder of a PEFT adapter") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(said, dict) or said.get("peft_type") != "LORA":
        raise UserError(f"{file}: not the config of a LoRA adapter (peft_type LORA)")
    odd = [name for name in _UNSUPPORTED if said.get(name)]
    if said.get("bias", "none") != "none":
        odd.append(f"bias {said['bias']!r}")
    if odd:
        raise UserError(f"{file}: not supported: {', '.join(odd)}")
    return said


def _hf_names() -> dict[str, str]:
    """Returns each kernel's module in a checkpoint, `{}` standing for the layer."""
    any_size = Config(vocab=1, embed=1, mlp=1, layers=1, heads=1, kv_heads=1, head_dim=2)
    layers = parameters.declare(any_size)["layers"]
    return {name: layers[name].hf.removesuffix(".weight") for name in KERNELS}
