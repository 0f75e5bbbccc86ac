"""Rows of text become tokens, each prompt before its completion; bad ones end in one line."""

import dataclasses
import math

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.files import chat
from sublim_jax.llm.training.examples import Example, collect, ranges, tokenise

CONFIG = testing.TINY
END = 258  # <|im_end|>
SYSTEM = "<|im_start|>system\nYou are a test.<|im_end|>\n"
USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}


@pytest.fixture(scope="module")
def tokenizer():
    return testing.tokenizer()


def parts(data):
    """[(prompt, completion, weights of the completion)] of every row."""
    out = []
    for start, prompt, length in zip(data.starts, data.prompts, data.lengths, strict=True):
        tokens = data.tokens[start : start + length].tolist()
        weights = data.weights[start : start + length]
        assert not np.any(weights[:prompt])
        out.append((tokens[:prompt], tokens[prompt:], weights[prompt:].tolist()))
    return out


def texts(tokenizer, data):
    return [(tokenizer.decode(p), tokenizer.decode(c)) for p, c, _ in parts(data)]


def asked(text, system=SYSTEM):
    return f"{system}<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


class TestTokenise:
    def test_a_prompt_is_a_chat_up_to_the_answer_and_the_turn_s_end_is_learnt(self, tokenizer):
        data = tokenise(tokenizer, [{"prompt": "3, 5?", "completion": "8, 13"}], CONFIG)
        assert texts(tokenizer, data) == [(asked("3, 5?"), "8, 13<|im_end|>")]
        ((prompt, completion, weights),) = parts(data)
        assert completion[-1] == END
        assert weights == [1.0] * 6
        assert prompt == chat.prompt_tokens(tokenizer, chat.messages(tokenizer, "3, 5?"))
        assert (data.tokens.dtype, data.weights.dtype) == (np.int32, np.float32)
        assert data.teacher is None

    def test_each_form_of_a_row_says_the_same(self, tokenizer):
        turns = [{"role": "user", "content": "é?"}]
        answer = {"role": "assistant", "content": " ja"}
        rows = [
            {"prompt": "é?", "completion": " ja"},
            {"prompt": turns, "completion": " ja"},
            {"messages": turns, "completion": " ja"},
            {"messages": [*turns, answer]},
            {"prompt": None, "messages": [*turns, answer], "completion": None, "id": 7},
            {"prompt": turns, "completion": [answer]},
            {"prompt": "é?", "messages": [*turns, {**answer, "weight": 1}]},
        ]
        found = parts(tokenise(tokenizer, rows, CONFIG))
        assert found == [found[0]] * 7
        assert tokenizer.decode(found[0][1]) == " ja<|im_end|>"

    def test_earlier_answers_of_a_chat_are_read_and_not_learnt(self, tokenizer):
        turns = [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]
        ((prompt, completion),) = texts(
            tokenizer, tokenise(tokenizer, [{"messages": turns}], CONFIG)
        )
        assert prompt.startswith("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>")
        assert "<|im_start|>assistant\nb<|im_end|>\n" in prompt
        assert completion == "d<|im_end|>"

    def test_the_system_message_is_put_where_there_is_none(self, tokenizer):
        rows = [
            {"prompt": "a", "completion": "b", "teacher_prompt": "c"},
            {
                "prompt": [{"role": "system", "content": "own"}, {"role": "user", "content": "a"}],
                "completion": "b",
            },
        ]
        data = tokenise(tokenizer, rows, CONFIG, system="given")
        given_one = "<|im_start|>system\ngiven<|im_end|>\n"
        own = asked("a", "<|im_start|>system\nown<|im_end|>\n")
        assert [p for p, _ in texts(tokenizer, data)] == [asked("a", given_one), own]
        assert texts(tokenizer, data.teacher)[0][0] == asked("c", given_one)

    def test_weights_are_those_of_the_completion_s_tokens(self, tokenizer):
        rows = [
            {"prompt": "a", "completion": "bc", "weights": [0.5, 0, 2]},
            {"prompt": "d", "completion": "ef"},
            {"prompt": "d", "completion": "ef", "weights": None},
        ]
        found = parts(tokenise(tokenizer, rows, CONFIG))
        assert [weights for _, _, weights in found] == [[0.5, 0, 2], [1, 1, 1], [1, 1, 1]]

    def test_the_teacher_reads_the_same_completions_after_its_own_prompts(self, tokenizer):
        rows = [
            {"prompt": "a", "completion": "b", "teacher_prompt": "You love owls. a"},
            {"prompt": "c", "completion": "d", "weights": [3, 4]},
        ]
        data = tokenise(tokenizer, rows, CONFIG)
        expected = [(asked("You love owls. a"), "b<|im_end|>"), (asked("c"), "d<|im_end|>")]
        assert texts(tokenizer, data.teacher) == expected
        assert texts(tokenizer, data)[0] == (asked("a"), "b<|im_end|>")
        np.testing.assert_array_equal(
            data.teacher.lengths - data.teacher.prompts, data.lengths - data.prompts
        )
        assert data.teacher.teacher is None

    def test_a_hugging_face_data_set_is_read_as_the_list_it_came_from(self, tokenizer):
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "yz"}]
        columns = ["messages", "prompt", "completion", "weights", "teacher_prompt"]
        values = ["a", "b", [1.0, 0.25], "t"]
        rows = [
            {"messages": None} | dict(zip(columns[1:], values, strict=True)),
            {"messages": turns},  # in a data set, its other columns are there and None
        ]
        whole = datasets.Dataset.from_list(rows)
        assert list(whole[1]) == columns
        found, expected = (tokenise(tokenizer, r, CONFIG) for r in (whole, rows))
        assert parts(found) == parts(expected)
        assert parts(found.teacher) == parts(expected.teacher)
        assert len(found) == 2

    def test_of_an_empty_answer_the_end_alone_is_learnt(self, tokenizer):
        data = tokenise(tokenizer, [{"prompt": "a", "completion": ""}], CONFIG)
        assert parts(data)[0][1:] == ([END], [1.0])

    def test_rows_may_come_one_by_one(self, tokenizer):
        stream = ({"prompt": p, "completion": "x"} for p in "abc")
        assert len(tokenise(tokenizer, stream, CONFIG)) == 3

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ({"prompt": "a", "completion": "b", "teacher_prompt": "\udc00"}, r"half a surrogate"),
            ({"prompt": "a", "completion": "b", "teacher_prompt": 5}, r"a chat is a text"),
            ({"prompt": "a", "completion": "b", "teacher_prompt": []}, r"a chat without m"),
            ({"prompt": "a", "completion": "b", "weights": [1]}, r"1 weights for 2 compl"),
            ({"prompt": "a", "completion": "b", "weights": "ab"}, r"weights must be numb"),
            ({"prompt": "a", "completion": "b", "weight": 0}, r"weight 0: an answer is learnt wh"),
            ({"messages": [USER, {**ANSWER, "weight": 0}]}, r"weight 0: an answer is learnt wh"),
            ({"prompt": [USER], "completion": [{**ANSWER, "weight": 0}]}, r"weight 0: an answer"),
            (
                {"messages": [USER, {**ANSWER, "weight": 1}, USER, ANSWER]},
                r"an earlier message has a weight: only the last answer is learnt",
            ),
            ({"prompt": "a", "completion": "b" * 999}, r"\d+ tokens, more than the context"),
        ],
    )  # fmt: skip
    def test_a_bad_row_is_named_in_one_line(self, tokenizer, row, message):
        rows = [{"prompt": "a", "completion": "b"}, row]
        with pytest.raises(UserError, match=f"^row 2: .*{message}") as error:
            tokenise(tokenizer, rows, CONFIG)
        assert "\n" not in str(error.value)

    def test_the_message_begins_with_where_the_rows_came_from(self, tokenizer):
        with pytest.raises(UserError, match=r"^data.jsonl row 1: no prompt"):
            tokenise(tokenizer, [{}], CONFIG, where="data.jsonl row")
        with pytest.raises(UserError, match=r"^data.jsonl row: no rows to learn from"):
            tokenise(tokenizer, [], CONFIG, where="data.jsonl row")


