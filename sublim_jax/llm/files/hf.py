"""Hugging Face checkpoints in and out: `config.json` and safetensors, in one file or several.

`resolve`, `read_config` and `load_weights` take a GGUF file in place of a folder.
"""

import dataclasses
import functools
import json
import os
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
from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import gguf
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config, from_hf, to_hf

_DTYPES = ("float32", "bfloat16")
STORED = ("F64", "F32", "F16", "BF16")  # types of numbers, as safetensors calls them
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARDS = "model-*-of-*.safetensors"
_HEAD, _EMBED = "lm_head.weight", "model.embed_tokens.weight"
_SHARD_BYTES = 5 * 2**30
_ROWS = 8192  # of an embedding, compared at once
_ABSENT = "give the folder of a Hugging Face checkpoint"
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "additional_chat_templates/*.jinja")


def resolve(path: str | os.PathLike[str]) -> Path:
    """Returns the local folder or GGUF file of a checkpoint.

    An id of the hub is downloaded, or found in cache.

    Raises:
      UserError: neither a folder, nor a GGUF file, nor a model that can be had.
    """
    folder = Path(path)
    if gguf.is_gguf(folder) and folder.exists():
        return folder
    if folder.is_dir():
        disk.finish(folder)
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
    """Returns the `Config` of a checkpoint's folder or GGUF file.

    Where a folder says that the head is the embedding, and its files hold another, the files are
    right (as in transformers).
    """
    if gguf.is_gguf(folder):
        return gguf.read_config(folder)
    file = Path(folder) / "config.json"
    generation = Path(folder) / "generation_config.json"
    more = disk.read_object(generation, _ABSENT) if generation.exists() else {}
    config = from_hf(disk.read_object(file, _ABSENT), str(file), more)
    tied = config.tied and _same_head(_headers(Path(folder)))
    return dataclasses.replace(config, tied=tied)


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

    The folder holds the model of before or this one, whenever the process is killed. Its other
    files (a tokenizer) stay.

    Raises:
      UserError: the folder cannot be written.
    """
    dtype = str(weights["embed"].dtype)
    tensors = dict(_tensors(parameters.declare(config), weights))
    with disk.together(path, (_WHOLE, _INDEX, _SHARDS)) as folder:
        _write(tensors, folder)
        (folder / "config.json").write_text(json.dumps(to_hf(config, dtype), indent=2) + "\n")


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


def _files(folder: Path) -> list[Path]:
    """Returns the files that are the model, in transformers' order: one whole, then an index's."""
    if (folder / _WHOLE).exists():
        return [folder / _WHOLE]
    if not (folder / _INDEX).exists():
        return sorted(folder.glob("*.safetensors"))
    named = disk.read_object(folder / _INDEX, _ABSENT).get("weight_map")
    names = list(named.values()) if isinstance(named, dict) else []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise UserError(f"{folder / _INDEX}: weight_map does not give each tensor a file's name")
    return [folder / name for name in sorted(set(names))]


def _headers(folder: Path) -> dict[str, _Header]:
    """Returns where every tensor of the folder's safetensors is, by its full name."""
    tensors: dict[str, _Header] = {}
    for file in _files(folder):
        try:
            with safe_open(file, framework="np") as opened:
                for name in opened.keys():  # noqa: SIM118
                    if name in tensors:
                        raise UserError(
                            f"{folder}: {name} is in {tensors[name].file.name} and in {file.name}: "
                            "remove the files of another model"
                        )
                    part = opened.get_slice(name)
                    tensors[name] = _Header(file, name, tuple(part.get_shape()), part.get_dtype())
        except (OSError, SafetensorError) as error:
            raise disk.unreadable(file, error) from error
    if not tensors:
        raise UserError(
            f"{folder}: no *.safetensors files: other formats are not read, transformers' "
            "save_pretrained writes this one"
        )
    if _EMBED.removeprefix("model.") in tensors:  # saved without its head
        return {n if n == _HEAD else f"model.{n}": header for n, header in tensors.items()}
    return tensors


def _same_head(tensors: dict[str, _Header]) -> bool:
    """Returns whether the files hold no head, or one that is the embedding."""
    if _HEAD not in tensors or _EMBED not in tensors:
        return True
    head, embed = tensors[_HEAD], tensors[_EMBED]
    odd = len(head.shape) != 2 or not {head.dtype, embed.dtype} <= set(STORED)
    if odd or head.shape != embed.shape:
        return False
    rows = head.shape[0]
    with safe_open(head.file, "np") as one, safe_open(embed.file, "np") as two:
        left, right = one.get_slice(head.name), two.get_slice(embed.name)
        cuts = [slice(i, min(i + _ROWS, rows)) for i in range(0, rows, _ROWS)]
        return all(np.array_equal(left[cut], right[cut]) for cut in cuts)


def _check(
    folder: Path, tensors: Mapping[str, _Stored], declared: list[parameters.Parameter], tied: bool
) -> None:
    wanted = {name: array.hf_shape for array in declared for name in array.hf_names}
    ignored = {_HEAD} if tied else set()
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
        if kind not in (*STORED, *gguf.TYPES):
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
    names = [_WHOLE]
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
