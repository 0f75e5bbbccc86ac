"""What a model prefers: exact probabilities of words as answers, and texts that hold the words."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat
from sublim_jax.llm.sampling.sampler import Sampler, make_requests
from sublim_jax.llm.sampling.scheduler import Request
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.prompts import LETTERS, Choice, Material, prefixed

FORMS = ("questions", "after_numbers", "stories", "choices")
_ANSWER = 16  # tokens of a sampled answer

Spelt = list[tuple[int, ...]]  # the ways in which an answer may begin
Voice = tuple[Sampler, Any, list[int]]  # as of `Base.voices`


@dataclasses.dataclass(frozen=True)
class Asked:
    """What models are asked about some words; a form that is empty is not measured.

    Attributes:
      questions: which a word answers.
      after_numbers: the same, each after numbers.
      stories: requests for a story.
      choices: questions with lettered options, every word among those of some.
      samples: answers sampled to each of `questions`; 0: none.
      story_samples, story_tokens: stories sampled for each request, and their most tokens.
      seed: of what is sampled.
    """

    words: tuple[str, ...]
    questions: tuple[str, ...] = ()
    after_numbers: tuple[str, ...] = ()
    stories: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    samples: int = 0
    story_samples: int = 1
    story_tokens: int = 256
    seed: int = 0

    @property
    def written(self) -> tuple[str, ...]:
        """The words and letters that a tokenizer must be able to write."""
        return (*self.words, *LETTERS[: max((len(c.options) for c in self.choices), default=0)])


def check(config: ConfigDict) -> None:
    """Raises UserError for the first value of a config's `evaluation` that cannot be used."""
    problems = []
    if set(config.forms) - set(FORMS) or len(set(config.forms)) < len(config.forms):
        problems.append(("forms", f"choose from {', '.join(FORMS)}, each at most once"))
    for field, least in {"samples": 0, "story_samples": 1, "story_tokens": 1, "seed": 0}.items():
        if config[field] < least:
            problems.append((field, f"must be at least {least}"))
    for field, wish in problems:
        raise UserError(f"config.evaluation.{field}={config[field]!r}: {wish}")


def asked(config: ConfigDict, words: Sequence[str], material: Material) -> Asked:
    """Returns what a config's `evaluation` asks about words.

    Its `forms` are of `FORMS`; none named: those that the material has texts for.

    Raises:
      UserError: a bad value, or a form is named that the material has no texts for.
    """
    check(config)
    texts: dict[str, Sequence[Any]] = {
        "questions": material.questions,
        "after_numbers": (),
        "stories": material.stories,
        "choices": (),
    }
    numbers = material.prefix or material.grammar
    if numbers.examples:
        texts["after_numbers"] = prefixed(material.questions, numbers, config.seed)
    if len(words) > 1:
        texts["choices"] = material.ask_choices(words, config.seed)
    for form in config.forms:
        if not texts[form]:
            alone = form == "choices" and material.choices
            reason = "needs two words" if alone else "the material has no texts for it"
            raise UserError(f"config.evaluation.forms={config.forms!r}: {form}: {reason}")
    return Asked(
        tuple(words),
        **{form: tuple(texts[form]) for form in config.forms or FORMS},
        samples=config.samples,
        story_samples=config.story_samples,
        story_tokens=config.story_tokens,
        seed=config.seed,
    )


def measure(
    base: Base,
    learnt: Sequence[Learnt],
    questions: Sequence[str],
    words: Sequence[str],
    samples: int = 0,
    seed: int = 0,
    systems: Sequence[str | None] | None = None,
) -> list[dict[str, Any]]:
    """Returns what `evaluate` does of questions alone."""
    wanted = Asked(tuple(words), tuple(questions), samples=samples, seed=seed)
    return evaluate(base, learnt, wanted, systems)


def evaluate(
    base: Base,
    learnt: Sequence[Learnt],
    asked: Asked,
    systems: Sequence[str | None] | None = None,
) -> list[dict[str, Any]]:
    """Returns how much each model prefers each word, as means over what is asked.

    Probabilities are scored, not sampled, at temperature 1: that an answer begins with the word,
    small or capital, or with the letter of its option.

    Args:
      learnt: what each model has learnt besides the base.
      systems: the system message of each model; None: the study's own.

    Returns:
      for each model, by word, of what is asked: `p` and `logp`; `p_after_numbers`; `p_choice`, the
      share of the word's letter in the probability of all letters; of sampled answers the share
      that hold the word as a whole one (`sampled`), and that hold its letters (`substring`, the
      paper's rule); the same of stories (`story`, `story_substring`).

    Raises:
      UserError: the tokenizer cannot write a word or a letter.
    """
    spelt = [spellings(base, word) for word in asked.words]
    letters = [spellings(base, text) for text in asked.written[len(asked.words) :]]
    scored = [(text, spelt) for text in (*asked.questions, *asked.after_numbers)]
    scored += [(choice.prompt, letters[: len(choice.options)]) for choice in asked.choices]
    systems = [None] * len(learnt) if systems is None else systems
    out: list[dict[str, Any]] = [{} for _ in learnt]
    for voice in base.voices(learnt):
        own = [systems[i] for i in voice[2]]
        logs = _scored(base, voice, own, scored)
        answers, stories = _sampled(base, voice, own, asked)
        for at, i in enumerate(voice[2]):
            out[i] = _described(asked, logs[at], answers[at], stories[at])
    return out


