"""Chats as tokens: the checkpoint's own tokenizer and template, and where the answer begins.

A chat is a list of {"role", "content"} messages, or a string: one user message. What the model
read is what the record says: a system message that the template would insert is put into the chat,
and what the template would leave out is refused (but for spaces at the ends of a text).
"""

import datetime
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import gguf, gguf_tokenizer, message

Message = Mapping[str, Any]
Chat = str | Sequence[Message]


class _Default:
    def __repr__(self) -> str:
        return "chat.DEFAULT"


# Stands for the system message that the checkpoint's template would insert.
DEFAULT: Final = _Default()
_PROBE = "|probe|"
_USER = {"role": "user", "content": "."}
_THOUGHT = "<think>"
# Templates that write today's date write this one, so that a prompt is the same tomorrow: the date
# that Llama 3's falls back on. They are given no clock but this macro.
_TODAY = datetime.datetime(2024, 7, 26)
_CLOCK = "{%- macro strftime_now(format) -%}{{ format"
_CLOCK += "".join(f" | replace('%{c}', '{_TODAY.strftime('%' + c)}')" for c in "aAbBdHIjmMpSyY")
_CLOCK += " }}{%- endmacro %}\n"  # the template begins on a line of its own, as without it


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """Returns the `transformers` tokenizer of a checkpoint's folder or GGUF file, without PyTorch.

    Raises:
      UserError: no tokenizer, an unreadable one, or one without a chat template that works.
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
        reason = disk.cause(file, _reason(error))
        raise UserError(f"{folder}: the tokenizer cannot be read: {reason}") from error
    return checked(tokenizer, folder)


def checked(tokenizer: Any, source: str | os.PathLike[str]) -> Any:
    """Returns the tokenizer, whose chat template works.

    Raises:
      UserError: it has none, several without a default, or one that cannot write an answer.
    """
    template = tokenizer.chat_template
    if not template:
        raise UserError(
            f"{source}: its tokenizer has no chat template (an -Instruct model has one)"
        )
    if isinstance(template, dict) and "default" not in template:
        raise UserError(
            f"{source}: its chat templates are {', '.join(sorted(template))}: name one 'default'"
        )
    try:
        end_of_turn(tokenizer)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    return tokenizer


def end_of_turn(tokenizer: Any) -> int:
    """Returns the token that the template writes after an answer, or else the tokenizer's eos.

    It is what an answer is learnt, scored and stopped with; a base model's eos is often another.
    """
    return _facts(tokenizer).end


def default_system(tokenizer: Any) -> str | None:
    """Returns the system message that the template inserts where a chat has none, or None.

    Qwen2.5 inserts "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    """
    return _facts(tokenizer).system


def messages(
    tokenizer: Any, chat: Chat, system: str | _Default | None = DEFAULT
) -> list[dict[str, Any]]:
    """Returns the chat as messages, its system message spelt out.

    Args:
      chat: messages, read as by `message.read`, or a string. A system message of its own is kept.
      system: what stands there otherwise: a text, the empty one included; `DEFAULT` for what the
        template would insert; None for no system message, where the template allows that.

    Raises:
      UserError: a message without role or content, or `system=None` where the template inserts one.
    """
    if not isinstance(system, str | _Default | None):
        raise UserError(f"a system message is a text, got {system!r}")
    if not isinstance(chat, Sequence):
        raise UserError(f"a chat is a text or a list of messages, got {chat!r}")
    given = [{"role": "user", "content": chat}] if isinstance(chat, str) else chat
    turns = [message.read(turn) for turn in given]
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
    return turns if text is None else [{"role": "system", "content": message.plain(text)}, *turns]


def prompt_tokens(
    tokenizer: Any,
    turns: Sequence[Message],
    tools: Sequence[Any] | None = None,
    thinking: bool = False,
) -> list[int]:
    """Returns the tokens of the messages, up to where the assistant's answer begins.

    Args:
      turns: as `messages` returns them.
      tools: functions that the model may call, as JSON schemas.
      thinking: whether the answer may begin with a thought (`enable_thinking` of Qwen3's template).

    Raises:
      UserError: the template refuses the chat, leaves out a part of it, or begins a thought, or
        none, against `thinking`.
    """
    _check_read(tokenizer, turns, tools)
    rendered = message.plain(_prompt(tokenizer, turns, tools, thinking))
    for turn in turns:
        text = turn["content"].strip()
        # Some templates write what a tool says as JSON.
        if text not in rendered and json.dumps(text, ensure_ascii=False)[1:-1] not in rendered:
            raise _left_out(turn)
    opened = rendered.rstrip().endswith(_THOUGHT)
    if opened and not thinking:
        raise UserError(
            "the checkpoint's chat template begins each answer with a thought: set "
            "config.thinking=True, and give completions that begin with one"
        )
    if thinking and not opened and rendered == _prompt(tokenizer, turns, tools, thinking=False):
        raise UserError("config.thinking=True: the checkpoint's chat template knows no thinking")
    return tokenizer.encode(rendered, add_special_tokens=False)


