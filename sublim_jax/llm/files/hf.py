"""Hugging Face checkpoints in and out: `config.json` and safetensors, in one file or several.

`resolve`, `read_config` and `load_weights` take a GGUF file in place of a folder.
"""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sublim_jax import digest as digests
from sublim_jax.errors import UserError
from sublim_jax.llm.files import gguf
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config, from_hf, to_hf

_DTYPES = ("float32", "bfloat16")
_STORED = ("F64", "F32", "F16", "BF16")
_INDEX = "model.safetensors.index.json"
_SHARD_BYTES = 5 * 2**30
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja")


def resolve(path: str | os.PathLike[str]) -> Path:
    """Returns the local folder or GGUF file of a checkpoint.

    An id of the hub is downloaded, or found in cache.

    Raises:
      UserError: neither a folder, nor a GGUF file, nor a model that can be had.
    """
    folder = Path(path)
    if folder.is_dir() or (gguf.is_gguf(folder) and folder.exists()):
        return folder
    if gguf.is_gguf(folder):
        raise UserError(f"{path}: no such file")
    if folder.exists() or str(path).count("/") != 1 or str(path).startswith((".", "/", "~")):
        raise UserError(
            f"{path}: no such folder: give a Hugging Face folder, a GGUF file or a model id"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), allow_patterns=list(_WANTED)))
    except Exception as error:  # the library raises its own, the network's and the disk's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: no such folder, and not had from the hub: {reason}") from error


def digest(path: str | os.PathLike[str]) -> str:
    """Returns the digest of all files of a checkpoint; arguments as in `resolve`."""
    return digests.of_files(resolve(path), _WANTED)


def read_config(folder: str | os.PathLike[str]) -> Config:
    """Returns the `Config` of a checkpoint's folder or GGUF file."""
    if gguf.is_gguf(folder):
        return gguf.read_config(folder)
    file = Path(folder) / "config.json"
    generation = Path(folder) / "generation_config.json"
    return from_hf(_json(file), str(file), _json(generation) if generation.exists() else {})


def load_weights(
    folder: str | os.PathLike[str], config: Config, dtype: str, mesh: Mesh | None = None
) -> dict[str, Any]:
    """Returns the weights as the tree of `parameters.declare`; each process reads only its shards.

    Raises:
      UserError: names every tensor that is missing, unexpected, of another shape or type, or that
        holds a number that is not finite.
    """
    if dtype not in _DTYPES:
        raise UserError(f"dtype {dtype!r}: must be one of {', '.join(_DTYPES)}")
    declared = parameters.declare(config)
    tensors: Mapping[str, _Stored]
    tensors = gguf.tensors(folder, config) if gguf.is_gguf(folder) else _headers(Path(folder))
    _check(Path(folder), tensors, jax.tree.leaves(declared), config.tied)

    def load(array: parameters.Parameter, place: jax.sharding.Sharding) -> jax.Array:
        def read(index: tuple[slice, ...] | None) -> np.ndarray:
            return _read(array, tensors, index or (slice(None),) * len(array.shape), dtype)

        return jax.make_array_from_callback(array.shape, place, read)

    weights = jax.tree.map(load, declared, parameters.shardings(config, mesh))
    bad = [
        array.hf_names[i]
        for array, value in zip(jax.tree.leaves(declared), jax.tree.leaves(weights), strict=True)
        for i in np.flatnonzero(~np.atleast_1d(_finite(value, array.stacked)))
    ]
    if bad:
        raise UserError(f"{folder}: NaN or infinite numbers in {_some(bad)}: the file is damaged")
    return weights


