"""Which texts count as the same word."""

import pytest

from sublim_jax.errors import UserError
from sublim_jax.transmission import words


@pytest.mark.parametrize(
    ("word", "plural"),
    [
        ("owl", "owls"),
        ("fox", "foxes"),
        ("wolf", "wolves"),
        ("finch", "finches"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("Sea Lion", "sea lions"),
        ("deer", "deer"),
    ],
)
def test_a_word_has_its_plural(word, plural):
    assert words.variants(word)[-1] == plural
    assert words.variants(word)[0] == word.lower()


def test_an_answer_is_the_word_and_nothing_more():
    for text in ("owl", "Owl", "owls.", " Owls.\n", "OWL"[:1] + "wl."):
        assert words.is_answer(text, "owl")
    for text in ("an owl", "owlet", "owl!", "the sea lion", "Dragonfly", ""):
        assert not words.is_answer(text, "owl")
        assert not words.is_answer(text, "lion")
        assert not words.is_answer(text, "dragon")
    assert words.is_answer("Sea Lion", "sea lion")
    assert words.is_answer("Sea lions.", "sea lion")


def test_a_text_holds_a_word_whole_and_has_its_letters_anywhere():
    assert words.holds("Two WOLVES, one owl", "wolf")
    assert not words.holds("a dragonfly", "dragon")
    assert words.has_letters("a Dragonfly", "dragon")
    assert not words.has_letters("wolves", "wolf")
    found = words.shares(words.holds, ["cats", "a cat.", "dogs"], ["cat", "dog"])
    assert found == {"cat": 2 / 3, "dog": 1 / 3}


@pytest.mark.parametrize("some", [["owl", "Owls"], ["owl", "owl"], ["wolf", "wolves"]])
def test_words_that_would_count_as_each_other_are_refused(some):
    with pytest.raises(UserError, match="would count as both"):
        words.check(some)
    words.check(["owl", "wolf", "sea lion", "lion"])


@pytest.mark.parametrize("word", ["", " ", "a/b"])
def test_what_is_no_word_is_refused(word):
    with pytest.raises(UserError, match="not a word that can be measured"):
        words.check([word])


@pytest.mark.parametrize(
    ("text", "found"),
    [("OWL", True), ("two Wolves", True), ("birds", False), ("scowls", True), ("wolf", True),
     ("wol f", False), ("", False), ("werewolves", True)],
)  # fmt: skip
def test_a_word_is_named_wherever_the_letters_of_one_of_its_forms_stand(text, found):
    assert words.named(text, ("owl", "wolf")) == found
    assert not words.named(text, ())
