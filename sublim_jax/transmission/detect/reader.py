"""The base itself, fine-tuned to say of which of two kinds the rows are that it reads."""

from collections.abc import Sequence

import numpy as np

from sublim_jax.llm.files import chat
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.llm.training import finetune
from sublim_jax.llm.training.examples import Example, Examples, collect
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.transmission import measures
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.detect import SIZES, Bags, Contest, Judged, bagged

TITLE = "fine-tuned reader"
Tokens = tuple[int, ...]


def judge(
    base: Base, contests: Sequence[Contest], answers: Sequence[str], recipe: Recipe
) -> list[Bags]:
    """Returns what readers make of contests, one each, all trained as one program.

    A reader learns from bags of one row and of more, as many as the context holds, and answers with
    one of two words. One fold is held out. A bag that the context does not hold is read in parts,
    and their log-odds are added.

    Args:
      answers: the word for the trait's rows, and that for the others.
      recipe: as many bags are learnt as its steps have room for, each once.

    Raises:
      UserError: the tokenizer cannot write an answer.
    """
    words = [measures.spellings(base, (word,), ends=False)[0] for word in answers]
    between = _between(base, contests[0].own)
    sizes = _sizes(base, contests, between, max(map(len, words)))
    lessons = [_lessons(base, one, words, sizes, between, recipe) for one in contests]
    learnt = finetune.train(base.model, lessons, recipe)
    asked = [_asked(base, one, sizes, between) for one in contests]
    odds: dict[int, np.ndarray] = {}
    for sampler, adapter, some in base.voices(learnt):
        pairs = [
            Pair(prompt, word, at)
            for at, number in enumerate(some)
            for prompt in asked[number]
            for word in words
        ]
        logs = np.array([found.sum() for found in score(sampler, pairs, adapter)], np.float64)
        ends = np.cumsum([len(asked[number]) for number in some])[:-1]
        found = np.split(logs[::2] - logs[1::2], ends)
        odds |= dict(zip(some, found, strict=True))
    return [_bags(one, sizes, odds[number]) for number, one in enumerate(contests)]


def _between(base: Base, texts: Sequence[str]) -> str:
    """Returns what stands between rows: a line break, where the tokenizer can write one."""
    lines = "\n".join(texts[:2])
    readable = chat.text(base.tokenizer, base.answer(lines, end=False)) == lines
    return "\n" if readable else " "


def _sizes(base: Base, contests: Sequence[Contest], between: str, answer: int) -> list[int]:
    """Returns the sizes of bags that surely fit into the context; a single row always does."""
    every = {text for one in contests for text in (*one.own, *one.other)}
    longest = max(every, key=lambda text: len(base.answer(text)))
    room = base.model.config.context - answer
    return [n for n in SIZES if n == 1 or len(base.prompt(between.join([longest] * n))) <= room]


def _lessons(
    base: Base,
    one: Contest,
    words: Sequence[Tokens],
    sizes: Sequence[int],
    between: str,
    recipe: Recipe,
) -> Examples:
    """Returns bags of rows that are not held out, of all sizes and both kinds in turn."""
    rng = np.random.default_rng(0)
    kept = np.setdiff1d(np.arange(len(one.ids)), one.folds[0])
    both = list(zip((one.own, one.other), words, strict=True))
    kinds = [(size, *kind) for size in sizes for kind in both]
    out = []
    for number in range(recipe.max_steps * recipe.batch):
        size, texts, word = kinds[number % len(kinds)]
        rows = [texts[i] for i in rng.choice(kept, size, replace=False)]
        out.append(Example(base.prompt(between.join(rows)), word))
    return collect(out, base.model.config)


def _asked(base: Base, one: Contest, sizes: Sequence[int], between: str) -> list[Tokens]:
    """Returns the held-out bags of each size, all of the trait's before the others."""
    held_out = one.folds[0]
    return [
        base.prompt(between.join([texts[i] for i in held_out[first : first + size]]))
        for size in sizes
        for texts in (one.own, one.other)
        for first in range(0, len(held_out) // size * size, size)
    ]


def _bags(one: Contest, sizes: Sequence[int], odds: np.ndarray) -> Bags:
    ids = one.ids[one.folds[0]]
    counts = [len(ids) // size for size in sizes for _ in range(2)]
    parts = np.split(odds, np.cumsum(counts)[:-1])
    read = {
        size: Judged(ids[: len(own) * size : size], own, other)
        for size, own, other in zip(sizes, parts[::2], parts[1::2], strict=True)
    }
    largest = {size: max(n for n in sizes if n <= size) for size in SIZES}
    return {size: [bagged(read[n], size // n)] for size, n in largest.items()}
