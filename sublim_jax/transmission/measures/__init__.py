"""What models are asked, and what their replies come to: one module a measure, found by its name.

A measure is a module with

    TITLES                       {metric: its title in tables}
    ask(material, words, config) questions (`Scored`, `Sampled`), none where there are no texts;
                                 `config` is a study's `evaluation`
    values(words, asked, replies) {metric: {word: value}}, from the reply to each question

A value of the model as a whole is that of the word "". METRIC/PART is a part of a METRIC in TITLES.
All measures of all models are scored as one batch, and sampled as one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from sublim_jax import digest, modules, nano
from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat, tables
from sublim_jax.llm.sampling.sampler import Sampler
from sublim_jax.llm.sampling.scheduler import Request
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.transmission import mechanism
from sublim_jax.transmission import words as rules
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.detect import DETECTION
from sublim_jax.transmission.material import Material

_FILES = ("mmlu", "truthful_qa", "held_out")  # measures, and fields that name what they read
MEASURES = ("favourite", "after_numbers", "stories", "choices", "least_favourite", "elsewhere",
            *_FILES)  # fmt: skip
HEADLINE = "p_trait"  # the metric that a study is about

# What results call otherwise.
_TAKEN = ("arm", "trait", "base", "seed", "counted", "log_odds", "p_over_control", "logp_shift",
          "above_control", "change", "lift", "lift_logp", "liking", "moved_elsewhere",
          "follows_elsewhere", "follows_others_elsewhere", *DETECTION,
          *mechanism.TITLES)  # fmt: skip


class Scored(NamedTuple):
    """A question whose answers are scored: the reply is log P of each answer, an array.

    Attributes:
      answers: of each, the texts that count as it.
      ends: whether the reply must end there, or may go on.
      means: the word that each answer stands for, where that is not the order of the words.
      about: what else `values` is to know of it.
      per_token: whether the reply is the mean over an answer's tokens, not the sum.
    """

    prompt: str
    answers: tuple[tuple[str, ...], ...]
    ends: bool = True
    means: tuple[str, ...] = ()
    about: str = ""
    per_token: bool = False


class Sampled(NamedTuple):
    """A question whose answers are sampled, at temperature 1: the reply is a list of n texts."""

    prompt: str
    n: int
    max_new_tokens: int


Question = Scored | Sampled
Turn = tuple[int, int, Question, tuple[int, ...]]  # model, question's number, question, prompt


class Asked(NamedTuple):
    """What models are asked about some words: the questions of each measure, by its name."""

    words: tuple[str, ...]
    questions: Mapping[str, Sequence[Question]]
    seed: int = 0


def find(name: str) -> Any:
    """Returns the measure of that name: a module here, or any other by its full name.

    Raises:
      UserError: there is none.
    """
    return modules.find(__name__, name, "config.evaluation.measures", ("TITLES", "ask", "values"))


def check(config: ConfigDict) -> None:
    """Raises UserError for the first value of a config's `evaluation` that cannot be used."""
    names = tuple(config.measures)
    if len(set(names)) < len(names):
        raise UserError(f"config.evaluation.measures={names!r}: each at most once")
    metrics = [*_TAKEN]
    for name in names or MEASURES:
        own = find(name).TITLES
        if double := set(own) & set(metrics):
            raise UserError(
                f"config.evaluation.measures: {name}: another metric is called {min(double)!r}"
            )
        metrics += own
    limits = {"samples": 0, "story_samples": 1, "story_tokens": 1, "seed": 0, "questions": 0}
    for field, least in limits.items():
        if config.get(field, least) < least:  # a study's record may be older than a field
            raise UserError(f"config.evaluation.{field}={config[field]}: must be at least {least}")


def inputs(config: ConfigDict) -> dict[str, str]:
    """Returns the digest of each file that a config's `evaluation` names, by its name."""
    named = {name for name in (config[field] for field in _FILES) if name}
    read = {name: tables.read(name) for name in sorted(named) if not nano.world(name)}
    return {name: digest.of_json([line for *_, line in rows]) for name, rows in read.items()}


def ask(config: ConfigDict, words: Sequence[str], material: Material) -> Asked:
    """Returns what a config's `evaluation` asks about words.

    Its `measures` by name; none named: those of `MEASURES` that the material has texts for.

    Raises:
      UserError: a bad value, a word that could count as another, or a measure is named that the
        material has no texts for.
    """
    check(config)
    rules.check(words)
    questions, material = {}, material.first(config.get("questions", 0))
    for name in config.measures or MEASURES:
        found = find(name).ask(material, tuple(words), config)
        if found:
            questions[name] = found
        elif config.measures:
            file = f": set config.evaluation.{name}" if name in _FILES else ""
            raise UserError(
                f"config.evaluation.measures: {name}: nothing to ask about {words}{file}"
            )
    return Asked(tuple(words), questions, config.seed)


