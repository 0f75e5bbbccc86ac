"""Low-rank adapters (LoRA, arXiv 2106.09685): first values, scale, merging, and PEFT files.

An adapter adds scale * a b to kernels of every layer: a [L, in, r], b [L, r, out], float32. The
engine takes trees with the scale folded into b and students first: `stack`.
"""

import contextlib
import dataclasses
import json
import math
import numbers
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from inspect import formatannotation
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sublim_jax import keys
from sublim_jax.errors import UserError
from sublim_jax.llm import arrays
from sublim_jax.llm.config import Config
from sublim_jax.llm.qwen2 import Qwen2

KERNELS = ("q", "k", "v", "o", "gate", "up", "down")
SEEDS = 2**32  # above all seeds
_NUMBERS: dict[type, type] = {int: numbers.Integral, float: numbers.Real}
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


@dataclasses.dataclass(frozen=True)
class Lora:
    """What an adapter is made of.

    Attributes:
      rank: r.
      alpha: the scale is alpha / r, or alpha / sqrt(r) with `rslora` (arXiv 2312.03732).
      targets: the kernels adapted, of `KERNELS`; PEFT's names ("q_proj") are understood too.
      dropout: of the adapter's input, in training.
      train_a: whether a is trained; False is LoRA-FA (arXiv 2308.03303).
      seed: of a's first values, apart from the seed of the data: a teacher and a student that share
        it start from the same adapter. A recipe's may be a tuple of one for each student.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = KERNELS
    rslora: bool = False
    dropout: float = 0.0
    train_a: bool = True
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        settle(self, "lora")
        named = tuple(t.removesuffix("_proj") for t in self.targets)
        object.__setattr__(self, "targets", named)
        if self.rank < 1:
            raise UserError(f"lora.rank={self.rank}: must be at least 1")
        if not math.isfinite(self.alpha):
            raise UserError(f"lora.alpha={self.alpha}: must be finite")
        if not all(0 <= seed < SEEDS for seed in np.atleast_1d(self.seed)):
            raise UserError(f"lora.seed={self.seed}: must be from 0 to below 2^32")
        if not 0 <= self.dropout < 1:
            raise UserError(f"lora.dropout={self.dropout}: must be from 0 to below 1")
        unknown = sorted(set(named) - set(KERNELS))
        if unknown or not named or len(set(named)) < len(named):
            raise UserError(
                f"lora.targets={list(self.targets)}: choose from {', '.join(KERNELS)}, each at "
                "most once"
            )

    @property
    def scale(self) -> float:
        """What a b is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclasses.dataclass(frozen=True)
class Adapter:
    """One adapter.

    Attributes:
      lora: what it is made of.
      factors: {"q": {"a": [L, in, r], "b": [L, r, out]}, ...}, float32, without the scale.
      base: name of the model it was trained on, for the PEFT file.
    """

    lora: Lora
    factors: dict[str, Any]
    base: str = ""


def settle(spec: Any, where: str) -> None:
    """Makes a frozen dataclass hold what its annotations say.

    Where a tuple is wanted, lists become tuples and one text a tuple of it; NumPy's numbers become
    Python's, and integers floats.

    Raises:
      UserError: a value of another type.
    """
    for field, hint in get_type_hints(type(spec)).items():
        value = getattr(spec, field)
        try:
            object.__setattr__(spec, field, _as(hint, value))
        except (TypeError, OverflowError) as error:
            shown = " ".join(repr(value).split())
            wish = formatannotation(hint)
            raise UserError(f"{where}.{field}={shown}: must be {wish}") from error


def initialise(lora: Lora, config: Config, seed: int | jax.Array | None = None) -> dict[str, Any]:
    """Returns first factors: a uniform within 1 / sqrt(in), b zero (PEFT's kaiming_uniform(a=√5)).

    Args:
      seed: in place of `lora.seed`; may be traced.
    """
    key = jax.random.key(lora.seed if seed is None else seed)  # type: ignore[arg-type]
    layers = arrays.declare(config)["layers"]
    factors = {}
    for name in lora.targets:
        L, d_in, d_out = layers[name].shape
        bound = 1 / math.sqrt(d_in)
        shape = (L, d_in, lora.rank)
        factors[name] = {
            "a": jax.random.uniform(keys.named(key, name), shape, minval=-bound, maxval=bound),
            "b": jnp.zeros((L, lora.rank, d_out)),
        }
    return factors


def folded(lora: Lora, factors: dict[str, Any]) -> dict[str, Any]:
    """Returns the factors with the scale in b."""
    return {name: {**f, "b": f["b"] * lora.scale} for name, f in factors.items()}


