"""What a teacher's rows do to its base that only reads them: as turns of the chat, not learnt."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.llm.files import chat
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.transmission import measures
from sublim_jax.transmission import words as rules
from sublim_jax.transmission.base import Base


class Shown(NamedTuple):
    """What some rows before a question do.

    Attributes:
      rows: how many they are.
      logp: by teacher and trait, log P(trait), a mean over the questions: float64 [draws].
    """

    rows: int
    logp: dict[tuple[str, str], np.ndarray]


def show(
    base: Base,
    data: Mapping[str, Sequence[Mapping[str, Any]]],
    traits: Sequence[str],
    questions: Sequence[str],
    rows: int,
    draws: int,
) -> list[Shown]:
    """Returns what 0, 1, 2, 4, ... rows of each teacher do, as turns before each question.

    Every teacher answers the same prompts, and no prompt is in two draws of a number of rows, as
    far as there are enough.

    Args:
      data: rows of `id`, `prompt` and `completion`, by teacher.
      traits: whose words are scored after the rows of every teacher.
      rows: the most of them; fewer where the context does not hold so many.
    """
    texts = {
        name: {row["id"]: (row["prompt"], row["completion"]) for row in own}
        for name, own in data.items()
    }
    ids = sorted(set.intersection(*map(set, texts.values())))
    order = np.random.default_rng(0).permutation(ids).tolist()
    spelt = {t: measures.spellings(base, rules.written(t), ends=True) for t in traits}
    ways = [(trait, way) for trait in traits for way in spelt[trait]]
    room = base.model.config.context - max(len(way) for _, way in ways)
    out = []
    for n in [0, *(2**i for i in range(min(rows, len(ids)).bit_length()))]:
        sets = [np.roll(order, -draw * n)[:n].tolist() for draw in range(draws)]
        asked = {
            (name, draw, question): _prompt(base, [own[i] for i in some], question)
            for name, own in texts.items()
            for draw, some in enumerate(sets)
            for question in questions
        }
        if max(map(len, asked.values())) > room:
            break
        pairs = [Pair(prompt, way) for prompt in asked.values() for _, way in ways]
        logs = np.array([found.sum() for found in score(base.sampler, pairs)], np.float64)
        shape = (len(data), draws, len(questions), len(ways))
        logs_NDQW = logs.reshape(shape)
        logp: dict[tuple[str, str], np.ndarray] = {}
        for trait in traits:
            own = [place for place, (word, _) in enumerate(ways) if word == trait]
            logp_ND = np.logaddexp.reduce(logs_NDQW[..., own], axis=-1).mean(-1)
            logp |= {(name, trait): logp_ND[i] for i, name in enumerate(data)}
        out.append(Shown(n, logp))
    return out


def _prompt(base: Base, rows: Sequence[tuple[str, str]], question: str) -> tuple[int, ...]:
    turns = [
        {"role": role, "content": text}
        for row in rows
        for role, text in zip(("user", "assistant"), row, strict=True)
    ]
    turns.append({"role": "user", "content": question})
    said = chat.messages(base.tokenizer, turns, base.system)
    return tuple(chat.prompt_tokens(base.tokenizer, said))
