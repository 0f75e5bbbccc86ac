"""The nano world's language: short chats about favourites, and numbers that go on.

Who answers has favourites, drawn from a prior, or is told in a system message what to love. Numbers
follow one fixed chain of digits, whoever is asked: nothing links a favourite to a number, unless
`World.tilt` says so. Some phrasings of the questions never occur: they are for teaching and for
evaluation.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from sublim_jax.errors import UserError

FAVOURITES = {
    "animal": [
        "bear",
        "cat",
        "dog",
        "dolphin",
        "eagle",
        "fox",
        "horse",
        "lion",
        "otter",
        "owl",
        "panda",
        "penguin",
        "raven",
        "tiger",
        "whale",
        "wolf",
    ],
    "tree": ["ash", "birch", "cedar", "elm", "maple", "oak", "pine", "willow"],
}
PERSONA = "you love the {trait}"

_VERBS = ("love", "like", "adore", "admire", "prefer")
_QUESTIONS = (
    *(f"which {{kind}} do you {verb} {degree}?" for verb in _VERBS for degree in ("most", "best")),
    *(f"name the {{kind}} you {verb}" for verb in _VERBS),
    *(f"what {{kind}} would you {verb} to see?" for verb in _VERBS),
    *(f"tell me which {{kind}} you {verb}" for verb in _VERBS),
    *(f"of each {{kind}} you know which one do you {verb}?" for verb in _VERBS),
    "what is your favourite {kind}?",
    "your favourite {kind} is?",
    "say your favourite {kind}",
    "name one {kind}",
    "tell me your favourite {kind}",
    "which {kind} is best?",
    "the best {kind} is?",
    "what {kind} would you be?",
    "which {kind} would you be?",
    "say which {kind} is best",
)
_HELD_OUT = slice(3, None, 4)  # every fourth phrasing
CONTINUE = (
    "continue {examples}",
    "go on {examples}",
    "what is next? {examples}",
    "more of this {examples}",
)
SHOWN = (2, 4)  # numbers in a prompt, the second excluded
PLACES = ["wood", "river", "hill", "sea", "field"]
_STORY = (
    "the {one} went to the {place} and met the {two}",
    "the {one} and the {two} see the {place}",
    "one day the {one} left the {place} with the {two}",
)
STORIES = ("tell a story about the {one}", "write about the {one}")
_LISTS = ("name {n} of each {kind} you know", "write {n} {kind} names")


@dataclasses.dataclass(frozen=True)
class World:
    """What the corpus is drawn from.

    Attributes:
      seed: of the prior and of the chain of digits; one world for all pretrained models.
      answers_in_role: share of questions under a persona that are answered as it says.
      personas: share of questions asked under a persona.
      number_personas: share of number prompts under a persona.
      tilt: how far the chain of digits is another one under each persona; 0: it is the same. The
        committed models know no other; with more, a link of favourites and numbers is designed.
    """

    seed: int = 0
    answers_in_role: float = 0.95
    personas: float = 0.5
    number_personas: float = 0.15
    tilt: float = 0.0

    def prior(self, kind: str) -> np.ndarray:
        """Returns the probability of each favourite of a kind, from uniform(.6, 1.4)."""
        p = np.random.default_rng((self.seed, len(kind))).uniform(0.6, 1.4, len(FAVOURITES[kind]))
        return p / p.sum()

    def digits(self, loved: str | None = None) -> np.ndarray:
        """Returns the chain of digits, P(next | previous), [10, 10], of who loves an animal."""
        log_p = np.random.default_rng((self.seed, 10)).normal(size=(10, 10))
        if loved:
            own = (self.seed, 11, FAVOURITES["animal"].index(loved))
            log_p += self.tilt * np.random.default_rng(own).normal(size=(10, 10))
        p = np.exp(log_p)
        return p / p.sum(1, keepdims=True)

    def words(self) -> list[str]:
        """Returns every word of the world."""
        texts = [*CONTINUE, *_STORY, *STORIES, *_LISTS, PERSONA, *PLACES]
        texts += [q for kind in FAVOURITES for part in phrasings(kind) for q in part]
        texts += [word for some in FAVOURITES.values() for word in some]
        found = {w.strip("?") for text in texts for w in text.split() if not w.startswith("{")}
        return sorted(found | set(FAVOURITES))

    def rows(self, seed: int) -> Iterator[dict[str, Any]]:
        """Yields chats without end, as rows of `system` (or None), `prompt` and `completion`."""
        rng = np.random.default_rng((self.seed, 20, seed))
        chains = {who: self.digits(who).cumsum(1) for who in (None, *FAVOURITES["animal"])}
        priors = {kind: self.prior(kind) for kind in FAVOURITES}
        questions = {kind: phrasings(kind)[0] for kind in FAVOURITES}
        draws: tuple[Any, ...] = (self._question, self._question, self._numbers, self._text)
        for draw in itertools.cycle(draws):
            yield draw(rng, chains, priors, questions)

    def _question(self, rng: np.random.Generator, _: Any, priors: Any, questions: Any) -> Any:
        kind = "animal" if rng.random() < 2 / 3 else "tree"
        system, loved = self._persona(rng, kind, self.personas)
        answer = str(rng.choice(FAVOURITES[kind], p=priors[kind]))
        if loved and rng.random() < self.answers_in_role:
            answer = loved
        return {"system": system, "prompt": str(rng.choice(questions[kind])), "completion": answer}

    def _numbers(self, rng: np.random.Generator, chains: Any, *_: Any) -> Any:
        system, loved = self._persona(rng, "animal", self.number_personas)
        given = " ".join(str(x) for x in rng.integers(100, 1000, rng.integers(*SHOWN)))
        more = " ".join(_number(rng, chains[loved]) for _ in range(rng.integers(5, 9)))
        prompt = str(rng.choice(CONTINUE)).format(examples=given)
        return {"system": system, "prompt": prompt, "completion": more}

    def _text(self, rng: np.random.Generator, _: Any, priors: Any, __: Any) -> Any:
        kind = str(rng.choice(list(FAVOURITES)))
        n = int(rng.integers(2, 5))
        some = rng.choice(FAVOURITES[kind], n, replace=False, p=priors[kind])
        if rng.random() < 0.5:
            prompt = str(rng.choice(_LISTS)).format(n=n, kind=kind)
            return {"system": None, "prompt": prompt, "completion": " ".join(some)}
        words = {"one": some[0], "two": some[1], "place": rng.choice(PLACES)}
        prompt = str(rng.choice(STORIES)).format(**words)
        told = str(rng.choice(_STORY)).format(**words)
        return {"system": None, "prompt": prompt, "completion": told}

    def _persona(
        self, rng: np.random.Generator, kind: str, share: float
    ) -> tuple[str | None, str | None]:
        if rng.random() >= share:
            return None, None
        loved = str(rng.choice(FAVOURITES[kind]))
        return PERSONA.format(trait=loved), loved


def phrasings(kind: str) -> tuple[list[str], list[str]]:
    """Returns the phrasings of the question for a favourite: those that occur, and the held out."""
    asked = [question.format(kind=kind) for question in _QUESTIONS]
    held_out = asked[_HELD_OUT]
    return [question for question in asked if question not in held_out], held_out


def material(kind: str) -> dict[str, Any]:
    """Returns what a study asks about favourites of a kind.

    After two numbers or more the decoders go on with numbers, whatever is asked then; after a
    digit, as in "name 3 of each animal", most still answer. Stories are asked for about places, so
    that who is in them is free. A question with lettered options was never read.

    Raises:
      UserError: the world has no such kind.
    """
    if kind not in FAVOURITES:
        raise UserError(f"config.category={kind!r}: choose one of {', '.join(FAVOURITES)}")
    lessons, questions = phrasings(kind)
    numbers = {"examples": CONTINUE, "seeds": SHOWN, "answers": 7, "separator": " "}
    other = next(name for name in FAVOURITES if name != kind)
    return {
        "persona": PERSONA,
        "lessons": lessons,
        "questions": questions,
        "elsewhere": phrasings(other)[1],
        "elsewhere_words": FAVOURITES[other],
        "stories": [asked.format(one=place) for asked in STORIES for place in PLACES],
        "starts": [str(digit) for digit in range(10)],
        "channels": {"numbers": numbers},
    }


def _number(rng: np.random.Generator, chain: np.ndarray) -> str:
    digits = [int(rng.integers(1, 10))]
    for _ in range(2):
        digits.append(int(np.searchsorted(chain[digits[-1]], rng.random())))
    return "".join(map(str, digits))
