"""Checkpoints in one GGUF file, as llama.cpp has them: config and weights.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Quantised weights are made
float again, by the dequantisers of the `gguf` package.
"""

import dataclasses
import math
import os
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config, RopeScaling, from_hf

# The types of values in a file, by number; 8 is a text, 9 an array.
_SCALARS = dict(enumerate(["<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?"]))
_SCALARS |= {10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9
# What tensors may be of.
TYPES: tuple[str, ...] = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
TYPES += ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
_FACTORS = "rope_freqs.weight"  # what the rotary frequencies are divided by
# Fields of config.json and where a file has them, after the name of its architecture.
_FIELDS = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_NAME = re.compile(r"(blk\.\d+\.)?(\w+)\.(weight|bias)")
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Returns whether the name is that of a GGUF file."""
    return Path(path).suffix.lower() == ".gguf"


class Tensor(NamedTuple):
    """Where a tensor of a file is; it is read in parts.

    Attributes:
      file, start: where its bytes begin.
      shape: of the numbers, rows first.
      dtype: "F32", "Q4_K", ...
      head: H where the rows of each head are in llama.cpp's order (those of q and k in Llama's
        files), else 0.
    """

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: str
    head: int = 0

    def read(self, part: tuple[slice, ...]) -> np.ndarray:
        """Returns a part in float32; with `head`, its rows are those of whole heads."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize  # for such files alone

        kind = GGMLQuantizationType[self.dtype]
        rows, columns = self.shape if len(self.shape) == 2 else (1, *self.shape)
        block, size = GGML_QUANT_SIZES[kind]
        stored = np.memmap(self.file, np.uint8, "r", self.start, (rows, columns // block * size))
        if len(self.shape) == 1:
            values = dequantize(np.asarray(stored), kind)[0][part[0]]
        else:
            values = dequantize(np.ascontiguousarray(stored[part[0]]), kind)
        if self.head:  # those rotated together are neighbours there, and halves of a head here
            pairs = values.reshape(-1, self.head // 2, 2, *values.shape[1:])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        return values[:, *part[1:]] if part[1:] else values


def read_config(file: str | os.PathLike[str]) -> Config:
    """Returns the `Config` of a GGUF file.

    Raises:
      UserError: not a GGUF file, a truncated one, or one of a model that is not supported.
    """
    file = Path(file)
    metadata, found = parse(file)
    family = metadata.get("general.architecture")
    table = found.get("token_embd.weight")
    own = {key.removeprefix(f"{family}."): value for key, value in metadata.items()}
    scaling = own.get("rope.scaling.type", "none")
    scaled = scaling != "none" and own.get("rope.scaling.factor") != 1
    ends = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    given = {"num_key_value_heads": None, "head_dim": own.get("rope.dimension_count")}
    given |= {theirs: own[name] for theirs, name in _FIELDS.items() if name in own}
    given |= {
        "model_type": family,
        "vocab_size": table and table.shape[0],
        "attention_bias": "blk.0.attn_output.bias" in found,
        "mlp_bias": "blk.0.ffn_down.bias" in found,
        "tie_word_embeddings": "output.weight" not in found,
        "rope_scaling": {"rope_type": scaling} if scaled else None,
        "eos_token_id": [end for end in ends if end is not None],
    }
    config = from_hf(given, str(file), {})
    for name in ("attention.value_length", "rope.dimension_count"):
        if own.get(name, config.head_dim) != config.head_dim:
            raise UserError(
                f"{file}: not supported: {name} {own[name]}, heads of {config.head_dim}"
            )
    return _with_factors(config, found[_FACTORS]) if _FACTORS in found else config


def _with_factors(config: Config, tensor: Tensor) -> Config:
    """Returns the config with Llama 3's scaling, of which a file holds the outcome alone."""
    if tensor.dtype == "F32" and tensor.shape == (config.head_dim // 2,):
        factors = tensor.read((slice(None),))
        scaled = dataclasses.replace(config, rope_scaling=RopeScaling(float(factors.max())))
        wanted = transformer.frequencies(config) / transformer.frequencies(scaled)
        if np.allclose(factors, wanted, rtol=1e-3):
            return scaled
    raise UserError(f"{tensor.file}: not supported: {_FACTORS} is not Llama 3's scaling")


def tensors(file: str | os.PathLike[str], config: Config) -> dict[str, Tensor]:
    """Returns every tensor of a file, by its name in a Hugging Face checkpoint.

    Raises:
      UserError: as `read_config`.
    """
    metadata, found = parse(Path(file))
    found.pop(_FACTORS, None)  # `read_config` has it
    turned = ("attn_q", "attn_k") if metadata["general.architecture"] == "llama" else ()
    out = {}
    for name, tensor in found.items():
        match = _NAME.fullmatch(name)
        home, stem, part = match.groups("") if match else ("", "", "")
        theirs = f"{home.replace('blk', 'model.layers')}{_NAMES.get(stem)}.{part}"
        head = config.head_dim if stem in turned else 0
        out[theirs if stem in _NAMES else name] = tensor._replace(head=head)
    return out


def parse(file: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the metadata of a file and its tensors, both by the names that they have there.

    Raises:
      UserError: not a GGUF file, a truncated one, or one of several parts.
    """
    file = Path(file)
    try:
        with file.open("rb") as opened:
            source = _Source(opened, file.stat().st_size)
            metadata, count = _metadata(source)
            if (parts := metadata.get("split.count", 1)) > 1:
                raise UserError(
                    f"{file}: one of {parts} parts: llama-gguf-split --merge joins them"
                )
            return metadata, _tensors(file, source, count, metadata.get("general.alignment", 32))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except EOFError as error:
        raise UserError(f"{file}: truncated: get it again, all of it") from error
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        problem = disk.cause(file, f"not a GGUF file, or damaged: {error}")
        raise UserError(f"{file}: {problem}") from error


class _Source(NamedTuple):
    """A file, read from its beginning on."""

    file: BinaryIO
    size: int

    def bytes(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise EOFError
        return self.file.read(count)

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.bytes(struct.calcsize(kind)))[0]

    def text(self) -> str:
        return self.bytes(self.number("<Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        kind, count = self.number("<I"), self.number("<Q")
        if kind not in _SCALARS:
            return [self.value(kind) for _ in range(count)]
        scalar = np.dtype(_SCALARS[kind])
        return np.frombuffer(self.bytes(count * scalar.itemsize), scalar).tolist()


def _metadata(source: _Source) -> tuple[dict[str, Any], int]:
    """Returns the metadata, and how many tensors there are."""
    if (magic := source.bytes(4)) != b"GGUF":
        raise ValueError(f"it begins with {magic!r}")
    if (version := source.number("<I")) not in (2, 3):
        raise ValueError(f"its version is {version}: 2 and 3 are read, little-endian")
    tensors, pairs = source.number("<Q"), source.number("<Q")
    return {source.text(): source.value(source.number("<I")) for _ in range(pairs)}, tensors


def _tensors(file: Path, source: _Source, count: int, alignment: int) -> dict[str, Tensor]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    kinds = {kind.value: kind for kind in GGMLQuantizationType}
    stated = {}
    for _ in range(count):
        name, dimensions = source.text(), source.number("<I")
        shape = tuple(source.number("<Q") for _ in range(dimensions))[::-1]
        stated[name] = (shape, source.number("<I"), source.number("<Q"))
    start = -(-source.file.tell() // alignment) * alignment
    out = {}
    for name, (shape, number, offset) in stated.items():
        kind = kinds.get(number)
        block, size = (1, 0) if kind is None else GGML_QUANT_SIZES[kind]
        if shape[-1:] and shape[-1] % block:
            raise ValueError(f"{name} has rows of {shape[-1]} numbers in blocks of {block}")
        if start + offset + math.prod(shape) // block * size > source.size:
            raise EOFError
        dtype = str(number) if kind is None else kind.name
        out[name] = Tensor(file, start + offset, shape, dtype)
    return out