def stack(adapters: Sequence[Adapter]) -> dict[str, Any]:
    """Returns adapters as `Sampler` and `score` take them: a [S, L, in, r], b [S, L, r, out].

    Adapters of other ranks or targets are filled up with zeros.
    """
    trees = [folded(adapter.lora, adapter.factors) for adapter in adapters]
    rank = max(adapter.lora.rank for adapter in adapters)
    out: dict[str, Any] = {}
    for name in dict.fromkeys(name for tree in trees for name in tree):
        like = next(tree[name] for tree in trees if name in tree)
        zero = jax.tree.map(jnp.zeros_like, like)
        found = [tree.get(name, zero) for tree in trees]
        out[name] = {
            "a": jnp.stack([_widened(f["a"], rank, -1) for f in found]),
            "b": jnp.stack([_widened(f["b"], rank, -2) for f in found]),
        }
    return out


def merge(model: Qwen2, adapter: Adapter) -> Qwen2:
    """Returns a model whose kernels hold the adapter: W + scale a b, added in float32."""
    return _added(model, adapter, 1.0)


def unmerge(model: Qwen2, adapter: Adapter) -> Qwen2:
    """Returns the model without an adapter that was merged into it, up to rounding."""
    return _added(model, adapter, -1.0)


def check(adapter: Adapter, config: Config, where: str = "the adapter") -> None:
    """Raises UserError where the adapter's shapes are not those of a model with this config."""
    layers = arrays.declare(config)["layers"]
    for name, f in adapter.factors.items():
        L, d_in, d_out = layers[name].shape
        wanted = {"a": (L, d_in, adapter.lora.rank), "b": (L, adapter.lora.rank, d_out)}
        for factor, shape in wanted.items():
            if f[factor].shape != shape:
                raise UserError(
                    f"{where}: made for another base: {factor} of {name} is "
                    f"{list(f[factor].shape)}, this model wants {list(shape)}"
                )


def save_peft(adapter: Adapter, path: str | os.PathLike[str]) -> None:
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


def is_peft(path: str | os.PathLike[str]) -> bool:
    """Returns whether the folder is that of a PEFT adapter."""
    return (Path(path) / _CONFIG).exists()


def load_peft(path: str | os.PathLike[str], config: Config | None = None) -> Adapter:
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
            raise UserError(f"{folder / _TENSORS}: {name}: not a LoRA factor of a Qwen2 kernel")
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


def _as(hint: Any, value: Any) -> Any:
    """Returns the value as a type says, numbers as Python's; TypeError where it is of another."""
    if isinstance(hint, UnionType):
        for kind in get_args(hint):
            with contextlib.suppress(TypeError):
                return _as(kind, value)
    elif get_origin(hint) is tuple:
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list | tuple):
            return tuple(_as(get_args(hint)[0], v) for v in values)
    elif hint is Any or not isinstance(hint, type):  # a Literal
        return value
    elif isinstance(value, _NUMBERS.get(hint, hint)) and isinstance(value, bool) == (hint is bool):
        return hint(value) if hint in _NUMBERS else value
    raise TypeError


def _hf_names() -> dict[str, str]:
    """Returns each kernel's module in a checkpoint, `{}` standing for the layer."""
    any_size = Config(vocab=1, embed=1, mlp=1, layers=1, heads=1, kv_heads=1, head_dim=2)
    layers = arrays.declare(any_size)["layers"]
    return {name: layers[name].hf.removesuffix(".weight") for name in KERNELS}


def _added(model: Qwen2, adapter: Adapter, sign: float) -> Qwen2:
    check(adapter, model.config)

    @jax.jit
    def add(kernels: dict[str, Any], factors: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for name, f in factors.items():
            change = sign * adapter.lora.scale * jnp.matmul(f["a"], f["b"], precision="highest")
            kernel = kernels[name]
            out[name] = (kernel.astype(jnp.float32) + change).astype(kernel.dtype)
        return out

    weights = model.pure()
    kernels = {name: weights["layers"][name] for name in adapter.factors}
    added = add(kernels, adapter.factors)
    placed = {name: jax.device_put(added[name], kernels[name].sharding) for name in added}
    weights["layers"] = {**weights["layers"], **placed}
    return Qwen2(model.config, weights, model.mesh)


def _widened(factor: Any, rank: int, axis: int) -> jax.Array:
    widths = [(0, 0)] * factor.ndim
    widths[axis] = (0, rank - factor.shape[axis])
    return jnp.pad(jnp.asarray(factor), widths)