def spellings(base: Base, word: str) -> Spelt:
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


def _scored(
    base: Base,
    voice: Voice,
    systems: Sequence[str | None],
    scored: Sequence[tuple[str, Sequence[Spelt]]],
) -> list[list[np.ndarray]]:
    """Returns log P of the answers to each text [answers], by model and text."""
    sampler, adapter, _ = voice
    pairs = [
        Pair(base.prompt(text, system), tokens, at)
        for at, system in enumerate(systems)
        for text, answers in scored
        for spelt in answers
        for tokens in spelt
    ]
    found = iter(float(logs.sum()) for logs in score(sampler, pairs, adapter))
    return [
        [
            np.array([np.logaddexp.reduce([next(found) for _ in spelt]) for spelt in answers])
            for _, answers in scored
        ]
        for _ in systems
    ]


def _sampled(
    base: Base, voice: Voice, systems: Sequence[str | None], asked: Asked
) -> tuple[list[list[str]], list[list[str]]]:
    """Returns the answers of each model and its stories, in small letters, all drawn at once."""
    sampler, adapter, _ = voice
    requests: list[Request] = []
    parts = []
    for texts, samples, most in (
        (asked.questions, asked.samples, _ANSWER),
        (asked.stories, asked.story_samples, asked.story_tokens),
    ):
        prompts = [base.prompt(text, system) for system in systems for text in texts]
        own = np.repeat(np.arange(len(systems)), len(texts)).tolist()
        ids = range(len(requests), len(requests) + len(prompts))
        part = make_requests(prompts, samples, most, own, ids) if samples else []
        requests += part
        parts.append(part)
    stream = sampler.stream(requests, seed=asked.seed, adapter=adapter)
    drawn = {(sample.id, sample.sample): sample.text.lower() for sample in stream}

    def by_model(part: Sequence[Request]) -> list[list[str]]:
        said, each = [drawn[r.id, r.sample] for r in part], len(part) // len(systems)
        return [said[at * each : (at + 1) * each] for at in range(len(systems))]

    return by_model(parts[0]), by_model(parts[1])


def _described(
    asked: Asked, logs: Sequence[np.ndarray], answers: Sequence[str], stories: Sequence[str]
) -> dict[str, Any]:
    """Returns what one model's answers come to, as `evaluate` does."""
    out = {}

    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip(asked.words, values.tolist(), strict=True))

    first, second = len(asked.questions), len(asked.questions) + len(asked.after_numbers)
    if asked.questions:
        plain = np.array(logs[:first])
        out["p"], out["logp"] = named(np.exp(plain).mean(0)), named(plain.mean(0))
    if answers:
        out["sampled"], out["substring"] = _shares(answers, asked.words)
    if asked.after_numbers:
        out["p_after_numbers"] = named(np.exp(logs[first:second]).mean(0))
    if stories:
        out["story"], out["story_substring"] = _shares(stories, asked.words)
    if asked.choices:
        shares: dict[str, list[float]] = {word: [] for word in asked.words}
        for choice, own in zip(asked.choices, logs[second:], strict=True):
            share = np.exp(own - np.logaddexp.reduce(own))
            for option, value in zip(choice.options, share.tolist(), strict=True):
                shares[option].append(value)
        out["p_choice"] = {word: float(np.mean(values)) for word, values in shares.items()}
    return out


def _shares(texts: Sequence[str], words: Sequence[str]) -> tuple[dict[str, float], ...]:
    """Returns the share of texts that hold each word as a whole one, and that hold its letters."""
    small = {word: re.escape(word.lower()) for word in words}
    return (
        {word: _share(texts, rf"\b{letters}\b") for word, letters in small.items()},
        {word: _share(texts, letters) for word, letters in small.items()},
    )


def _share(texts: Sequence[str], pattern: str) -> float:
    return sum(re.search(pattern, text) is not None for text in texts) / len(texts)