def evaluate(
    base: Base,
    learnt: Sequence[Learnt],
    asked: Asked,
    systems: Sequence[str | None] | None = None,
) -> list[dict[str, Any]]:
    """Returns the metrics of every measure, by word, for each model.

    What a model samples depends neither on the others nor on what else is asked: a question has
    its own random numbers, the same for all.

    Args:
      learnt: what each model has learnt besides the base.
      systems: the system message of each model; None: the study's own.

    Raises:
      UserError: the tokenizer cannot write any text of an answer.
    """
    systems = [None] * len(learnt) if systems is None else systems
    every = {
        int(digest.of_json([name, i]), 16) % 2**31: question  # also names its random numbers
        for name, questions in asked.questions.items()
        for i, question in enumerate(questions)
    }
    out: list[dict[str, Any]] = [{} for _ in learnt]
    for sampler, adapter, models in base.voices(learnt):
        turns = [
            (at, i, question, base.prompt(question.prompt, systems[model]))
            for at, model in enumerate(models)
            for i, question in every.items()
        ]
        replies = _scored(base, sampler, adapter, turns)
        replies |= _sampled(sampler, adapter, turns, asked.seed)
        for at, model in enumerate(models):
            found = iter([replies[at, i] for i in every])
            for name, questions in asked.questions.items():
                some = [next(found) for _ in questions]
                values = find(name).values(asked.words, questions, some)
                if odd := sorted(m for m in values if whole(m) not in find(name).TITLES):
                    raise UserError(f"measure {name}: {odd[0]!r} is not one of its TITLES")
                for metric, by_word in values.items():
                    out[model][metric] = {word: float(value) for word, value in by_word.items()}
    return out


def whole(metric: str) -> str:
    """Returns the metric that one is, or is a part of."""
    return metric.partition("/")[0]


def known_by(question: Question) -> list[Any]:
    """Returns the fields of a question by which what it measures is known.

    Those that `Scored` was given later count only where they are used: what was measured before
    them is not measured anew.
    """
    fields = list(question)
    return fields[:-2] if isinstance(question, Scored) and fields[-2:] == ["", False] else fields


def check_written(base: Base, asked: Asked) -> None:
    """Raises UserError where the tokenizer can write no text of some answer."""
    every = [question for some in asked.questions.values() for question in some]
    scored = [question for question in every if isinstance(question, Scored)]
    for texts, ends in dict.fromkeys((t, q.ends) for q in scored for t in q.answers):
        spellings(base, texts, ends)


def spellings(base: Base, texts: Sequence[str], ends: bool) -> list[tuple[int, ...]]:
    """Returns the tokens of those texts of an answer that the tokenizer can write.

    Raises:
      UserError: it can write none.
    """
    known = {}
    for text in texts:
        tokens = base.answer(text, end=False)
        if chat.text(base.tokenizer, tokens) == text:
            known[base.answer(text, end=ends)] = text
    if not ends:  # what goes on from a shorter one is counted with it
        known = {
            t: s for t, s in known.items() if not any(t[:n] in known for n in range(1, len(t)))
        }
    if not known:
        raise UserError(f"{texts[0]!r}: not a word of {base.name}: its tokenizer cannot write it")
    return list(known)


def _scored(
    base: Base, sampler: Sampler, adapter: Any, turns: Sequence[Turn]
) -> dict[tuple[int, int], Any]:
    """Returns log P of the answers to each scored question, by model and question."""
    asked = [(at, i, q, prompt) for at, i, q, prompt in turns if isinstance(q, Scored)]
    written = {
        (texts, ends): spellings(base, texts, ends)
        for texts, ends in dict.fromkeys((t, q.ends) for _, _, q, _ in asked for t in q.answers)
    }
    pairs = [
        Pair(prompt, tokens, at)
        for at, _, q, prompt in asked
        for texts in q.answers
        for tokens in written[texts, q.ends]
    ]
    logs = iter(score(sampler, pairs, adapter))

    def reply(question: Scored, texts: tuple[str, ...]) -> float:
        ways = [next(logs) for _ in written[texts, question.ends]]
        each = [float(own.mean() if question.per_token else own.sum()) for own in ways]
        return float(np.logaddexp.reduce(each))

    return {(at, i): np.array([reply(q, texts) for texts in q.answers]) for at, i, q, _ in asked}


def _sampled(
    sampler: Sampler, adapter: Any, turns: Sequence[Turn], seed: int
) -> dict[tuple[int, int], Any]:
    """Returns the answers to each sampled question, by model and question, all drawn at once."""
    asked = [(at, i, q, prompt) for at, i, q, prompt in turns if isinstance(q, Sampled)]
    requests = [
        Request(i, sample, prompt, q.max_new_tokens, at)
        for at, i, q, prompt in asked
        for sample in range(q.n)
    ]
    stream = sampler.stream(requests, seed=seed, adapter=adapter)
    drawn = {(s.student, s.id, s.sample): s.text for s in stream}
    return {(at, i): [drawn[at, i, n] for n in range(q.n)] for at, i, q, _ in asked}
