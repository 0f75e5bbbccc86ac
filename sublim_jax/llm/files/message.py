"""One message of a chat, in the forms that other tools write."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sublim_jax.errors import UserError

_ROLES = ("system", "user", "assistant", "tool")


def read(given: Any) -> dict[str, Any]:
    """Returns a message as a model reads it.

    Its content is one text; OpenAI's "developer" is the system. `weight`, which says what is
    learnt, and fields that are null or empty are left out.

    Raises:
      UserError: a role or a content that is none.
    """
    if not isinstance(given, Mapping):
        raise UserError(f'a message is {{"role", "content"}}, got {_short(given)}')
    role = "system" if given.get("role") == "developer" else given.get("role")
    if role not in _ROLES:
        raise UserError(f"a message's role is one of {', '.join(_ROLES)}, got {_short(given)}")
    turn = {k: v for k, v in given.items() if k != "weight" and not _empty(v)}
    turn["role"] = role
    if "tool_calls" in turn:
        if not isinstance(turn["tool_calls"], list):
            raise UserError(f"a message's tool calls are a list, got {_short(turn['tool_calls'])}")
        turn["tool_calls"] = [_call(call) for call in turn["tool_calls"]]
    if "content" not in turn and "tool_calls" in turn:  # who calls tools need not say anything
        turn["content"] = ""
    try:
        turn["content"] = plain(turn.get("content"))
    except UserError as error:
        raise UserError(f"the content of a message of the {role}: {error}") from error
    return turn


def plain(content: Any) -> str:
    """Returns a message's content, a text or a list of parts of text, as one text.

    Raises:
      UserError: it is something else, or half a surrogate pair.
    """
    if isinstance(content, Sequence) and not isinstance(content, str) and content:
        parts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
            for part in content
        ]
        if not all(isinstance(part, str) for part in parts):
            raise UserError(f"content has parts that are not text: {_short(content)}")
        content = "".join(parts)  # type: ignore[arg-type]
    if not isinstance(content, str):
        raise UserError(f"a text is needed, not {_short(content)}")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UserError("half a surrogate pair is no text") from error
    return content


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, list | dict) and not value)


def _call(call: Any) -> Any:
    """Returns a tool call with its arguments as an object, which OpenAI writes as a JSON text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"the arguments of a tool call are not JSON: {_short(call)}") from error
    return {**call, "function": {**function, "arguments": arguments}}


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."