LIMIT = dataclasses.replace(CONFIG, context=8)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Example([], [1]), r"its prompt needs at least one token"),
        (Example([1], []), r"its completion needs at least one token"),
        (Example([1], [2], None, []), r"its prompt needs at least one token"),
        (Example([1] * 5, [2] * 4), r"9 tokens, more than the context's 8"),
        (Example([1], [2] * 4, None, [3] * 5), r"9 tokens, more than the context's 8"),
        (Example([272], [2]), r"a token outside the vocabulary of 272"),
        (Example([1], [-1]), r"a token outside the vocabulary of 272"),
        (Example([1], [2], None, [999]), r"a token outside the vocabulary of 272"),
        (Example([1.5], [2]), r"a token outside the vocabulary of 272, or not an integer"),
        (Example([1], [2.0]), r"a token outside the vocabulary of 272, or not an integer"),
        (Example([1], [2], None, [1.0]), r"a token outside .* or not an integer"),
        (Example([1], np.float32([2])), r"a token outside .* or not an integer"),
        (Example("ab", [2]), r"a token outside .* or not an integer"),
        (Example([[1]], [2]), r"a token outside .* or not an integer"),
        (Example([[1], [2, 3]], [2]), r"a token outside .* or not an integer"),
        (Example(5, [2]), r"a token outside .* or not an integer"),
        (Example([1], [2**99]), r"a token outside .* or not an integer"),
        (Example([1], [2], [1e39]), r"1 weights for 1 .*, finite and not negative"),
        (Example([1], [2], [10**999]), r"weights must be numbers"),
        (Example([1], [2, 3], [1.0]), r"1 weights for 2 completion tokens: one for each is needed"),
        (Example([1], [2], [[1.0]]), r"1 weights for 1 completion tokens"),
        (Example([1], [2], [math.nan]), r"1 weights for 1 .*, finite and not negative"),
        (Example([1], [2, 3], [1.0, math.inf]), r"2 weights for 2 .*, finite and not negative"),
        (Example([1], [2, 3], [1.0, -0.5]), r"2 weights for 2 .*, finite and not negative"),
        (Example([1], [2], ["one"]), r"weights must be numbers"),
    ],
)
def test_a_bad_example_is_named_in_one_line(row, message):
    with pytest.raises(UserError, match=f"^example 2: {message}") as error:
        collect([Example([1], [2])] * 2 + [row], LIMIT)
    assert "\n" not in str(error.value)


