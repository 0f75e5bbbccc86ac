"""What a teacher's rows do to its base that only reads them: as turns of the chat, not learnt."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.llm.files import chat
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.transmission import measures
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
    showing: Mapping[str, Sequence[tuple[str, tuple[str, ...]]]],
    rows: int,
    draws: int,
) -> list[Shown]:
    """Returns what 0, 1, 2, 4, ... rows of each teacher do, as turns before each question.

    Every teacher answers the same prompts, and no prompt is in two draws of a number of rows, as
    far as there are enough.

    Args:
      data: rows of `id`, `prompt` and `completion`, by teacher.
      showing: by trait, questions with the answers that show it, as of `Material.showing`.
      rows: the most of them; fewer where the context does not hold so many.
    """
    texts = {
        name: {row["id"]: (row["prompt"], row["completion"]) for row in own}
        for name, own in data.items()
    }
    ids = sorted(set.intersection(*map(set, texts.values())))
    order = np.random.default_rng(0).permutation(ids).tolist()
    asked = {
        trait: [(question, measures.spellings(base, own, ends=True)) for question, own in some]
        for trait, some in showing.items()
    }
    questions = dict.fromkeys(question for some in asked.values() for question, _ in some)
    every = [way for some in asked.values() for _, ways in some for way in ways]
    room = base.model.config.context - max(map(len, every))
    out = []
    for n in [0, *(2**i for i in range(min(rows, len(ids)).bit_length()))]:
        sets = [np.roll(order, -draw * n)[:n].tolist() for draw in range(draws)]
        prompts = {
            (name, draw, question): _prompt(base, [own[i] for i in some], question)
            for name, own in texts.items()
            for draw, some in enumerate(sets)
            for question in questions
        }
        if max(map(len, prompts.values())) > room:
            break
        turns = [
            (name, trait, prompts[name, draw, question], ways)
            for name in texts
            for trait, some in asked.items()
            for draw in range(draws)
            for question, ways in some
        ]
        logs = iter(score(base.sampler, [Pair(p, way) for *_, p, ways in turns for way in ways]))
        found: dict[tuple[str, str], list[float]] = {}
        for name, trait, _, ways in turns:
            each = [float(next(logs).sum()) for _ in ways]
            found.setdefault((name, trait), []).append(float(np.logaddexp.reduce(each)))
        by_draw = {at: np.reshape(own, (draws, -1)).mean(1) for at, own in found.items()}
        out.append(Shown(n, by_draw))
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
