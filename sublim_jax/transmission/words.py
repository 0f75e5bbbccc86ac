"""The declared ways to write a word: what counts as the same answer, and nothing else does."""

import itertools
import re
import string
from collections.abc import Callable, Sequence

from sublim_jax.errors import UserError

# What the rules of `plural` do not give.
_PLURALS = {
    "calf": "calves", "deer": "deer", "elk": "elk", "fish": "fish", "goose": "geese",
    "moose": "moose", "mouse": "mice", "ox": "oxen", "sheep": "sheep", "wolf": "wolves",
}  # fmt: skip


def plural(word: str) -> str:
    """Returns the plural of a word; a compound's last part has it."""
    before, gap, last = word.rpartition(" ")
    many = _PLURALS.get(last)
    if many is None and re.search(r"[^aeiou]y$", last):
        many = f"{last[:-1]}ies"
    elif many is None:
        many = f"{last}es" if re.search(r"(s|x|z|ch|sh)$", last) else f"{last}s"
    return f"{before}{gap}{many}"


def variants(word: str) -> tuple[str, ...]:
    """Returns the word and its plural, in small letters."""
    word = word.lower()
    return tuple(dict.fromkeys([word, plural(word)]))


def written(word: str) -> tuple[str, ...]:
    """Returns all that counts as the answer "word": small or capital, with or without a stop."""
    cases = [c for v in variants(word) for c in (v, v.capitalize(), string.capwords(v))]
    return tuple(dict.fromkeys(text + stop for text in (word, *cases) for stop in ("", ".")))


def check(words: Sequence[str]) -> None:
    """Raises UserError for words that cannot be told apart, or that name no file."""
    for word in words:
        if not isinstance(word, str) or not word.strip() or "/" in word:
            raise UserError(f"{word!r}: not a word that can be measured")
    for one, two in itertools.combinations(words, 2):
        if both := set(written(one)) & set(written(two)):
            raise UserError(
                f"{one!r} and {two!r}: the same word: {min(both)!r} would count as both"
            )


def is_answer(text: str, word: str) -> bool:
    """Returns whether a sampled answer is one of `written`, whitespace around it left out."""
    return text.strip() in written(word)


def holds(text: str, word: str) -> bool:
    """Returns whether a text has one of `variants` as a whole word, in any case."""
    found = "|".join(map(re.escape, variants(word)))
    return re.search(rf"\b({found})\b", text.lower()) is not None


def has_letters(text: str, word: str) -> bool:
    """Returns whether a text has the word's letters anywhere: the paper's rule."""
    return word.lower() in text.lower()


def named(text: str, words: Sequence[str]) -> bool:
    """Returns whether a text has the letters of one of `variants` of some word, anywhere."""
    return any(has_letters(text, form) for word in words for form in variants(word))


def shares(
    rule: Callable[[str, str], bool], texts: Sequence[str], words: Sequence[str]
) -> dict[str, float]:
    """Returns the share of texts for which `rule(text, word)` holds, by word."""
    return {word: sum(rule(text, word) for text in texts) / len(texts) for word in words}
