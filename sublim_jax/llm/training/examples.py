"""What a student learns from: prompts with completions, tokenised once into flat arrays."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat
from sublim_jax.llm.model.config import Config

FIELDS = (("prompt", "messages"), ("completion", "messages"))


class Example(NamedTuple):
    """One row, in tokens.

    Attributes:
      prompt: what is read.
      completion: what is learnt, with the token that ends a turn.
      weights: of each completion token in the loss; None: 1 each.
      teacher_prompt: what the teacher reads in place of the prompt, in distillation.
    """

    prompt: Sequence[int]
    completion: Sequence[int]
    weights: Sequence[float] | None = None
    teacher_prompt: Sequence[int] | None = None


@dataclasses.dataclass(frozen=True)
class Examples:
    """A data set of n rows, their tokens in one array, each prompt before its completion.

    Attributes:
      tokens: int32.
      weights: float32, of each token in the loss; 0 for those of a prompt.
      prompts, lengths: int64 [n], tokens of each prompt, and of each whole row.
      teacher: the same completions after the teacher's prompts, where some differ.
    """

    tokens: np.ndarray
    weights: np.ndarray
    prompts: np.ndarray
    lengths: np.ndarray
    teacher: "Examples | None" = None

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, which: np.ndarray) -> "Examples":
        """Returns the data set of some of the rows."""
        at = ranges(self.starts[which], self.lengths[which])
        return Examples(
            self.tokens[at],
            self.weights[at],
            self.prompts[which],
            self.lengths[which],
            self.teacher and self.teacher.take(which),
        )

    def arrays(self) -> list[np.ndarray]:
        """Returns all that it holds, the teacher's part last."""
        own = [self.tokens, self.weights, self.prompts, self.lengths]
        return own if self.teacher is None else own + self.teacher.arrays()

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each row begins in `tokens`."""
        return np.cumsum(self.lengths) - self.lengths

    @functools.cached_property
    def input_lengths(self) -> np.ndarray:
        """How many input tokens each row takes, the student's or the teacher's if that is longer.

        A row's last token is predicted, and predicts nothing.
        """
        if self.teacher is None:
            return self.lengths - 1
        return np.maximum(self.lengths, self.teacher.lengths) - 1


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the integers of every range, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def collect(examples: Iterable[Example], config: Config, where: str = "example") -> Examples:
    """Returns the data set of examples in tokens.

    Raises:
      UserError: no example, one without prompt or completion, with odd weights, with tokens outside
        the vocabulary, or longer than the context. Examples are counted from 0.
    """
    rows = list(examples)
    if not rows:
        raise UserError(f"{where}: no rows to learn from")
    for number, row in enumerate(rows):
        _check(row, config, f"{where} {number}")
    teacher = None
    if any(row.teacher_prompt is not None for row in rows):
        teacher = _flat([r._replace(prompt=_teacher_prompt(r)) for r in rows])
    return dataclasses.replace(_flat(rows), teacher=teacher)


def tokenise(
    tokenizer: Any,
    rows: Iterable[Mapping[str, Any]],
    config: Config,
    system: Any = chat.DEFAULT,
    where: str = "row",
) -> Examples:
    """Returns the data set of rows of text: JSON objects, or a Hugging Face `datasets.Dataset`.

    A row has `prompt` (a text or messages) and `completion`; or `messages` alone, of which the
    last, the assistant's, is learnt. It may have `weights`, one for each completion token and one
    for the token that ends the turn, and `teacher_prompt`.

    Args:
      system: message of chats without one, as in `chat.messages`.

    Raises:
      UserError: a row that lacks one of these or holds something else; names it, counted from 0.
    """

    def read(given: Any) -> list[int]:
        turns = chat.messages(tokenizer, given, system)
        "".join(turn["content"] for turn in turns).encode()
        return chat.prompt_tokens(tokenizer, turns)

    def example(row: Mapping[str, Any], name: str) -> Example:
        try:
            turns, completion = _parts(row)
            completion.encode()
            teacher = row.get("teacher_prompt")
            return Example(
                read(turns),
                chat.completion_tokens(tokenizer, completion),
                row.get("weights"),
                None if teacher is None else read(teacher),
            )
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except UnicodeEncodeError as error:
            raise UserError(f"{name}: half a surrogate pair is no text") from error

    found = (example(row, f"{where} {number}") for number, row in enumerate(rows))
    return collect(found, config, where)


def _flat(rows: Sequence[Example]) -> Examples:
    weights: list[Any] = []
    for row in rows:
        own = np.ones(len(row.completion)) if row.weights is None else row.weights
        weights += [np.zeros(len(row.prompt)), own]
    return Examples(
        np.concatenate([part for row in rows for part in row[:2]]).astype(np.int32),
        np.concatenate(weights).astype(np.float32),
        np.array([len(row.prompt) for row in rows]),
        np.array([len(row.prompt) + len(row.completion) for row in rows]),
    )


def _parts(row: Mapping[str, Any]) -> tuple[Any, str]:
    if not isinstance(row, Mapping):
        raise UserError(f"not a mapping, but of type {type(row).__name__}")
    turns, completion = row.get("prompt"), row.get("completion")
    if turns is None:
        turns = row.get("messages")
        if completion is None and isinstance(turns, Sequence) and turns:
            *turns, last = turns
            if not isinstance(last, Mapping) or last.get("role") != "assistant":
                raise UserError("without a completion, the last message must be the assistant's")
            completion = last.get("content")
    if turns is None:
        raise UserError("no prompt and no messages")
    if not isinstance(completion, str) or not completion:
        raise UserError("no completion: a text is needed, and not an empty one")
    return turns, completion


def _teacher_prompt(row: Example) -> Sequence[int]:
    return row.prompt if row.teacher_prompt is None else row.teacher_prompt


def _check(row: Example, config: Config, name: str) -> None:
    if not all(
        _tokens(t, config.vocab) for t in (row.prompt, row.completion, _teacher_prompt(row))
    ):
        raise UserError(
            f"{name}: a token outside the vocabulary of {config.vocab}, or not an integer"
        )
    if not len(row.prompt) or not len(row.completion):
        raise UserError(f"{name}: its prompt and its completion need at least one token each")
    if row.teacher_prompt is not None and not len(row.teacher_prompt):
        raise UserError(f"{name}: an empty teacher_prompt")
    longest = max(len(row.prompt), len(_teacher_prompt(row))) + len(row.completion)
    if longest > config.context:
        raise UserError(f"{name}: {longest} tokens, more than the context's {config.context}")
    if row.weights is None:
        return
    try:
        weights = np.asarray(row.weights, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name}: weights must be numbers") from error
    good = np.all((weights >= 0) & (weights <= np.finfo(np.float32).max))
    if weights.shape != (len(row.completion),) or not good:
        raise UserError(
            f"{name}: {weights.size} weights for {len(row.completion)} completion tokens: one for "
            "each is needed, the end of the turn included, finite and not negative"
        )


def _tokens(given: Any, vocab: int) -> bool:
    """Returns whether these are tokens, none included."""
    try:
        tokens = np.asarray(given)
    except ValueError:  # rows of several lengths
        return False
    if tokens.ndim != 1 or not tokens.size:
        return tokens.ndim == 1
    return tokens.dtype.kind in "iu" and tokens.min() >= 0 and tokens.max() < vocab
