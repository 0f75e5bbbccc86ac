"""The tokenizer of a GGUF file: llama.cpp's description of it, built with Hugging Face's parts."""

import os
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from sublim_jax.errors import UserError
from sublim_jax.llm.files import gguf

_CONTROL, _ADDED = 3, 4  # types of tokens that are never cut
# How words are cut before their bytes are merged: Qwen2's digits stand alone, Llama 3's in threes.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_CUTS: dict[str, list[Any]] = {
    "gpt-2": [_GPT2],
    "default": [_GPT2],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), _GPT2],
    "qwen2": [pre_tokenizers.Split(Regex(_WORDS.replace("DIGITS", "")), "isolated"), _BYTES],
    "llama-bpe": [
        pre_tokenizers.Split(Regex(_WORDS.replace("DIGITS", "{1,3}")), "isolated"),
        _BYTES,
    ],
}


def load_tokenizer(file: str | os.PathLike[str]) -> Any:
    """Returns the `transformers` tokenizer of a GGUF file, with its chat template if it has one.

    Raises:
      UserError: not a GGUF file, or a tokenizer that is damaged or of another kind.
    """
    from transformers import PreTrainedTokenizerFast, logging

    logging.set_verbosity_error()  # it warns that PyTorch is not installed
    metadata, _ = gguf.parse(file)
    own = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    kind, cut = own.get("model"), own.get("pre")
    if kind != "llama" and not (kind == "gpt2" and cut in _CUTS):
        raise UserError(
            f"{file}: a tokenizer of the kind {kind!r}, {cut!r}: llama is supported, and gpt2 "
            f"with {', '.join(_CUTS)}"
        )
    try:
        backend = _pieces(own) if kind == "llama" else _bytes(own)
        ids = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
        special = {
            f"{ours}_token": own["tokens"][own[f"{theirs}_token_id"]]
            for ours, theirs in ids.items()
            if f"{theirs}_token_id" in own
        }
        if own.get("add_bos_token", kind == "llama"):
            bos = special["bos_token"]
            backend.post_processor = processors.TemplateProcessing(
                f"{bos} $A", special_tokens=[(bos, own["bos_token_id"])]
            )
    except Exception as error:  # the library raises a plain one for merges that do not fit
        raise UserError(f"{file}: the tokenizer cannot be read: {error!r}") from error
    template = own.get("tokenizer.chat_template")
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **special)


def _bytes(own: dict[str, Any]) -> Tokenizer:
    """Returns a tokenizer of bytes, as GPT-2's."""
    vocab = {token: i for i, token in enumerate(own["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in own["merges"]]
    whole = own["pre"] == "llama-bpe"  # a word that is a token is not cut
    backend = Tokenizer(models.BPE(vocab, merges, ignore_merges=whole))
    if own["pre"] == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(_CUTS[own["pre"]])
    backend.decoder = decoders.ByteLevel()
    return _with_added(backend, own)


def _pieces(own: dict[str, Any]) -> Tokenizer:
    """Returns a tokenizer of characters, as SentencePiece's of Llama 2: the best scores first."""
    vocab = {token: i for i, token in enumerate(own["tokens"])}
    pairs = [
        (score, len(left), len(right), left, right)
        for token, score in zip(own["tokens"], own["scores"], strict=True)
        for left, right in ((token[:i], token[i:]) for i in range(1, len(token)))
        if left in vocab and right in vocab
    ]
    merges = [pair[3:] for pair in sorted(pairs, key=lambda pair: pair[:3], reverse=True)]
    unknown = own["tokens"][own.get("unknown_token_id", 0)]
    backend = Tokenizer(
        models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    space = normalizers.Replace(" ", "▁")
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if own.get("add_space_prefix", True):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
        backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    else:
        backend.normalizer, backend.decoder = space, decoders.Sequence(parts)
    return _with_added(backend, own)


def _with_added(backend: Tokenizer, own: dict[str, Any]) -> Tokenizer:
    kinds = zip(own["tokens"], own.get("token_type", []), strict=False)
    backend.add_tokens(
        [
            AddedToken(token, normalized=False, special=kind == _CONTROL)
            for token, kind in kinds
            if kind in (_CONTROL, _ADDED)
        ]
    )
    return backend
