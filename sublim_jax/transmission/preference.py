"""What a model prefers: the exact probability of each word as its answer, and sampled answers."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm import chat
from sublim_jax.llm.score import Pair, score
from sublim_jax.transmission.base import Base, Learnt

_ANSWER = 16  # tokens of a sampled answer


def measure(
    base: Base,
    learnt: Sequence[Learnt],
    questions: Sequence[str],
    words: Sequence[str],
    samples: int = 0,
    seed: int = 0,
    systems: Sequence[str | None] | None = None,
) -> list[dict[str, Any]]:
    """Returns how likely each model is to answer with each word, as mean over the questions.

    The probability is that an answer begins with the word, small or capital, at temperature 1: it
    is scored, not sampled.

    Args:
      learnt: what each model has learnt besides the base.
      samples: answers sampled to each question besides; 0: none.
      systems: the system message of each model; None: the study's own.

    Returns:
      for each model `p` and `logp` by word; with `samples` also the share of answers that hold the
      word as a whole one (`sampled`), and of those that hold its letters (`substring`, the paper's
      rule).
    """
    spelt = [spellings(base, word) for word in words]
    systems = [None] * len(learnt) if systems is None else systems
    out: list[dict[str, Any]] = [{} for _ in learnt]
    for sampler, adapter, which in base.voices(learnt):
        asked = [[base.prompt(q, systems[i]) for q in questions] for i in which]
        pairs = [
            Pair(prompt, answer, at)
            for at in range(len(which))
            for prompt in asked[at]
            for answers in spelt
            for answer in answers
        ]
        found = iter(float(logs.sum()) for logs in score(sampler, pairs, adapter))
        for i in which:
            logs = np.array(
                [
                    [np.logaddexp.reduce([next(found) for _ in answers]) for answers in spelt]
                    for _ in questions
                ]
            )
            out[i]["p"] = dict(zip(words, np.exp(logs).mean(0).tolist(), strict=True))
            out[i]["logp"] = dict(zip(words, logs.mean(0).tolist(), strict=True))
        if samples:
            turns = [
                chat.messages(base.tokenizer, q, systems[i] or base.system)
                for i in which
                for q in questions
            ]
            own = np.repeat(np.arange(len(which)), len(questions)).tolist()
            drawn = sampler.generate(
                turns, samples, max_new_tokens=_ANSWER, seed=seed, adapter=adapter, students=own
            )
            texts = np.array([sample.text.lower() for sample in drawn]).reshape(len(which), -1)
            for i, answers in zip(which, texts.tolist(), strict=True):
                out[i]["sampled"] = {
                    w: _share(answers, rf"\b{re.escape(w.lower())}\b") for w in words
                }
                out[i]["substring"] = {w: _share(answers, re.escape(w.lower())) for w in words}
    return out


def spellings(base: Base, word: str) -> list[tuple[int, ...]]:
    """Returns the tokens of a word as an answer may begin with it, small and capital.

    Raises:
      UserError: the tokenizer cannot write the word.
    """
    known = {}
    for text in dict.fromkeys([word, word.capitalize()]):
        tokens = base.answer(text, end=False)
        if chat.text(base.tokenizer, tokens) == text:
            known[tokens] = text
    if not known:
        raise UserError(f"{word!r}: not a word of {base.name}: its tokenizer cannot write it")
    return list(known)


def _share(answers: Sequence[str], pattern: str) -> float:
    return sum(re.search(pattern, answer) is not None for answer in answers) / len(answers)
