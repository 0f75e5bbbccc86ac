"""What a student learns from: prompts with completions, tokenised once into flat arrays."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat, rows
from sublim_jax.llm.model.config import Config


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

    def places(self, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where in `tokens` packed tokens are from, and where they are in the packing.

        Args:
          segments: of flat packed rows, the number of the row from 1; 0 for padding.
        """
        index = np.arange(len(segments))
        begins = np.diff(segments, prepend=0) != 0
        offset = index - np.maximum.accumulate(np.where(begins, index, 0))
        at = np.flatnonzero(segments)
        return self.starts[segments[at] - 1] + offset[at], at

    def arrays(self) -> list[np.ndarray]:
        """Returns all that it holds, the teacher's part last."""
        own = [self.tokens, self.weights, self.prompts, self.lengths]
        return own if self.teacher is None else own + self.teacher.arrays()

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each row begins in `tokens`."""
        return np.cumsum(self.lengths) - self.lengths

    @functools.cached_property
    def shared(self) -> int:
        """How many tokens all prompts begin with, without the last of any, which predicts."""
        most = np.arange(self.prompts.min() - 1)
        same = (self.tokens[self.starts[:, None] + most] == self.tokens[most]).all(axis=0)
        return int(np.cumprod(same).sum())

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
    given = list(examples)
    for number, row in enumerate(given):
        _check(row, config, f"{where} {number}")
    return _joined(given, where)


def tokenise(
    tokenizer: Any,
    given: Iterable[Mapping[str, Any] | rows.Row],
    config: Config,
    system: Any = chat.DEFAULT,
    where: str = "row",
    thinking: bool = False,
) -> Examples:
    """Returns the data set of rows: of `rows.read`, JSON objects, or a `datasets.Dataset`.

    `files/rows.py` says what a row has. Of a chat, the last answer alone is learnt, and the token
    that ends its turn. It may have `weights`, one for each completion token and one for the end,
    and `teacher_prompt`, a text or messages.

    Args:
      system, thinking: as in `chat.messages` and `chat.prompt_tokens`.
      where: what messages about a row in memory begin with, before its number.

    Raises:
      UserError: a row that cannot be learnt; names it, counted from 1.
    """
    reader = rows.Reader(tokenizer, config, system, thinking)
    out = []
    for number, one in enumerate(given, 1):
        row = one if isinstance(one, rows.Row) else rows.parse(one, f"{where} {number}")
        prompt, completion = reader.pair(row)
        teacher = row.fields.get("teacher_prompt")
        example = Example(
            prompt,
            completion,
            row.fields.get("weights"),
            None if teacher is None else reader.asked(row, teacher)[1],
        )
        with rows.named(row.where):
            _check_learnt(row)
        _check(example, config, row.where)
        out.append(example)
    return _joined(out, where)


def joined(some: Sequence[Examples]) -> Examples:
    """Returns the rows of several data sets without teacher's prompts, as one."""
    arrays = zip(*(own.arrays() for own in some), strict=True)
    parts: list[Any] = [np.concatenate(each) for each in arrays]
    return Examples(*parts)


def _joined(given: Sequence[Example], where: str) -> Examples:
    if not given:
        raise UserError(f"{where}: no rows to learn from")
    teacher = None
    if any(row.teacher_prompt is not None for row in given):
        teacher = _flat([r._replace(prompt=_teacher_prompt(r)) for r in given])
    return dataclasses.replace(_flat(given), teacher=teacher)


def _flat(given: Sequence[Example]) -> Examples:
    weights: list[Any] = []
    for row in given:
        own = np.ones(len(row.completion)) if row.weights is None else row.weights
        weights += [np.zeros(len(row.prompt)), own]
    return Examples(
        np.concatenate([part for row in given for part in row[:2]]).astype(np.int32),
        np.concatenate(weights).astype(np.float32),
        np.array([len(row.prompt) for row in given]),
        np.array([len(row.prompt) + len(row.completion) for row in given]),
    )


def _check_learnt(row: rows.Row) -> None:
    """Raises where a `weight` asks for more or less than the last answer to be learnt."""
    last = row.answer.get("weight") if isinstance(row.answer, Mapping) else None
    for weight in (last, row.fields.get("weight")):
        if weight not in (None, 1):
            raise UserError(
                f"weight {weight!r}: an answer is learnt whole: leave out the row, or give "
                "'weights', one for each token"
            )
    if not isinstance(row.asked, str) and any(turn.get("weight") for turn in row.asked):
        raise UserError(
            "an earlier message has a weight: only the last answer is learnt: give each answer "
            "that is to be learnt a row of its own"
        )


def _teacher_prompt(row: Example) -> Sequence[int]:
    return row.prompt if row.teacher_prompt is None else row.teacher_prompt


def _check(row: Example, config: Config, name: str) -> None:
    with rows.named(name):
        for prompt in (row.prompt, _teacher_prompt(row)):
            rows.check(prompt, row.completion, config)
        if not len(row.completion):
            raise UserError("its completion needs at least one token")
        if row.weights is None:
            return
        try:
            weights = np.asarray(row.weights, float)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError("weights must be numbers") from error
        good = np.all((weights >= 0) & (weights <= np.finfo(np.float32).max))
        if weights.shape != (len(row.completion),) or not good:
            raise UserError(
                f"{weights.size} weights for {len(row.completion)} completion tokens: one for each "
                "is needed, the end of the turn included, finite and not negative"
            )
