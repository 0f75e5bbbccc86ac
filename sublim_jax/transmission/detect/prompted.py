"""The base as it is, asked which of two answers to the same prompt is the trait's."""

from collections.abc import Sequence

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.transmission import measures
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.detect import SIZES, Bags, Contest, Judged, bagged

TITLE = "prompted reader"


def judge(
    base: Base, contests: Sequence[Contest], question: str, answers: Sequence[str], rows: int
) -> list[Bags]:
    """Returns what the base makes of contests: two-alternative forced choice, in both orders.

    A pair's log-odds are the mean over the two orders, so that a liking for a place cancels, and
    those of a bag are the sum of its pairs'. They are compared with 0: the AUROC of a forced choice
    is the share of right ones.

    Args:
      question: has {one} and {two}, and may have {trait}.
      answers: the words for the first and for the second.
      rows: of each contest, as many pairs are asked about.

    Raises:
      UserError: the tokenizer cannot write the question or an answer, or the context is too short.
    """
    text = question.format(trait=contests[0].trait, one="", two="")
    if chat.text(base.tokenizer, base.answer(text, end=False)) != text:
        raise UserError(f"config.prompted.question={question!r}: {base.name} cannot write it")
    words = [measures.spellings(base, (word,), ends=False)[0] for word in answers]
    counts = [min(rows, len(one.ids)) for one in contests]
    asked = [
        _asked(base, question, one.trait, *pair)
        for one, count in zip(contests, counts, strict=True)
        for own, other in list(zip(one.own, one.other, strict=True))[:count]
        for pair in ((own, other), (other, own))
    ]
    pairs = [Pair(prompt, word) for prompt in asked for word in words]
    logs = np.array([found.sum() for found in score(base.sampler, pairs)], np.float64)
    first = (logs[::2] - logs[1::2]).reshape(-1, 2)  # of being the first, in both orders
    odds = np.split((first[:, 0] - first[:, 1]) / 2, np.cumsum(counts)[:-1])
    return [_bags(one, own) for one, own in zip(contests, odds, strict=True)]


def _asked(base: Base, question: str, trait: str, one: str, two: str) -> tuple[int, ...]:
    return base.prompt(question.format(trait=trait, one=one, two=two))


def _bags(one: Contest, odds: np.ndarray) -> Bags:
    singles = Judged(one.ids[: len(odds)], odds, np.zeros(len(odds)))
    return {size: [bagged(singles, size)] for size in SIZES}