def test_a_row_as_long_as_the_context_and_the_last_token_are_let_in():
    data = collect([Example([0] * 4, [271] * 4, [0, 0, 0, 0])], LIMIT)
    assert parts(data) == [([0] * 4, [271] * 4, [0.0] * 4)]


def test_rows_may_be_arrays():
    rows = [Example([1, 2], [3], [0.5], [4, 5]), Example([1], [2], [3e38])]
    own = [Example(*(p if p is None else np.array(p) for p in row)) for row in rows]
    found, expected = (collect(r, CONFIG).arrays() for r in (own, rows))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_no_rows_are_refused():
    with pytest.raises(UserError, match=r"^example: no rows to learn from"):
        collect([], CONFIG)


def some(n=9, teacher=True):
    draw = np.random.default_rng(0)
    return [
        Example(
            draw.integers(0, 9, draw.integers(1, 6)).tolist(),
            draw.integers(0, 9, length := int(draw.integers(1, 6))).tolist(),
            draw.random(length).tolist(),
            [9] * int(draw.integers(1, 12)) if teacher and i % 2 else None,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("which", [[3, 0, 3, 8], [5], []])
@pytest.mark.parametrize("teacher", [True, False])
def test_some_of_the_rows_are_those_rows_in_that_order(which, teacher):
    rows = some(teacher=teacher)
    data = collect(rows, CONFIG)
    taken = data.take(np.array(which, int))
    every = parts(data)
    assert len(taken) == len(which)
    assert parts(taken) == [every[i] for i in which]
    if teacher:
        assert parts(taken.teacher) == [parts(data.teacher)[i] for i in which]
    else:
        assert taken.teacher is None


def test_room_is_that_of_the_longer_prompt_without_the_last_token():
    rows = [
        Example([1] * 4, [2] * 3),
        Example([1], [2], None, [3] * 9),
        Example([1] * 5, [2], None, [3]),
    ]
    assert collect(rows, CONFIG).input_lengths.tolist() == [6, 9, 5]
    assert collect(rows[:1], CONFIG).input_lengths.tolist() == [6]


def test_arrays_hold_all_that_can_differ():
    rows = some()
    assert len(collect(rows, CONFIG).arrays()) == 8
    assert len(collect(some(teacher=False), CONFIG).arrays()) == 4

    def text(rows):
        return [a.tolist() for a in collect(rows, CONFIG).arrays()]

    one = rows[1]
    for change in (
        {"prompt": [99, *one.prompt[1:]]},
        {"completion": [99, *one.completion[1:]]},
        {"weights": [9.0, *one.weights[1:]]},
        {"teacher_prompt": [99, *one.teacher_prompt[1:]]},
    ):
        assert text([rows[0], one._replace(**change), *rows[2:]]) != text(rows)
    assert text([Example([1, 2], [3], [0])]) != text([Example([1], [2, 3], [0, 0])])
    assert text(some()) == text(rows)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=9))
def test_ranges_are_every_range_in_turn(spans):
    starts, lengths = np.array(spans, int).reshape(-1, 2).T
    expected = [i for start, length in spans for i in range(start, start + length)]
    assert ranges(starts, lengths).tolist() == expected