def save(config: Config, weights: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes `config.json` and safetensors, split at 5 GB, for `transformers` and others to load.

    The files are written in a temporary folder beside `path` and then moved: `path` never holds
    half of them. Its other files (a tokenizer) stay.
    """
    target = Path(path)
    dtype = str(weights["embed"].dtype)
    tensors = dict(_tensors(parameters.declare(config), weights))
    try:
        target.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=target))
    except OSError as error:
        raise UserError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        _write(tensors, temporary)
        (temporary / "config.json").write_text(json.dumps(to_hf(config, dtype), indent=2) + "\n")
        for old in (*target.glob("*.safetensors"), target / _INDEX):
            old.unlink(missing_ok=True)
        for file in temporary.iterdir():
            file.replace(target / file.name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing: give the folder of a Hugging Face checkpoint") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: not a JSON object")
    return content


class _Header(NamedTuple):
    file: Path
    name: str  # in the file
    shape: tuple[int, ...]
    dtype: str

    def read(self, part: tuple[slice, ...]) -> np.ndarray:
        # Opened for this tensor alone: pages of an open file count as memory of the process.
        with safe_open(self.file, framework="np") as opened:
            return opened.get_slice(self.name)[part]


_Stored = _Header | gguf.Tensor


def _headers(folder: Path) -> dict[str, _Header]:
    """Returns where every tensor of the folder's safetensors is."""
    files = sorted(folder.glob("*.safetensors"))
    if (folder / _INDEX).exists():
        files = [folder / f for f in sorted(set(_json(folder / _INDEX)["weight_map"].values()))]
    if not files:
        raise UserError(f"{folder}: no *.safetensors files (other formats are not read)")
    tensors: dict[str, _Header] = {}
    for file in files:
        try:
            with safe_open(file, framework="np") as opened:
                for name in opened.keys():  # noqa: SIM118
                    part = opened.get_slice(name)
                    tensors[name] = _Header(file, name, tuple(part.get_shape()), part.get_dtype())
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: missing, truncated or not safetensors ({error})") from error
    return tensors


def _check(
    folder: Path, tensors: Mapping[str, _Stored], declared: list[parameters.Parameter], tied: bool
) -> None:
    wanted = {name: array.hf_shape for array in declared for name in array.hf_names}
    ignored = {"lm_head.weight"} if tied else set()
    unexpected = sorted(
        n for n in tensors.keys() - wanted.keys() - ignored if not n.endswith("rotary_emb.inv_freq")
    )
    problems = []
    if missing := sorted(wanted.keys() - tensors.keys()):
        problems.append(f"missing {_some(missing)}")
    if unexpected:
        problems.append(f"unexpected {_some(unexpected)}")
    for name in sorted(wanted.keys() & tensors.keys()):
        shape, kind = tensors[name].shape, tensors[name].dtype
        if shape != wanted[name]:
            problems.append(f"{name} is {list(shape)}, the config says {list(wanted[name])}")
        if kind not in (*_STORED, *gguf.TYPES):
            problems.append(f"{name} has the unsupported type {kind}")
    if problems:
        raise UserError(f"{folder}: tensors do not fit the config: {_some(problems)}")


def _read(
    array: parameters.Parameter,
    tensors: Mapping[str, _Stored],
    index: tuple[slice, ...],
    dtype: str,
) -> np.ndarray:
    """Returns the part `index` of an array, from the same part of each tensor that it holds."""
    layers, inner = (index[0], index[1:]) if array.stacked else (slice(None), index)
    names = array.hf_names[layers]
    shape = array.shape[1:] if array.stacked else array.shape
    lengths = [len(range(*cut.indices(size))) for cut, size in zip(inner, shape, strict=True)]
    out = np.empty((len(names), *lengths), jnp.dtype(dtype))

    def fill(i: int) -> None:
        part = tensors[names[i]].read(inner[::-1] if array.transposed else inner)
        out[i] = part.T if array.transposed else part

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(len(names))))
    return out if array.stacked else out[0]


@functools.partial(jax.jit, static_argnames="by_layer")
def _finite(x: jax.Array, by_layer: bool) -> jax.Array:
    return jnp.all(jnp.isfinite(x), axis=tuple(range(int(by_layer), x.ndim)))


def _tensors(declared: dict[str, Any], weights: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    for array, value in zip(jax.tree.leaves(declared), jax.tree.leaves(weights), strict=True):
        parts = value if array.stacked else [value]
        for name, part in zip(array.hf_names, parts, strict=True):
            yield name, np.ascontiguousarray(part.T if array.transposed else part)


def _write(tensors: dict[str, np.ndarray], folder: Path) -> None:
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > _SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
        index = {
            "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
            "weight_map": {t: n for n, s in zip(names, shards, strict=True) for t in s},
        }
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
