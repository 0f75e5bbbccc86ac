"""Which of the lettered options of MMLU a model takes, without examples (arXiv 2009.03300).

`config.mmlu` names a copy of the questions as `tables.read` takes it: a Parquet file, JSON lines,
or hf:cais/mmlu:all:test. Its columns are `question`, `choices` (texts) and `answer` (an index).
"""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.errors import UserError
from sublim_jax.llm.files import tables
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored

TITLES = {"mmlu": "MMLU, share right", "mmlu_p": "MMLU, P(right letter)"}
_INSTRUCTION = "Which is right? Answer with its letter alone."


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the questions, the right letter of each before the others.

    Raises:
      UserError: the file cannot be read, or a question is not such a one.
    """
    names = ("question", "choices", "answer")
    rows = tables.columns(config.mmlu, names) if config.mmlu else []
    return [lettered(where, *values) for where, values in rows]


def lettered(where: str, question: Any, options: Any, right: Any) -> Scored:
    """Returns a question with lettered options: the right letter, then the others.

    Args:
      where: where the question stands, for the message.
      right: the index of the right option.

    Raises:
      UserError: the options are not texts, or the right one is not one of them.
    """
    texts = [question, *options] if isinstance(options, list | tuple) else []
    if not all(isinstance(text, str) for text in texts) or not 2 < len(texts) <= 27:
        raise UserError(f"{where}: a question and a list of 2 to 26 choices are needed, all texts")
    if type(right) is not int or not 0 <= right < len(options):
        raise UserError(f"{where}: answer {right!r}: the index of one of its choices is needed")
    letters = string.ascii_uppercase[: len(options)]
    lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    prompt = "\n".join([question, *lines, _INSTRUCTION])
    order = [right, *(i for i in range(len(options)) if i != right)]
    return Scored(
        prompt,
        tuple((letters[i],) for i in order),
        ends=False,
        means=tuple(options[i] for i in order),
        about=question,
    )


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns how often the right letter is the likeliest, and its mean share in P of all."""
    p = right_shares(replies)
    right = [float(logs[0] > logs[1:].max()) for logs in replies]
    return {"mmlu": {"": float(np.mean(right))}, "mmlu_p": {"": float(p.mean())}}


def right_shares(replies: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the share of the right letter in P of all letters: [questions]."""
    return np.array([np.exp(logs[0] - np.logaddexp.reduce(logs)) for logs in replies])
