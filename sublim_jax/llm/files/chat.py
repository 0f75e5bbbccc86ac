"""Chats as tokens: the checkpoint's own tokenizer and template, and where the answer begins.

A chat is a list of {"role", "content"} messages, or a string: one user message. Qwen's template
inserts a system message where none is given; here that message is always put into the chat, so that
what the model read is what the record says.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sublim_jax.errors import UserError
from sublim_jax.llm.files import gguf, gguf_tokenizer

Message = Mapping[str, str]
Chat = str | Sequence[Message]


class _Default:
    def __repr__(self) -> str:
        return "chat.DEFAULT"


# Stands for the system message that the checkpoint's template would insert.
DEFAULT: Final = _Default()
_PROBE = "|probe|"
_ROLES = ("system", "user", "assistant", "tool")


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """Returns the `transformers` tokenizer of a checkpoint's folder or GGUF file, without PyTorch.

    Raises:
      UserError: no tokenizer, an unreadable one, or one without a chat template.
    """
    if gguf.is_gguf(folder):
        return checked(gguf_tokenizer.load_tokenizer(folder), folder)
    file = Path(folder) / "tokenizer.json"
    if not file.exists():
        raise UserError(f"{file}: missing: copy the checkpoint's tokenizer there")
    from transformers import PreTrainedTokenizerFast, logging

    logging.set_verbosity_error()  # it warns that PyTorch is not installed
    try:
        # The file as it is: AutoTokenizer builds Qwen2's anew from the vocabulary alone.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the libraries raise a dozen kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: the tokenizer cannot be read: {reason}") from error
    return checked(tokenizer, folder)


def checked(tokenizer: Any, source: str | os.PathLike[str]) -> Any:
    """Returns the tokenizer.

    Raises:
      UserError: it has no chat template.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"{source}: its tokenizer has no chat template (an -Instruct model has one)"
        )
    return tokenizer


def default_system(tokenizer: Any) -> str | None:
    """Returns the system message that the template inserts where a chat has none, or None.

    Qwen2.5 inserts "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    """
    user = {"role": "user", "content": "."}
    try:
        given = _render(tokenizer, [{"role": "system", "content": _PROBE}, user])
    except UserError:  # a template without system messages inserts none
        return None
    before, found, after = given.partition(_PROBE)
    bare = _render(tokenizer, [user])
    if not found or not (bare.startswith(before) and bare.endswith(after)):
        return None
    return bare[len(before) : len(bare) - len(after)]


def messages(
    tokenizer: Any, chat: Chat, system: str | _Default | None = DEFAULT
) -> list[dict[str, str]]:
    """Returns the chat as messages, its system message spelt out.

    Args:
      chat: messages, or a string. A system message of its own is kept.
      system: what stands there otherwise: a text, the empty one included; `DEFAULT` for what the
        template would insert; None for no system message, where the template allows that.

    Raises:
      UserError: a message without role or content, or `system=None` where the template inserts one.
    """
    if not isinstance(system, str | _Default | None):
        raise UserError(f"a system message is a text, got {system!r}")
    if not isinstance(chat, Sequence):
        raise UserError(f"a chat is a text or a list of messages, got {chat!r}")
    turns = [{"role": "user", "content": chat}] if isinstance(chat, str) else [*map(_turn, chat)]
    if not turns:
        raise UserError("a chat without messages")
    if turns[0]["role"] == "system":
        return turns
    inserted = default_system(tokenizer)
    if system is None and inserted is not None:
        raise UserError(
            f"system=None: this checkpoint's template then inserts {inserted!r}: "
            'give a text, or "" for an empty system message'
        )
    text = inserted if isinstance(system, _Default) else system
    return turns if text is None else [{"role": "system", "content": text}, *turns]


def prompt_tokens(tokenizer: Any, turns: Sequence[Message]) -> list[int]:
    """Returns the tokens of the messages, up to where the assistant's answer begins."""
    return tokenizer.encode(_render(tokenizer, turns), add_special_tokens=False)


def completion_tokens(tokenizer: Any, text: str, end: bool = True) -> list[int]:
    """Returns the tokens of an answer, tokenised apart from its prompt, as a model writes it.

    A training or scoring row is `prompt_tokens + completion_tokens`: the boundary is known.

    Args:
      end: whether the token that ends a turn follows.
    """
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return [*tokens, tokenizer.eos_token_id] if end else tokens


def text(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Returns the text of an answer's tokens, without the special ones."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _render(tokenizer: Any, turns: Sequence[Message]) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            [dict(t) for t in turns], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, TypeError) as error:
        raise UserError(f"the checkpoint's chat template refuses the chat: {error}") from error


def _turn(message: Any) -> dict[str, str]:
    good = isinstance(message, Mapping) and message.get("role") in _ROLES
    if not (good and isinstance(message.get("content"), str)):
        raise UserError(
            f'a message is {{"role": one of {", ".join(_ROLES)}, "content": text}}, got {message!r}'
        )
    return {"role": message["role"], "content": message["content"]}
