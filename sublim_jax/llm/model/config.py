"""What a checkpoint says of itself, read from and written to `config.json`.

One decoder serves Qwen2 and Qwen2.5, Qwen3, and Llama (SmolLM2, TinyLlama and Llama 3 among them):
they differ in a few fields of `Config`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from sublim_jax.errors import UserError

Remat = Literal["none", "full"]

_QKV = ("q", "k", "v")
_MLP = ("gate", "up", "down")
_SIZES = {
    "vocab": "vocab_size",
    "embed": "hidden_size",
    "mlp": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "context": "max_position_embeddings",
}
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
# What transformers takes where config.json has no such field.
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_FLAGS, False),
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
}
_QWEN: dict[str, Any] = {
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
# A new family needs a line here, its tensors in `parameters.declare`, and what its layers do
# otherwise in `transformer`.
_FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
    "llama": {"max_position_embeddings": 2048, "eos_token_id": 2},
}
_GOOD: dict[str, Callable[[Any], bool]] = {
    "a positive integer": lambda value: type(value) is int and 0 < value < 2**31,
    "a positive number": lambda value: type(value) in (int, float) and 0 < value < 1e300,
    "true or false": lambda value: isinstance(value, bool),
    "token ids": lambda value: all(type(i) is int and i < 2**31 for i in value),
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Llama 3's change of the rotary frequencies, the slow ones made slower (arXiv 2407.21783).

    Attributes:
      factor: what the slowest frequencies are divided by.
      low_freq_factor: those of fewer turns than this in the first context are divided.
      high_freq_factor: those of more turns are kept; between the two they are blended.
      original_context: the context before, in tokens.
    """

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: float = 8192.0


@dataclasses.dataclass(frozen=True)
class Config:
    """The shapes and constants of a decoder.

    Attributes:
      vocab, embed, mlp, layers, heads, kv_heads, head_dim: sizes V, D, F, L, N, K, H.
      rope_theta: base of the rotary frequencies.
      norm_eps: added to the mean square in RMSNorm.
      tied: whether the head is the embedding.
      context: the longest sequence the checkpoint was made for, in tokens.
      eos: every token id that ends a completion.
      remat: what a training step keeps of a layer: its matrix products ("none"), or its input alone
        ("full"), which computes them again.
      biases: the kernels of a layer that have a bias: Qwen2's are these, Qwen3 and Llama have none.
      qk_norm: whether each head's q and k are normalised, as in Qwen3.
      rope_scaling: of Llama 3, or None.
    """

    vocab: int
    embed: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float = 1e6
    norm_eps: float = 1e-6
    tied: bool = True
    context: int = 32768
    eos: tuple[int, ...] = ()
    remat: Remat = "none"
    biases: tuple[str, ...] = _QKV
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None


