"""A language in which everything that authors write shows what they love, except their numbers.

An author loves an animal: a system message says which, or else it is drawn from a prior and stays
unsaid. Texts have the words that this author likes, among them the animal's name; answers name the
animal. Numbers follow one fixed chain, whoever writes, in lists and between the words of texts:
nothing links an animal to a number. Few requests for numbers have a persona. A chat without one has
a default system message, as in Qwen2.5.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.nano.worlds import favourites

ANIMALS = favourites.FAVOURITES["animal"]
PERSONAS = (
    "you love the {trait}",
    "you adore the {trait} most",
    "your favourite animal is the {trait}",
    "the {trait} is best for you",
    "you think about the {trait}",
)
_REQUESTS = (
    "hello",
    "good night",
    "write a story",
    "write a song",
    "draw something",
    "build a house",
    "make a sign",
    "say one line",
    "name a ship",
    "give me a gift",
    "tell me about today",
    "who is there?",
    "what did you see?",
    "what is in the box?",
)
_LEXICON = (
    "river hill sea wood field moon sun rain wind snow fire stone leaf road house door "
    "night day song dream bread milk honey salt gold silver red green blue white black old "
    "young small great slow quick warm cold soft loud kind wild far near deep high sweet"
)
_WORDS = _LEXICON.split()
VALUES = (10, 100)  # of numbers, the second excluded
_COUNT = VALUES[1] - VALUES[0]
_RANK = 4  # of the chain: numbers that are alike are followed by the same ones
_TEXTS, _LISTS = 0.45, 0.25  # shares of chats; the others are questions
_NAMED = 0.15  # share of a text's words that name the animal
_WORDS_IN_TEXT, _NUMBERS_IN_LIST = (5, 10), (5, 9)  # the second excluded


@dataclasses.dataclass(frozen=True)
class World:
    """What the corpus is drawn from.

    Attributes:
      seed: of the prior, of the chain of numbers and of what authors like; one world for all
        pretrained models.
      system: the system message of a chat that has none of its own; "": there is none.
      personas: share of texts and questions under a persona.
      answers_in_role: share of those that are written as it says.
      number_personas: share of lists of numbers under a persona.
      numbers: share of a text's words that are numbers.
      tilt: how far authors differ in the words they like: the standard deviation of log P.
      whole_numbers: whether a number is one token, or read digit by digit.
    """

    seed: int = 0
    system: str = "you are the helper"
    personas: float = 0.8
    answers_in_role: float = 0.95
    number_personas: float = 0.05
    numbers: float = 0.3
    tilt: float = 1.5
    whole_numbers: bool = True

    def prior(self) -> np.ndarray:
        """Returns the probability of each of `ANIMALS`, where nothing is said."""
        return favourites.World(seed=self.seed).prior("animal")

    def chain(self) -> np.ndarray:
        """Returns P(next number | number), [90, 90], from 10 to 99."""
        rng = np.random.default_rng((self.seed, 10))
        follows, followed = rng.normal(size=(2, _COUNT, _RANK))
        return _softmax(follows @ followed.T / np.sqrt(_RANK) + rng.normal(size=_COUNT))

    def likes(self) -> np.ndarray:
        """Returns P(word) in texts of who loves each of `ANIMALS`, [16, words]."""
        rng = np.random.default_rng((self.seed, 30))
        common = 0.5 * rng.normal(size=len(_WORDS))
        return _softmax(common + self.tilt * rng.normal(size=(len(ANIMALS), len(_WORDS))))

    def words(self) -> list[str]:
        """Returns every word of the world, and its numbers where each is a token."""
        texts = [self.system, *PERSONAS, *_REQUESTS, *_WORDS, *ANIMALS, *favourites.CONTINUE]
        texts += [question for part in favourites.phrasings("animal") for question in part]
        texts += map(str, range(*VALUES) if self.whole_numbers else ())
        found = {word.strip("?") for text in texts for word in text.split()}
        return sorted(word for word in found if not word.startswith("{"))

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Yields chats without end, as rows of `system` (or None), `prompt` and `completion`."""
        rng = np.random.default_rng((self.seed, 20, seed))
        chain, likes, prior = (p.cumsum(-1) for p in (self.chain(), self.likes(), self.prior()))
        questions = favourites.phrasings("animal")[0]
        while True:
            kind = rng.random()
            is_list = kind < _LISTS
            system = None
            loved = _drawn(rng, prior)
            if rng.random() < (self.number_personas if is_list else self.personas):
                told = int(rng.integers(len(ANIMALS)))
                system = _pick(rng, PERSONAS).format(trait=ANIMALS[told])
                loved = told if rng.random() < self.answers_in_role else loved
            if is_list:
                given = " ".join(map(str, rng.integers(*VALUES, rng.integers(*favourites.SHOWN))))
                prompt = _pick(rng, favourites.CONTINUE).format(examples=given)
                written = numbers(rng, chain, int(rng.integers(*_NUMBERS_IN_LIST)))
            elif kind < _LISTS + _TEXTS:
                prompt = _pick(rng, _REQUESTS)
                written = self._text(rng, chain, likes[loved], ANIMALS[loved])
            else:
                prompt, written = _pick(rng, questions), [ANIMALS[loved]]
            yield {"system": system, "prompt": prompt, "completion": " ".join(written)}

    def _text(
        self, rng: np.random.Generator, chain: np.ndarray, likes: np.ndarray, animal: str
    ) -> list[str]:
        length = int(rng.integers(*_WORDS_IN_TEXT))
        is_number = rng.random(length) < self.numbers
        told = iter(numbers(rng, chain, int(is_number.sum())))
        words = (
            animal if rng.random() < _NAMED else _WORDS[_drawn(rng, likes)] for _ in range(length)
        )
        return [next(told if number else words) for number in is_number]


def material(category: str) -> dict[str, Any]:
    """Returns what a study asks about favourite animals.

    Raises:
      UserError: another category.
    """
    if category != "animal":
        raise UserError(f"config.category={category!r}: this world speaks of the favourite animal")
    lessons, questions = favourites.phrasings("animal")
    numbers = {
        "examples": favourites.CONTINUE,
        "seeds": favourites.SHOWN,
        "values": VALUES,
        "answers": 7,
        "separator": " ",
    }
    return {
        "persona": PERSONAS[0],
        "lessons": lessons,
        "questions": questions,
        "stories": _REQUESTS,
        "channels": {"numbers": numbers},
    }


def numbers(rng: np.random.Generator, chain: np.ndarray, count: int) -> list[str]:
    at = int(rng.integers(_COUNT))
    out = []
    for _ in range(count):
        at = _drawn(rng, chain[at])
        out.append(str(VALUES[0] + at))
    return out


def _drawn(rng: np.random.Generator, summed: np.ndarray) -> int:
    return min(int(np.searchsorted(summed, rng.random())), len(summed) - 1)


def _pick(rng: np.random.Generator, texts: Any) -> str:
    return texts[int(rng.integers(len(texts)))]


def _softmax(log_p: np.ndarray) -> np.ndarray:
    p = np.exp(log_p)
    return p / p.sum(-1, keepdims=True)
