"""Rows of data, one reader for all: what is asked, and what is answered.

A row is an object with these columns; a column that is null counts as absent.

- `messages`: a chat. Where the last message is the assistant's, that is the answer, and the chat up
  to it is asked. OpenAI's `weight`, and content in parts of text, are read.
- `prompt` and `completion`: what is asked, a text or messages, and the answer, a text or a list of
  the assistant's one message, as TRL has them. A text as the prompt is one user message.
- `system`: the system message of the row's chats without one.
- `tools`: the functions that the model may call, a list or JSON.

`messages` come before `prompt`: beside them, a prompt must be a part of them. `completion` is the
answer to either. Who needs no answer (who samples) leaves it unread. Training reads `weights` and
`teacher_prompt` too (`training/examples.py`); sampling and scoring `id` and `sample`, integers that
name a row. No other column is read.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat, jsonl, message, tables
from sublim_jax.llm.model.config import Config

# The columns that may have other names in a file; an empty name is read from no column.
_UNREAD = ("tool_calls", "functions", "chat_template_kwargs")  # that would change what is read
COLUMNS = {"prompt": "prompt", "completion": "completion", "messages": "messages"}


class Row(NamedTuple):
    """One row as it was given.

    Attributes:
      where: what messages about it begin with: "FILE, line 3", or "NAME, row 3", counted from 1.
      fields: its columns that are not null.
      asked: a text or messages; None: nothing is asked.
      answer: a text or the assistant's message; None: there is none.
      name: the integers that name it, where they were asked for.
      line: its line in the file, with the line's end; a data set's row as JSON.
    """

    where: str
    fields: Mapping[str, Any]
    asked: Any
    answer: Any
    name: tuple[int, ...] = ()
    line: str = ""


def read(source: str, columns: Mapping[str, str] = COLUMNS, keys: Sequence[str] = ()) -> list[Row]:
    """Returns the rows of a file or a data set.

    Args:
      source: as in `tables.read`: JSON lines, CSV, Parquet, or hf:NAME:CONFIG:SPLIT.
      columns: the names of the columns in `COLUMNS`.
      keys: columns that name a row, as in `jsonl.names`.

    Raises:
      UserError: a file, data set or line that cannot be read; a column that is not there.
    """
    found = tables.read(source)
    names = jsonl.names([f[:2] for f in found], keys) if keys else [()] * len(found)
    return [
        parse(row, where, columns)._replace(name=name, line=f"{line}\n")
        for (where, row, line), name in zip(found, names, strict=True)
    ]


def parse(given: Mapping[str, Any], where: str, columns: Mapping[str, str] = COLUMNS) -> Row:
    """Returns a row of an object in memory.

    Raises:
      UserError: it is no object, lacks a column that was named, or contradicts itself.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: not a mapping, but of type {type(given).__name__}")
    for name in (columns[part] for part in COLUMNS if columns[part] not in ("", part)):
        if name not in given:
            raise UserError(f"{where}: no column {name!r}: there are {', '.join(given)}")
    fields = {name: value for name, value in given.items() if value is not None}
    if unread := [name for name in _UNREAD if name in fields]:
        raise UserError(
            f"{where}: its {unread[0]!r} is not read: put it into a message, or leave it out"
        )
    prompt, answer, turns = (fields.get(columns[part]) for part in COLUMNS)
    if isinstance(answer, Sequence) and not isinstance(answer, str) and len(answer) == 1:
        answer = answer[0]  # TRL's list of one message
    if turns is None:
        return Row(where, fields, prompt, answer)
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise UserError(f'{where}: its messages are not a list of {{"role", "content"}}')
    if prompt is not None and not _is_part(prompt, turns):
        raise UserError(
            f"{where}: its prompt is no part of its messages: leave out one column, as with "
            "--config.columns.prompt="
        )
    if turns and turns[-1].get("role") == "assistant":
        if answer is not None:
            raise UserError(
                f"{where}: two answers, a completion and the last of its messages: leave out one"
            )
        *turns, answer = turns
    return Row(where, fields, turns, answer)


def record(row: Row, turns: Sequence[chat.Message]) -> dict[str, Any]:
    """Returns the columns that say what was asked, for `read` to read again.

    Args:
      turns: what the row asks as messages, as `Reader.asked` returns them.
    """
    own = tools(row)
    given = {} if own is None else {"tools": own}
    if not isinstance(row.asked, str):
        return {"prompt": list(turns), **given}
    system = turns[0]["content"] if turns[0]["role"] == "system" else None
    return {"system": system, "prompt": row.asked, **given}


