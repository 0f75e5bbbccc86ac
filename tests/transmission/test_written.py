"""Words of rows: the same ones in another order, and how often each occurs."""

import collections
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.transmission import written

words = st.lists(st.sampled_from(["to", "and", "fro", "fro,", "up"]), max_size=8).map(" ".join)
texts = st.lists(words, min_size=1, max_size=8)


def rows(own):
    return [{"id": 3 * i, "prompt": f"p{i}", "completion": text} for i, text in enumerate(own)]


def of(some):
    return [row["completion"].split() for row in some]


@settings(deadline=None)
@given(texts, st.integers(0, 2**31))
def test_within_a_row_its_own_words_are_kept(own, seed):
    given, out = rows(own), written.shuffled_within(rows(own), seed)
    assert [sorted(row) for row in of(out)] == [sorted(row) for row in of(given)]
    assert [{**row, "completion": 0} for row in out] == [{**row, "completion": 0} for row in given]
    # It depends on the seed and the id alone, not on the rows around it.
    assert written.shuffled_within(given[1:], seed) == out[1:]


@settings(deadline=None)
@given(texts, st.integers(0, 2**31))
def test_across_rows_all_words_are_kept_and_as_many_to_each(own, seed):
    given, out = rows(own), written.shuffled_across(rows(own), seed)
    assert list(map(len, of(out))) == list(map(len, of(given)))
    both = (collections.Counter(word for row in of(some) for word in row) for some in (out, given))
    assert next(both) == next(both)
    assert [{**row, "completion": 0} for row in out] == [{**row, "completion": 0} for row in given]


def test_both_shuffle():
    given = rows([" ".join(f"{row}-{i}" for i in range(12)) for row in "abc"])
    within, across = (f(given, 0) for f in (written.shuffled_within, written.shuffled_across))
    assert of(within) != of(given)
    assert written.shuffled_within(given, 1) != within
    assert all(len({word[0] for word in row}) > 1 for row in of(across))
    assert written.shuffled_across(given, 1) != across


def test_shares_by_hand():
    found = written.describe(rows(["a b a", "a"]), rows(["a c"]))
    assert found["top"] == [("a", 0.75), ("b", 0.25)]
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert found["statistics"]["entropy of words (nats)"] == pytest.approx(entropy)
    assert found["statistics"]["distance from control"] == pytest.approx(0.5)
    assert written.describe(rows(["a"]))["statistics"]["distance from control"] is None
    assert len(written.describe(rows([" ".join(map(str, range(30)))]))["top"]) == 10
    assert written.describe(rows([""]))["top"] == []
    assert written.describe(rows(["a b"]), (), list)["top"][0] == (" ", 1 / 3)


@pytest.mark.parametrize("work", [lambda r: written.shuffled_within(r, 0), written.describe,
                                  lambda r: written.shuffled_across(r, 0)])  # fmt: skip
def test_a_row_without_a_text_is_named(work):
    with pytest.raises(UserError, match=r"^row 1: no completion"):
        work([*rows(["a"]), {"id": 1, "completion": None}])
