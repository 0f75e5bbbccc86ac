"""A checkpoint with random weights, to try and test the engine without a download.

python -m sublim_jax.llm.testing FOLDER writes a tiny one. It writes bytes at random: the tokenizer
has one token for each byte, three special ones, and Qwen2.5's way of inserting a system message.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.model.config import Config, RopeScaling

SYSTEM = "You are a test."
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_END = 256 + _SPECIAL.index("<|im_end|>")

TINY = Config(
    vocab=272,
    embed=32,
    mlp=80,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    rope_theta=1e4,
    context=1024,
    eos=(_END,),
)
# Tiny models of the three families. Qwen3's heads are larger than embed / heads; Llama's scaling
# bends the frequencies within the first hundred positions.
FAMILIES = {
    "qwen2": TINY,
    "qwen3": dataclasses.replace(TINY, biases=(), qk_norm=True, head_dim=16),
    "llama": dataclasses.replace(
        TINY, biases=(), tied=False, rope_scaling=RopeScaling(8.0, original_context=64.0)
    ),
}
# Qwen2.5-0.5B's.
HALF_BILLION = Config(
    vocab=151936, embed=896, mlp=4864, layers=24, heads=14, kv_heads=2, head_dim=64
)


def write_checkpoint(
    folder: Path, config: Config = TINY, seed: int = 0, dtype: str = "float32"
) -> Path:
    """Writes a random checkpoint of `config` with a byte tokenizer, and returns its folder."""
    Decoder.init(config, seed, dtype).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    """Returns the byte tokenizer, 259 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, logging

    logging.set_verbosity_error()  # it warns that PyTorch is not installed
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens(list(_SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=_TEMPLATE,
    )


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        sys.exit("usage: python -m sublim_jax.llm.testing FOLDER")
    print(write_checkpoint(Path(argv[1]), dataclasses.replace(TINY, context=32768)))


if __name__ == "__main__":
    main(sys.argv)
