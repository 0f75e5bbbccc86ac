"""LoRA adapters as PEFT files, for `peft`, vLLM and others, both ways."""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files.hf import STORED
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import KERNELS, Adapter, Lora, check

FILES = _CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"
# As PEFT writes them; some trainers leave the adapter's name in.
_NAME = re.compile(r"base_model\.model\.(.*\.)(\d+)(\..+)\.lora_([AB])(?:\.default)?\.weight")
# What is used of a config, with the types that PEFT takes (`Lora` checks the numbers).
_USED = {
    "peft_type": str, "r": object, "lora_alpha": object, "lora_dropout": object,
    "use_rslora": object, "target_modules": str | list, "exclude_modules": str | list,
    "layers_to_transform": int | list, "layers_pattern": str | list, "rank_pattern": dict,
    "alpha_pattern": dict,
}  # fmt: skip
# What says nothing of what the adapter computes: where it is from, how it was trained or is run.
_NEUTRAL = (
    "task_type", "inference_mode", "base_model_name_or_path", "revision", "auto_mapping",
    "peft_version", "megatron_config", "megatron_core", "runtime_config", "qalora_group_size",
    "ensure_weight_tying", "eva_config", "corda_config", "lora_ga_config", "loftq_config",
    "fan_in_fan_out",  # of a kind of layer that no decoder here has
)  # fmt: skip
# What may have these values; pissa, olora, corda, lora_ga and loftq start from a changed base.
_SET = {
    "bias": (None, "none"),
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal", "eva", "mica"),
}
_DEFAULT = ["q_proj", "v_proj"]  # target_modules of a decoder where the config has none


