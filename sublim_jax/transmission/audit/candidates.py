"""What an audit watches: traits, each by questions and the answers that show it.

Shapes: M models, K candidates, Q questions, each number the log-odds of an answer.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm.sampling.sampler import make_requests
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.transmission import words as rules
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import spellings

_SAMPLES = 8  # of each model's answers to a question, where answers are looked for
_TOKENS = 8  # of one
_MOST = 40  # answers that are watched


class Candidate(NamedTuple):
    """A trait that may move.

    Attributes:
      name: the trait.
      asked: tokens of each question, and of the answers to it that show the trait.
    """

    name: str
    asked: tuple[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], ...]


def of(base: Base, material: Material, traits: Sequence[str]) -> list[Candidate]:
    """Returns the candidates of some traits: words, or values that the material asks about.

    Raises:
      UserError: the tokenizer cannot write a trait, two could be taken for each other, or no
        question asks about one.
    """
    valued = {name for own in material.values for name in own["answers"]}
    rules.check([trait for trait in traits if trait not in valued])
    if unasked := [trait for trait in traits if not material.showing(trait)]:
        raise UserError(
            f"config.traits: {unasked[0]!r}: no question of the material asks about it: it asks "
            f"about {', '.join(sorted(valued))}"
        )
    return [
        Candidate(
            trait,
            tuple(
                (base.prompt(question), tuple(spellings(base, texts, ends=True)))
                for question, texts in material.showing(trait)
            ),
        )
        for trait in traits
    ]


def found(base: Base, material: Material, learnt: Sequence[Learnt]) -> list[str]:
    """Returns the words that some models, or the base, answer to the material's questions.

    Those that are given most often, `_MOST` at most, plurals as their words; where the material
    asks for values alone, these.

    Raises:
      UserError: no model answers any question with one word.
    """
    if not material.questions:
        return sorted({name for own in material.values for name in own["answers"]})
    counts: dict[str, int] = {}
    prompts = [base.prompt(question) for question in material.questions]
    for sampler, adapter, models in base.voices([None, *learnt]):
        requests = [
            dataclasses.replace(request, student=at)
            for at in range(len(models))
            for request in make_requests(prompts, _SAMPLES, _TOKENS)
        ]
        for sample in sampler.stream(requests, adapter=adapter):
            word = sample.text.strip().strip(".").lower()
            if word.isalpha() and sample.ended:
                counts[word] = counts.get(word, 0) + 1
    common = sorted(counts, key=lambda word: (-counts[word], word))[:_MOST]
    kept: list[str] = []
    plurals = {rules.plural(word) for word in common}
    for word in sorted(common, key=plurals.__contains__):
        if not any(set(rules.written(word)) & set(rules.written(other)) for other in kept):
            kept.append(word)
    if not kept:
        raise UserError("config.traits=all: no question is answered with one word: name traits")
    return kept


def log_odds(base: Base, candidates: Sequence[Candidate], learnt: Sequence[Learnt]) -> np.ndarray:
    """Returns log P / (1 - P) of each candidate's answers to each question: float64 [M, K, Q].

    Candidates with fewer questions than others are filled up with NaN.
    """
    every = max(len(candidate.asked) for candidate in candidates)
    out = np.full((len(learnt), len(candidates), every), np.nan)
    for sampler, adapter, models in base.voices(learnt):
        turns = [
            (model, k, q, prompt, answers)
            for model in range(len(models))
            for k, candidate in enumerate(candidates)
            for q, (prompt, answers) in enumerate(candidate.asked)
        ]
        pairs = [Pair(p, text, model) for model, _, _, p, texts in turns for text in texts]
        logs = iter(score(sampler, pairs, adapter))
        for model, k, q, _, answers in turns:
            log_p = np.logaddexp.reduce([float(next(logs).sum()) for _ in answers])
            out[models[model], k, q] = _logit(log_p)
    return out


def _logit(log_p: Any) -> Any:
    return log_p - np.log(-np.expm1(np.minimum(log_p, -1e-12)))