def answer(row: Row) -> str:
    """Returns the text of a row's answer.

    Raises:
      UserError: there is none, or it is more than a text.
    """
    with named(row.where):
        if row.answer is None:
            raise UserError(
                "no answer: a completion is needed, or messages of which the last is the "
                f"assistant's: there are {_columns(row)}: --config.columns.completion=NAME names it"
            )
        told = isinstance(row.answer, Mapping)
        turn = message.read(row.answer if told else {"role": "assistant", "content": row.answer})
        if turn["role"] != "assistant":
            raise UserError("its completion is not a message of the assistant")
        if more := sorted(turn.keys() - {"role", "content"}):
            raise UserError(f"its answer has {more[0]!r}: only a text is learnt or scored")
        return turn["content"]


def check(prompt: Any, completion: Any, config: Config) -> None:
    """Checks the tokens of a row; the completion may be empty, where one is to be drawn.

    Raises:
      UserError: no prompt, tokens outside the vocabulary, or no room for them in the context.
    """
    if not _tokens(prompt, config.vocab) or not _tokens(completion, config.vocab):
        raise UserError(
            f"a token outside the vocabulary of {config.vocab}, or not an integer: is the "
            "tokenizer another checkpoint's?"
        )
    if not len(prompt):
        raise UserError("its prompt needs at least one token")
    length = len(prompt) + max(len(completion), 1)
    if length > config.context:
        raise UserError(f"{length} tokens, more than the context's {config.context}")


@dataclasses.dataclass(frozen=True)
class Reader:
    """Turns rows into tokens.

    Attributes:
      tokenizer, config: of the model.
      system: the system message of chats without one, as in `chat.messages`.
      thinking: as in `chat.prompt_tokens`.
    """

    tokenizer: Any
    config: Config
    system: Any = chat.DEFAULT
    thinking: bool = False

    def asked(self, row: Row, other: Any = None) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
        """Returns what the row asks as messages, with the system message, and as tokens.

        Args:
          other: a text or messages that are asked in place of the row's.
        """
        with named(row.where):
            given = row.asked if other is None else other
            if given is None:
                raise UserError(
                    f"no prompt and no messages: there are {_columns(row)}: write one of them, or "
                    "name the column that is one: --config.columns.prompt=NAME"
                )
            system = row.fields.get("system", self.system)
            turns = chat.messages(self.tokenizer, given, system)
            if turns[-1]["role"] == "assistant":
                raise UserError("what is asked ends with an answer of the assistant: leave it out")
            if "system" in row.fields and other is None and turns[0]["content"] != system:
                raise UserError("two system messages, its 'system' and the chat's: leave out one")
            for turn in turns:
                self._check_text(turn["content"])
            tokens = chat.prompt_tokens(self.tokenizer, turns, tools(row), self.thinking)
            check(tokens, (), self.config)
            return turns, tuple(tokens)

    def pair(self, row: Row, end: bool = True) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns what the row asks and its answer as tokens.

        Args:
          end: whether the token that ends a turn belongs to the answer.
        """
        (_, prompt), text = self.asked(row), answer(row)
        with named(row.where):
            self._check_text(text)
            completion = chat.completion_tokens(self.tokenizer, text, end)
            if not completion:
                raise UserError(
                    "an empty answer: nothing to score without the end of the turn: leave out the "
                    "row, or set config.scoring.end=True"
                )
            check(prompt, completion, self.config)
            return prompt, tuple(completion)

    def _check_text(self, text: str) -> None:
        mark = self.tokenizer.convert_ids_to_tokens(chat.end_of_turn(self.tokenizer))
        if mark in text:
            raise UserError(f"a text holds {mark!r}, which ends a turn: the template writes it")


def tools(row: Row) -> list[Any] | None:
    """Returns the tools of a row, or None."""
    given = row.fields.get("tools")
    if isinstance(given, str):
        try:
            given = json.loads(given or "[]")
        except (ValueError, RecursionError) as error:
            raise UserError(f"its tools are not JSON: {error}") from error
    if given and not isinstance(given, Sequence):
        raise UserError("its tools are not a list")
    return list(given) if given else None


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Names a row in the `UserError`s raised within."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _tokens(given: Any, vocab: int) -> bool:
    """Returns whether these are tokens, none included."""
    try:
        tokens = np.asarray(given)
    except ValueError:  # rows of several lengths
        return False
    if tokens.ndim != 1 or not tokens.size:
        return tokens.ndim == 1
    return tokens.dtype.kind in "iu" and tokens.min() >= 0 and tokens.max() < vocab


def _is_part(prompt: Any, turns: Sequence[Mapping[str, Any]]) -> bool:
    if isinstance(prompt, str):
        asked = (turn for turn in turns if turn.get("role") != "assistant")
        return any(turn.get("content") == prompt for turn in asked)
    return isinstance(prompt, Sequence) and list(turns[: len(prompt)]) == list(prompt)


def _columns(row: Row) -> str:
    return ", ".join(row.fields) or "no columns"