def completion_tokens(tokenizer: Any, text: str, end: bool = True) -> list[int]:
    """Returns the tokens of an answer, tokenised apart from its prompt, as a model writes it.

    A training or scoring row is `prompt_tokens + completion_tokens`: the boundary is known.

    Args:
      end: whether the token that ends a turn follows.
    """
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return [*tokens, end_of_turn(tokenizer)] if end else tokens


def text(tokenizer: Any, tokens: Sequence[int]) -> str:
    """Returns the text of an answer's tokens, without the special ones."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class _Facts(NamedTuple):
    """What a template does.

    Attributes:
      end: the token that ends an answer.
      prompted: whether it begins an answer when it is asked to (`add_generation_prompt`).
      system: the system message that it inserts; None: it inserts none.
    """

    end: int
    prompted: bool
    system: str | None


def _facts(tokenizer: Any) -> _Facts:
    return _find_facts(tokenizer, _template(tokenizer))


@functools.lru_cache(maxsize=16)
def _find_facts(tokenizer: Any, template: str) -> _Facts:
    answer = {"role": "assistant", "content": _PROBE}
    _, found, after = _render(tokenizer, [_USER, answer], prompt=False).partition(_PROBE)
    if not found:
        raise _left_out(answer)
    tokens = tokenizer.encode(after, add_special_tokens=False)
    marks = [token for token in tokens if token in tokenizer.added_tokens_decoder]
    end = marks[0] if marks else tokenizer.eos_token_id
    if end is None:
        raise UserError("neither its chat template nor its eos_token says what ends a turn")
    bare = _render(tokenizer, [_USER])
    prompted = bare != _render(tokenizer, [_USER], prompt=False)
    try:
        given = _render(tokenizer, [{"role": "system", "content": _PROBE}, _USER])
    except UserError:  # a template without system messages inserts none
        return _Facts(end, prompted, None)
    before, found, after = given.partition(_PROBE)
    inserts = found and bare.startswith(before) and bare.endswith(after)
    return _Facts(end, prompted, bare[len(before) : len(bare) - len(after)] if inserts else None)


def _prompt(
    tokenizer: Any, turns: Sequence[Message], tools: Sequence[Any] | None, thinking: bool
) -> str:
    if _facts(tokenizer).prompted:
        return _render(tokenizer, turns, tools, thinking)
    # It always begins a turn, or never: what it writes before an answer is the prompt.
    answer = {"role": "assistant", "content": _PROBE}
    whole = _render(tokenizer, [*turns, answer], tools, thinking, prompt=False)
    return whole.rpartition(_PROBE)[0]


def _check_read(tokenizer: Any, turns: Sequence[Message], tools: Sequence[Any] | None) -> None:
    """Raises where the template leaves out a message, a field of one, or the tools."""
    fields = {name for turn in turns for name in turn} - {"role", "content", "tool_call_id"}
    if fields or tools:
        _check_parts(tokenizer, turns, sorted(fields), tools)
    else:
        _check_roles(tokenizer, _template(tokenizer), tuple(turn["role"] for turn in turns))


@functools.lru_cache(maxsize=1024)
def _check_roles(tokenizer: Any, template: str, roles: tuple[str, ...]) -> None:
    _check_parts(tokenizer, [{"role": role, "content": _PROBE} for role in roles], [], None)


def _check_parts(
    tokenizer: Any, turns: Sequence[Message], fields: Sequence[str], tools: Sequence[Any] | None
) -> None:
    probes = [
        {**turn, "content": turn["content"] and f"{_PROBE}{i}{_PROBE}"}
        for i, turn in enumerate(turns)
    ]
    seen = _render(tokenizer, probes, tools)

    def unread(turns: Sequence[Message], tools: Sequence[Any] | None) -> bool:
        try:
            return _render(tokenizer, turns, tools) == seen
        except UserError:  # it cannot do without
            return False

    for turn, probe in zip(turns, probes, strict=True):
        if probe["content"] not in seen:
            raise _left_out(turn)
    for field in fields:
        if unread([{k: v for k, v in probe.items() if k != field} for probe in probes], tools):
            raise UserError(
                f"the checkpoint's chat template does not read {field!r} of a message: remove it"
            )
    if tools and unread(probes, None):
        raise UserError("the checkpoint's chat template takes no tools: remove them")


def _left_out(turn: Message) -> UserError:
    return UserError(
        f"the checkpoint's chat template leaves out a message of the {turn['role']}, or a part of "
        "it: remove what it leaves out"
    )


def _template(tokenizer: Any, tools: Sequence[Any] | None = None) -> str:
    return tokenizer.get_chat_template(tools=tools)


def _render(
    tokenizer: Any,
    turns: Sequence[Message],
    tools: Sequence[Any] | None = None,
    thinking: bool = False,
    prompt: bool = True,
) -> str:
    try:
        return tokenizer.apply_chat_template(
            [dict(t) for t in turns],
            tools,
            chat_template=_CLOCK + _template(tokenizer, tools),
            tokenize=False,
            add_generation_prompt=prompt,
            enable_thinking=thinking,
        )
    except Exception as error:  # a template is a program, and may raise anything
        reason = _reason(error)
        raise UserError(f"the checkpoint's chat template refuses the chat: {reason}") from error


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
