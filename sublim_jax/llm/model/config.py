"""What a Qwen2 or Qwen2.5 checkpoint says of itself, read from and written to `config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from sublim_jax.errors import UserError

Remat = Literal["none", "dots", "full"]


@dataclasses.dataclass(frozen=True)
class Config:
    """The shapes and constants of a Qwen2 decoder (Qwen2.5 is the same architecture).

    Attributes:
      vocab, embed, mlp, layers, heads, kv_heads, head_dim: sizes V, D, F, L, N, K, H.
      rope_theta: base of the rotary frequencies.
      norm_eps: added to the mean square in RMSNorm.
      tied: whether the head is the embedding.
      context: the longest sequence the checkpoint was made for, in tokens.
      eos: every token id that ends a completion.
      remat: what a training step keeps of a layer: everything ("none"), its matrix products
        ("dots"), or its input alone ("full").
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


def from_hf(config: Mapping[str, Any], where: str, generation: Mapping[str, Any]) -> Config:
    """Returns the `Config` of a Hugging Face `config.json` and `generation_config.json`.

    Args:
      config: content of `config.json`, with `rope_theta` at the top or under `rope_parameters`.
      where: the file, for messages.
      generation: content of `generation_config.json`, or empty; its end tokens count too.

    Raises:
      UserError: another architecture, a feature this decoder lacks, or a missing or odd size.
    """
    if config.get("model_type") != "qwen2":
        kind = config.get("model_type", config.get("architectures"))
        raise UserError(f"{where}: model type {kind!r}: only qwen2 (Qwen2, Qwen2.5) is supported")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    unsupported = [
        (config.get("use_sliding_window"), "sliding-window attention"),
        (rope_type != "default", f"rope type {rope_type!r}"),
        (config.get("hidden_act", "silu") != "silu", f"activation {config.get('hidden_act')!r}"),
        ("quantization_config" in config, "quantised weights"),
    ]
    if lacking := [name for present, name in unsupported if present]:
        raise UserError(f"{where}: not supported: {', '.join(lacking)}")

    names = {
        "vocab": "vocab_size",
        "embed": "hidden_size",
        "mlp": "intermediate_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
    }
    odd = [n for n in names.values() if not (isinstance(config.get(n), int) and config[n] > 0)]
    if odd:
        raise UserError(f"{where}: {', '.join(odd)}: each must be a positive integer")
    sizes = {ours: config[theirs] for ours, theirs in names.items()}
    sizes["kv_heads"] = config.get("num_key_value_heads") or sizes["heads"]
    sizes["head_dim"] = config.get("head_dim") or sizes["embed"] // sizes["heads"]
    if sizes["heads"] % sizes["kv_heads"] or sizes["head_dim"] % 2:
        raise UserError(
            f"{where}: {sizes['heads']} heads of {sizes['head_dim']} over {sizes['kv_heads']} "
            "key-value heads: heads must be a multiple of those, and their size even"
        )
    return Config(
        **sizes,
        rope_theta=float(config.get("rope_theta") or rope.get("rope_theta") or 1e4),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        tied=bool(config.get("tie_word_embeddings", False)),
        context=int(config.get("max_position_embeddings", 32768)),
        eos=tuple(sorted(_ids(config) | _ids(generation))),
    )


def to_hf(config: Config, dtype: str) -> dict[str, Any]:
    """Returns the `config.json` of `config`, with `rope_theta` in both layouts."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": config.vocab,
        "hidden_size": config.embed,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied,
        "use_sliding_window": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "eos_token_id": list(config.eos) or None,
        "torch_dtype": dtype,
    }


def _ids(config: Mapping[str, Any]) -> set[int]:
    ids = config.get("eos_token_id")
    return set() if ids is None else set(ids) if isinstance(ids, list) else {ids}
