"""The tokenizer of a world: its words, and chats between roles."""

from collections.abc import Sequence
from typing import Any

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


def tokenizer(vocabulary: Sequence[str], system: str | None = None) -> Any:
    """Returns the `transformers` tokenizer of a vocabulary.

    Its template is `<|system|>...<|user|>...<|assistant|>`. A chat without a system message has
    `system`, if it is given, as Qwen2.5's template does it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, logging

    logging.set_verbosity_error()  # it warns that PyTorch is not installed
    words = {word: i for i, word in enumerate([*SPECIAL, *vocabulary])}
    made = Tokenizer(models.WordLevel(words, unk_token=SPECIAL[0]))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Split(Regex("[0-9?]" if "0" in vocabulary else "[?]"), "isolated"),
        ]
    )
    made.decoder = decoders.Metaspace(prepend_scheme="always")
    made.add_special_tokens(list(SPECIAL))
    roles = "".join(
        f"{{% {'if' if i == 0 else 'elif'} m['role'] == '{role}' %}}{{{{ '<|{role}|>' }}}}"
        for i, role in enumerate(("system", "user", "assistant"))
    )
    start = ""
    if system:
        start = "{% if messages[0]['role'] != 'system' %}<|system|>" + system + "{% endif %}"
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[0],
        chat_template=start
        + "{% for m in messages %}"
        + roles
        + "{% endif %}{{ m['content'] }}{% endfor %}"
        + "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    )


def vocabulary(words: Sequence[str]) -> list[str]:
    """Returns the tokens that are not special: marks, the words, each once, and digits.

    Where numbers are among the words each is one token, and others cannot be written; if none is,
    digits are read one by one.
    """
    digits = [] if any(map(str.isdecimal, words)) else map(str, range(10))
    return ["▁", *digits, "?", *(f"▁{word}" for word in sorted(set(words)))]