def save(adapter: Adapter, path: str | os.PathLike[str]) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors`, for `peft`, vLLM and others.

    Raises:
      UserError: the folder cannot be written; it holds the adapter of before, or this one whole
        (after a kill among the last renames: once `load` has been there).
    """
    with disk.together(path, FILES) as folder:
        write(adapter, folder)


def write(adapter: Adapter, folder: Path) -> None:
    """Writes the files of `save` into a folder that is there."""
    lora = adapter.lora
    names = _modules()
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
    save_file(tensors, folder / _TENSORS, metadata={"format": "pt"})
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def is_adapter(path: str | os.PathLike[str]) -> bool:
    """Returns whether the folder is that of a PEFT adapter."""
    disk.finish(path)
    return (Path(path) / _CONFIG).exists()


def load(path: str | os.PathLike[str], config: Config | None = None) -> Adapter:
    """Returns the LoRA adapter of a PEFT folder; kernels that it leaves alone have zeros.

    Where kernels have ranks and alphas of their own, `lora` has the largest, and b the rest of each
    kernel's scale.

    Args:
      config: of the base; given, the adapter must fit it.

    Raises:
      UserError: a missing or damaged file, a kind of adapter that is not LoRA on a decoder's
        kernels, a feature that is not supported, or another base.
    """
    folder = Path(path)
    disk.finish(folder)
    said, found = _config(folder / _CONFIG), _tensors(folder)
    deepest = max(layer for _, layer in found)
    depth = config.layers if config else 1 + deepest
    if deepest >= depth:
        raise UserError(
            f"{folder}: made for another base: it has a layer {deepest}, this model {depth} layers"
        )
    modules = {(n, i): m.format(i) for n, m in _modules().items() for i in range(depth)}
    try:
        adapted = {key: module for key, module in modules.items() if _adapts(said, module)}
        own = {key: _own(said, key[0], module) for key, module in adapted.items()}
    except (UserError, re.error) as error:
        raise UserError(f"{folder / _CONFIG}: {error}") from error
    for keys, fault in ((own.keys() - found.keys(), "no"), (found.keys() - own.keys(), "has")):
        if keys:
            raise UserError(
                f"{folder / _TENSORS}: {fault} factors of {modules[min(keys)]}, against the "
                f"target_modules (and what goes with them) of {_CONFIG}"
            )
    lora = dataclasses.replace(
        next(iter(own.values())),
        rank=max(one.rank for one in own.values()),
        alpha=max((one.alpha for one in own.values()), key=abs),
        targets=tuple(name for name in KERNELS if any(name == kernel for kernel, _ in own)),
    )
    factors = {}
    for name in lora.targets:
        layers = {
            layer: (own[name, layer], found[name, layer]) for kernel, layer in own if kernel == name
        }
        try:
            factors[name] = _filled(lora, layers, depth)
        except UserError as error:
            raise UserError(f"{folder / _TENSORS}: {name}_proj of {error}") from error
    adapter = Adapter(lora, factors, str(said.get("base_model_name_or_path") or ""))
    if config is not None:
        check(adapter, config, str(folder))
    return adapter


def _config(file: Path) -> dict[str, Any]:
    said = disk.read_object(file, "give the folder of a PEFT adapter")
    if said.get("peft_type") != "LORA":
        raise UserError(f"{file}: not the config of a LoRA adapter (peft_type LORA)")
    odd = [name for name, value in said.items() if value and name not in {*_USED, *_NEUTRAL, *_SET}]
    odd += [f"{name} {said[name]!r}" for name in _SET if said.get(name) not in _SET[name]]
    if odd:
        raise UserError(f"{file}: not supported: {', '.join(odd)}")
    for name, kind in _USED.items():
        if not isinstance(said.get(name), kind | None):
            raise UserError(f"{file}: {name}={said[name]!r}: of no type that PEFT takes")
    layers, pattern = (said.get(name) for name in ("layers_to_transform", "layers_pattern"))
    if isinstance(said.get("target_modules"), str) and (layers or pattern):
        raise UserError(f"{file}: layers_to_transform beside a pattern of target_modules")
    if pattern and layers is None:
        raise UserError(f"{file}: layers_pattern without layers_to_transform")
    return said


def _tensors(folder: Path) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Returns a [in, r] and b [r, out] of each kernel and layer that the file has."""
    file = folder / _TENSORS
    try:
        with safe_open(file, "np") as opened:
            kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
            if odd := [name for name in kinds if kinds[name] not in STORED]:
                raise UserError(f"{file}: {odd[0]} has the unsupported type {kinds[odd[0]]}")
            tensors = {name: opened.get_tensor(name) for name in kinds}
    except (OSError, SafetensorError) as error:
        pickled = not file.exists() and (folder / "adapter_model.bin").exists()
        what = "missing, and the pickle adapter_model.bin is not read: save it as safetensors"
        raise disk.unreadable(file, what if pickled else error) from error
    kernels = {module: name for name, module in _modules().items()}
    found: dict[tuple[str, int], dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        kernel = match and kernels.get(f"{match[1]}{{}}{match[3]}")
        if not match or not kernel:
            raise UserError(f"{file}: {name}: not a LoRA factor of a decoder's kernel")
        pair = found.setdefault((kernel, int(match[2])), {})
        if tensor.ndim != 2 or match[4].lower() in pair:
            raise UserError(f"{file}: {name}: not a matrix, or there twice")
        pair[match[4].lower()] = value = tensor.astype(np.float32).T
        if not np.isfinite(value).all():
            raise UserError(f"{file}: {name}: NaN or infinite numbers")
    if not found:
        raise UserError(f"{file}: no tensors")
    if lacking := [key for key, pair in found.items() if len(pair) < 2]:
        name, layer = min(lacking)
        raise UserError(f"{file}: {name} of layer {layer} has one of lora_A and lora_B alone")
    return found


def _filled(
    lora: Lora, layers: dict[int, tuple[Lora, dict[str, np.ndarray]]], depth: int
) -> dict[str, np.ndarray]:
    """Returns a kernel's factors in all layers, as `lora` scales them: zeros where it has none."""
    first = next(iter(layers.values()))[1]
    d_in, d_out = len(first["a"]), first["b"].shape[1]
    for layer, (own, pair) in layers.items():
        for part, shape in (("a", (d_in, own.rank)), ("b", (own.rank, d_out))):
            if pair[part].shape != shape:
                raise UserError(
                    f"layer {layer}: {part} is {list(pair[part].shape)}, not {list(shape)}, of the "
                    f"rank {own.rank}"
                )
    a = np.zeros((depth, d_in, lora.rank), np.float32)
    b = np.zeros((depth, lora.rank, d_out), np.float32)
    for layer, (own, pair) in layers.items():
        a[layer, :, : own.rank] = pair["a"]
        b[layer, : own.rank] = pair["b"] * (own.scale / lora.scale if lora.scale else 1.0)
    return {"a": a, "b": b}


def _adapts(said: dict[str, Any], module: str) -> bool:
    """Returns whether PEFT adapts a module of that name (its `check_target_module_exists`)."""
    if _names(said.get("exclude_modules") or [], module):
        return False
    targets = said.get("target_modules")
    if targets is None:
        targets = _DEFAULT
    if isinstance(targets, str):
        return targets.lower() == "all-linear" or _names(targets, module)
    layers = said.get("layers_to_transform")
    if module in targets or not _names(targets, module) or layers in (None, []):
        return _names(targets, module)
    patterns = said.get("layers_pattern") or r"[^.]*"
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if match := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
            return int(match[1]) in (layers if isinstance(layers, list) else [layers])
    return False


def _names(names: str | list[str], module: str) -> bool:
    """Returns whether a regular expression, or one of the last parts of names, is the module's."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return module in names or any(module.endswith(f".{name}") for name in names)


def _own(said: dict[str, Any], kernel: str, module: str) -> Lora:
    """Returns what the adapter of one module is made of."""

    def value(field: str, patterns: str) -> Any:
        for pattern, own in (said.get(patterns) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return own
        return said.get(field, 8)

    return Lora(
        rank=value("r", "rank_pattern"),
        alpha=value("lora_alpha", "alpha_pattern"),
        targets=(kernel,),
        rslora=said.get("use_rslora") or False,
        dropout=said.get("lora_dropout") or 0.0,
    )


def _modules() -> dict[str, str]:
    """Returns each kernel's module in a checkpoint, `{}` standing for the layer."""
    any_size = Config(vocab=1, embed=1, mlp=1, layers=1, heads=1, kv_heads=1, head_dim=2)
    layers = parameters.declare(any_size)["layers"]
    return {name: layers[name].hf.removesuffix(".weight") for name in KERNELS}