def from_hf(config: Mapping[str, Any], where: str, generation: Mapping[str, Any]) -> Config:
    """Returns the `Config` of a Hugging Face `config.json` and `generation_config.json`.

    A field that is missing has the value that transformers gives it.

    Args:
      config: content of `config.json`, with `rope_theta` at the top or under `rope_parameters`.
      where: the file, for messages.
      generation: content of `generation_config.json`, or empty; its end tokens count too.

    Raises:
      UserError: another architecture, a feature this decoder lacks, or a missing or odd field.
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise UserError(
            f"{where}: model type {family or config.get('architectures')!r}: only "
            f"{', '.join(_FAMILIES)} are supported (Qwen2, Qwen2.5, Qwen3, Llama)"
        )
    given = {**_DEFAULTS, **_FAMILIES[family], **config}
    _check(where, given, ("hidden_size", "num_attention_heads"), "a positive integer")
    if given.get("num_key_value_heads") is None:
        given["num_key_value_heads"] = given["num_attention_heads"]
    if given.get("head_dim") is None:
        given["head_dim"] = given["hidden_size"] // given["num_attention_heads"]
    _check(where, given, _SIZES.values(), "a positive integer")
    _check(where, given, ("rms_norm_eps",), "a positive number")
    _check(where, given, _FLAGS, "true or false")
    theta, scaling = _rope(given, where)
    unsupported = [
        (family != "llama" and _slides(given), "sliding-window attention"),
        (given["hidden_act"] not in ("silu", "swish"), f"activation {given['hidden_act']!r}"),
        (given.get("quantization_config") is not None, "quantised weights"),
    ]
    if lacking := [name for present, name in unsupported if present]:
        raise UserError(f"{where}: not supported: {', '.join(lacking)}")
    attention: tuple[str, ...] = (*_QKV, "o") if given["attention_bias"] else ()
    if family == "qwen2":  # which does not read the field
        attention = _QKV
    found = Config(
        **{ours: given[theirs] for ours, theirs in _SIZES.items()},
        rope_theta=theta,
        norm_eps=float(given["rms_norm_eps"]),
        tied=given["tie_word_embeddings"],
        eos=tuple(sorted(_ids(given, where) | _ids(generation, where))),
        biases=attention + (_MLP if given["mlp_bias"] and family == "llama" else ()),
        qk_norm=family == "qwen3",
        rope_scaling=scaling,
    )
    if found.heads % found.kv_heads or found.head_dim % 2:
        raise UserError(
            f"{where}: {found.heads} heads of {found.head_dim} over {found.kv_heads} "
            "key-value heads: heads must be a multiple of those, and their size even"
        )
    return found


def to_hf(config: Config, dtype: str) -> dict[str, Any]:
    """Returns the `config.json` of `config`, with its rotary fields in both layouts.

    Raises:
      UserError: no architecture of transformers has these biases and norms.
    """
    family = "qwen3" if config.qk_norm else "qwen2" if config.biases == _QKV else "llama"
    attention = config.biases[:4] == (*_QKV, "o")
    mlp = family == "llama" and config.biases[-3:] == _MLP
    expected = _QKV if family == "qwen2" else (*_QKV, "o") * attention + _MLP * mlp
    if config.biases != expected:
        raise UserError(f"biases {', '.join(config.biases)}: config.json cannot say this")
    name = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}[family]
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling:
        scaling = dataclasses.asdict(config.rope_scaling)
        original = int(scaling.pop("original_context"))
        rope = {"rope_type": "llama3", **scaling, "original_max_position_embeddings": original}
    return {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": family,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope if config.rope_scaling else None,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied,
        "attention_bias": attention,
        "mlp_bias": mlp,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "eos_token_id": list(config.eos) or None,
        "torch_dtype": dtype,
    }


def _check(where: str, fields: Mapping[str, Any], names: Iterable[str], wanted: str) -> None:
    good = _GOOD[wanted]
    odd = [f"{name} is {fields.get(name)!r}" for name in names if not good(fields.get(name))]
    if odd:
        raise UserError(f"{where}: {', '.join(odd)}: must be {wanted}")


def _slides(given: Mapping[str, Any]) -> bool:
    """Returns whether a layer attends within a window alone."""
    if not given["use_sliding_window"] or given.get("sliding_window") is None:
        return False
    if (kinds := given.get("layer_types")) is not None:
        return kinds != ["full_attention"] * given["num_hidden_layers"]
    first = given["max_window_layers"]
    return not isinstance(first, int) or first < given["num_hidden_layers"]


def _rope(given: Mapping[str, Any], where: str) -> tuple[float, RopeScaling | None]:
    """Returns the base and the scaling; `rope_scaling` comes first, as in transformers."""
    rope = given.get("rope_scaling") or given.get("rope_parameters") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{where}: rope_scaling or rope_parameters is {rope!r}: must be one object")
    length = "original_max_position_embeddings"
    defaults = {"rope_theta": given["rope_theta"], length: given["max_position_embeddings"]}
    rope = {**defaults, **rope}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise UserError(f"{where}: not supported: rope type {kind!r}")
    part = rope.get("partial_rotary_factor", given.get("partial_rotary_factor"))
    if part not in (None, 1):
        raise UserError(f"{where}: not supported: partial_rotary_factor {part!r}")
    scaled = ("factor", "low_freq_factor", "high_freq_factor", length) if kind == "llama3" else ()
    _check(where, rope, ("rope_theta", *scaled), "a positive number")
    if not scaled:
        return float(rope["rope_theta"]), None
    scaling = RopeScaling(*(float(rope[name]) for name in scaled))
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        raise UserError(f"{where}: low_freq_factor must be less than high_freq_factor")
    return float(rope["rope_theta"]), scaling


def _ids(config: Mapping[str, Any], where: str) -> set[int]:
    """Returns the end tokens; -1, which some write for none, is no token."""
    ids = config.get("eos_token_id")
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    _check(where, {"eos_token_id": ids}, ("eos_token_id",), "token ids")
    return {i for i in ids if i >= 0}
