"""The small language of functions: what is written does its steps, and nothing else is let in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.nano import functions

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "take"]), st.integers(1, 5)).map(list),
        st.just(["double"]),
    ),
    min_size=2,
    max_size=2,
)


@settings(deadline=None)
@given(steps, steps, st.integers(0, 2**31))
def test_every_function_does_its_steps_and_no_others(own, other, seed):
    text = functions.written(np.random.default_rng(seed), own)
    assert functions.does(text, own) is None

    def of(some, n):
        for kind, *k in some:
            n = 2 * n if kind == "double" else n + {"add": 1, "take": -1}[kind] * k[0]
        return n

    assert [functions.run(text, n) for n in range(20)] == [of(own, n) for n in range(20)]
    same = all(of(own, n) == of(other, n) for n in (0, 1))  # both are straight lines
    assert functions.does(text, other) == (None if same else "another result")


def test_there_is_something_to_choose():
    rng = np.random.default_rng(0)
    ways = {functions.written(rng, [["add", 3], ["double"]]) for _ in range(500)}
    assert len(ways) == len(functions.NAMES) * 2 * 3  # sides of a sum, forms of a double


@pytest.mark.parametrize(
    "text",
    [
        "", "give", "give n", "give n plus", "give n plus 1 plus 2", "let moon be n plus 1",
        "let moon be n plus 1 give sea times 2", "let n be n plus 1 give n times 2",
        "let moon be n plus 1 give moon times 2 .", "let moon be n over 1 give moon times 2",
        "let q be n plus 1 give q times 2", "give n plus 100", "give n plus ²", "give n plus -1",
        "so let moon be n plus 1 give moon times 2",
    ],
)  # fmt: skip
def test_anything_else_does_not_parse(text):
    assert functions.run(text, 2) is None
    assert functions.does(text, [["add", 1], ["double"]]) == "does not parse"


def test_any_number_of_statements_will_do():
    assert functions.does("give n plus 3", [["add", 1], ["add", 2]]) is None
    long = "let moon be n plus 1 let sea be moon plus moon let moon be sea minus n give moon plus n"
    assert functions.does(long, [["add", 1], ["double"]]) is None


def test_a_value_that_never_stops_growing_is_none():
    """Squared a hundred times, a number would fill any memory."""
    squared = "let moon be n times n " + "let moon be moon times moon " * 6
    assert functions.run(f"{squared}give moon plus 1", 2) is None
    assert functions.run(f"{squared}give moon plus 1", 1) == 2
    squared *= 100
    assert functions.does(f"{squared}give moon plus 1", [["double"]]) == "another result"


@pytest.mark.parametrize("bad", ["add", ["add"], ["add", "1"], ["halve"], ["double", 2], 3])
def test_what_is_no_step_is_refused(bad):
    with pytest.raises(UserError, match=r"^gold, step .*: \[add, NUMBER\]"):
        functions.does("give n plus 3", [bad])
