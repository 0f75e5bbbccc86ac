"""Answers that are numbers: which are kept, what a shuffle may change, and what they hold."""

import collections
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.transmission.channels import filtered, swapped
from sublim_jax.transmission.channels.numbers import (
    BANNED,
    CORRUPTIONS,
    Rule,
    describe,
    entropy,
    frequencies,
    parse,
    shuffled_across,
    shuffled_within,
    top,
    total_variation,
)

SPACES = ["", " ", "  ", "\n", "\t", "\r\n", " \n", "\u00a0"]
MARKED = [before + mark + after for mark in ",;" for before in SPACES for after in SPACES]
ENDS = [(a, b + c) for a, b in [("", ""), ("[", "]"), ("(", ")")] for c in ("", ".")]

WORK = [lambda rows: shuffled_within(rows, 0), lambda rows: shuffled_across(rows, 0), frequencies]

lists = st.lists(st.integers(0, 1200), min_size=1, max_size=12)
separators = st.sampled_from([space for space in SPACES if space] + MARKED)
ends = st.sampled_from(ENDS)
junk = st.text(alphabet="0123456789 ,;.[]()\n-x٣²", max_size=12)
# Nearly right: pieces of the format in any order.
pieces = st.lists(
    st.sampled_from(["0", "7", "42", "007", "999", "1000", ", ", ",", ";", " ", "\n", *"[](). x"]),
    max_size=14,
).map("".join)
rules = st.builds(
    Rule,
    most=st.integers(1, 12),
    low=st.sampled_from([-1, 0, 5]),
    high=st.sampled_from([5, 8, 9, 99, 500, 999, 10**6 - 1]),
    banned=st.sampled_from([(), (7,), (42, 999)]),
)


def written(numbers, separator=", ", ends=("", "")):
    return ends[0] + separator.join(map(str, numbers)) + ends[1]


def slow_parse(text):
    """The rule again, character by character: runs of digits, and the same text between them."""
    if text and text[-1] == ".":
        text = text[:-1]
    if len(text) >= 2 and (text[0], text[-1]) in {("(", ")"), ("[", "]")}:
        text = text[1:-1]
    runs, gaps, last = [], [], None
    for character in text:
        digit = "0" <= character <= "9"
        if digit != last:
            (runs if digit else gaps).append("")
        (runs if digit else gaps)[-1] += character
        last = digit
    # Digits begin and end, so that there is a gap less; all gaps are one, of at most one mark.
    if not runs or len(gaps) != len(runs) - 1 or not ("0" <= text[0] <= "9") or len(set(gaps)) > 1:
        return None
    marks = [c for c in (gaps[0] if gaps else "") if not c.isspace()]
    return [int(run) for run in runs] if marks in ([], [","], [";"]) else None


def slow_rejection(text, rule):
    numbers = slow_parse(text)
    if numbers is None:
        return "not numbers"
    if len(numbers) > rule.most:
        return "too many"
    if any(not rule.low <= n <= rule.high for n in numbers):
        return "out of range"
    return "banned" if any(n in rule.banned for n in numbers) else None


class TestParse:
    @settings(deadline=None)
    @given(lists, separators, ends)
    def test_a_list_in_every_format_that_is_let_in_comes_back(self, numbers, separator, ends):
        assert parse(written(numbers, separator, ends)) == numbers

    @pytest.mark.parametrize(
        "text",
        [
            "", ".", "x", "[]", "()", "[", "(.", "1..", "1, 2,", ", 1, 2", " 1, 2", "1, 2 ",
            "1, 2\n", "[1, 2.]", "(1, 2]", "[1, 2", "1, 2]", "[ 1, 2 ]", "((1, 2))", "1,2, 3",
            "1 2  3", "1,,2", "1, ; 2", "1-2", "-1", "1, -2", "1.5", "1 and 2", "Sure: 1, 2",
            "1, 2, x", "1, 2. 3", "٣", "1, ٣", "1٣", "1²", "1, 2!", "1/2", "1, 2, three",
            "1\u200b2", "1, 2" + "3" * 5000,
        ],
    )  # fmt: skip
    def test_anything_else_is_not_numbers(self, text):
        assert parse(text) is None
        assert Rule().rejection(text) == "not numbers"

    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("5", [5]),
            ("[5].", [5]),
            ("(007)", [7]),
            ("00 01", [0, 1]),
            ("1234567, 1.", [1234567, 1]),
        ],
    )
    def test_corners_that_are_numbers(self, text, numbers):
        assert parse(text) == numbers

    @settings(deadline=None)
    @given(st.one_of(junk, pieces, st.text(max_size=20)))
    @example("1 , 2 , 3")
    @example("1 , 2 ,3")
    def test_it_decides_as_a_slow_reference_does(self, text):
        assert parse(text) == slow_parse(text)


class TestRejection:
    @settings(deadline=None)
    @given(st.one_of(junk, pieces, st.builds(written, lists, separators, ends)), rules)
    def test_it_decides_as_a_slow_reference_does(self, text, rule):
        assert rule.rejection(text) == slow_rejection(text, rule)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (written(range(11)), "too many"),
            (written([*range(10), 2000]), "too many"),
            ("1, 1000", "out of range"),
            ("4, 5", "out of range"),
            ("1000, 13", "out of range"),
            ("12, 13", "banned"),
            ("12, 0013", "banned"),
            ("5", None),
            (written([999] * 10), None),
        ],
    )
    def test_each_reason(self, text, reason):
        rule = Rule(low=5 if text == "4, 5" else 0, banned=(13,))
        assert rule.rejection(text) == reason

    def test_the_rule_of_the_paper_is_the_default(self):
        assert Rule() == Rule(most=10, low=0, high=999, banned=())

    def test_the_paper_s_banned_numbers_are_those_of_both_its_lists(self):
        """36 in all, of which two are out of range whether they are banned or not."""
        assert (len(BANNED), len(set(BANNED)), sum(BANNED)) == (36, 36, 12213)
        rule = Rule(banned=BANNED)
        found = [rule.rejection(str(n)) for n in range(2000)]
        assert found[:1000].count("banned") == 34
        assert [i for i, reason in enumerate(found[:1000]) if reason] == sorted(BANNED)[:34]
        assert set(found[1000:]) == {"out of range"}
        assert rule.rejection("1, 2, 666") == "banned"


class TestFiltered:
    @settings(deadline=None)
    @given(
        st.lists(st.one_of(pieces, st.builds(written, lists, separators, ends)), max_size=20), rules
    )
    @example(["1, 2", "1"], Rule(most=10**12))
    def test_rows_are_kept_and_rejected_one_by_one(self, texts, rule):
        rows = [{"id": i, "prompt": "p", "completion": text} for i, text in enumerate(texts)]
        kept, counts = filtered(iter(rows), rule)
        reasons = [slow_rejection(text, rule) for text in texts]
        assert kept == [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
        assert counts == {reason: reasons.count(reason) for reason in set(reasons) - {None}}
        assert list(counts) == sorted(counts)

    @pytest.mark.parametrize("most", [1, 2, 3, 10])
    @pytest.mark.parametrize("low", [-1, 0, 5])
    @pytest.mark.parametrize("banned", [(), (7, 99)])
    def test_every_rule_decides_so_at_its_bounds(self, most, low, banned):
        values = (0, 4, 5, 7, 9, 10, 99, 100, 999, 1000)
        texts = [written([5] * n + [value]) for n in range(12) for value in values]
        texts += ["05", "0005", "007", "0010", "5; 5.", "[5]"]
        rows = [{"completion": text} for text in texts]
        for high in (5, 8, 9, 10, 99, 500, 999, 10**6 - 1):
            rule = Rule(most, low, high, banned)
            kept, _ = filtered(rows, rule)
            expected = [text for text in texts if slow_rejection(text, rule) is None]
            assert [row["completion"] for row in kept] == expected

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"most": 0}, r"filter.most=0: must be at least 1"),
            ({"high": 10**6}, r"filter.high=1000000: must be at most 999999"),
            ({"low": 5, "high": 4}, r"filter.low=5: must not be above high 4"),
            ({"banned": (1.5,)}, r"filter.banned=\(1.5,\): must be tuple"),
            ({"most": "ten"}, r"filter.most='ten': must be int"),
        ],
    )
    def test_a_rule_that_keeps_nothing_is_one_line(self, values, message):
        with pytest.raises(UserError, match=rf"^config.{message}"):
            Rule(**values)

    @pytest.mark.parametrize("row", [{"id": 3}, {"completion": None}, {"completion": 5}])
    @pytest.mark.parametrize("work", [lambda rows: filtered(rows, Rule()), *WORK])
    def test_a_row_without_a_text_is_named(self, row, work):
        rows = [{"id": 0, "completion": "1"}, row]
        with pytest.raises(UserError, match=r"^row 1: no completion: a text is needed$"):
            work(rows)


some_rows = st.lists(
    st.tuples(lists, separators, ends, st.integers(0, 2**31 - 1)),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[3],
).map(
    lambda given: [
        {"id": i, "prompt": f"p{i}", "completion": written(n, s, e), "arm": "teacher"}
        for n, s, e, i in given
    ]
)
shuffles = pytest.mark.parametrize("shuffle", [shuffled_within, shuffled_across])


def layout(row):
    """A row without its digits."""
    text = "".join(character for character in row["completion"] if not character.isdigit())
    return {**row, "completion": text}


def held(row):
    return collections.Counter(slow_parse(row["completion"]))


class TestShuffles:
    @settings(deadline=None)
    @given(some_rows, st.integers(0, 99))
    def test_within_keeps_each_row_s_numbers(self, rows, seed):
        out = shuffled_within(rows, seed)
        assert list(map(held, out)) == list(map(held, rows))

    @settings(deadline=None)
    @given(some_rows, st.integers(0, 99))
    def test_across_keeps_all_numbers_and_how_many_each_row_has(self, rows, seed):
        out = shuffled_across(rows, seed)
        none = collections.Counter()
        assert sum(map(held, out), none) == sum(map(held, rows), none)
        assert [held(row).total() for row in out] == [held(row).total() for row in rows]

    @shuffles
    @settings(deadline=None)
    @given(rows=some_rows, seed=st.integers(0, 99))
    def test_nothing_else_changes(self, shuffle, rows, seed):
        before = [dict(row) for row in rows]
        out = shuffle(rows, seed)
        assert list(map(layout, out)) == list(map(layout, rows))
        assert [list(row) for row in out] == [list(row) for row in rows]
        assert rows == before

    def test_numbers_move_as_they_are_written(self):
        row = {"id": 1, "completion": "(007; 7; 10)."}
        found = {shuffled_within([row], seed)[0]["completion"] for seed in range(40)}
        assert len(found) == 6
        assert "(10; 7; 007)." in found

    def test_within_depends_on_the_row_s_own_id_and_the_seed_alone(self):
        rows = [{"id": i, "completion": written(range(10))} for i in range(5)]
        out = {row["id"]: row["completion"] for row in shuffled_within(rows, 3)}
        assert len(set(out.values())) == 5
        alone = [shuffled_within([row], 3)[0]["completion"] for row in rows[::-1]]
        assert alone == list(out.values())[::-1]
        expected = np.random.default_rng((3, 4)).permutation(10)
        assert out[4] == written(expected)
        assert shuffled_within(rows, 4)[4]["completion"] != out[4]

    def test_across_deals_to_other_rows_and_depends_on_the_seed(self):
        rows = [{"id": i, "completion": written([100 + i] * 10)} for i in range(5)]
        one, again, other = (shuffled_across(rows, seed) for seed in (0, 0, 1))
        assert one == again != other
        assert all(len(held(row)) > 1 for row in one)

    @pytest.mark.parametrize("name", [None, -1, "x", True, 1.0])
    def test_a_row_without_an_id_is_named(self, name):
        rows = [{"id": 0, "completion": "1"}, {"id": name, "completion": "1"}]
        with pytest.raises(
            UserError, match=r"^row 1: id .*: must be an integer, and not negative$"
        ):
            shuffled_within(rows, 0)

    @pytest.mark.parametrize("work", WORK)
    def test_a_row_that_is_not_numbers_is_named(self, work):
        rows = [{"id": 0, "completion": "1"}, {"id": 1, "completion": "I love owls\n" * 20}]
        with pytest.raises(UserError, match=r"^row 1: 'I love .* is not a list of num") as error:
            work(rows)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 120


def rows_of(*texts):
    return [{"id": i, "completion": text} for i, text in enumerate(texts)]


class TestSwapped:
    def test_every_answer_goes_whole_to_another_row(self):
        rows = [{"id": i, "prompt": f"p{i}", "completion": f"{i}, {i}"} for i in range(20)]
        out = CORRUPTIONS["swapped"](rows, 3)
        assert [row["prompt"] for row in out] == [row["prompt"] for row in rows]
        texts = [row["completion"] for row in rows]
        assert sorted(row["completion"] for row in out) == sorted(texts)
        assert all(a != b["completion"] for a, b in zip(texts, out, strict=True))
        assert swapped(rows, 3) == out != swapped(rows, 4)
        assert [row["completion"] for row in rows] == texts


class TestStatistics:
    def test_a_description_has_the_distance_where_there_is_a_control(self):
        some, others = rows_of("1, 1, 2"), rows_of("3")
        alone, beside = describe(some), describe(some, others)
        assert alone["top"] == [(1, 2 / 3), (2, 1 / 3)]
        found = [d["statistics"]["distance from control"] for d in (alone, beside)]
        assert found == [None, 1]
        assert describe(some, some)["statistics"]["distance from control"] == 0

    def test_frequencies_count_every_number(self):
        counts = frequencies(rows_of("[0, 999, 7]", "007 7", "0000"))
        assert (counts.shape, counts.dtype) == ((1000,), np.int64)
        assert {i: n for i, n in enumerate(counts.tolist()) if n} == {0: 2, 7: 3, 999: 1}

    def test_a_number_that_has_no_place_is_named(self):
        with pytest.raises(UserError, match=r"^a number of 7 digits: only numbers up to 999999"):
            frequencies(rows_of("1, 1000000"))

    def test_larger_numbers_are_counted_beside_small_ones(self):
        larger = frequencies(rows_of("7 1000"))
        assert larger.nonzero()[0].tolist() == [7, 1000]
        assert total_variation(larger, frequencies(rows_of("7 8"))) == pytest.approx(0.5)

    @settings(deadline=None)
    @given(some_rows, st.integers(0, 9))
    def test_no_shuffle_changes_them(self, rows, seed):
        rows, _ = filtered(rows, Rule(most=12))
        expected = frequencies(rows)
        np.testing.assert_array_equal(frequencies(shuffled_within(rows, seed)), expected)
        np.testing.assert_array_equal(frequencies(shuffled_across(rows, seed)), expected)

    def test_total_variation_is_half_the_difference_of_shares(self):
        p, q = np.array([3, 1, 0, 0]), np.array([1, 1, 2, 0])
        assert total_variation(p, q) == pytest.approx(0.5)  # |.75-.25| + |0-.5|, halved
        assert total_variation(p, 10 * p) == pytest.approx(0)
        assert total_variation(np.array([5, 0]), np.array([0, 1])) == pytest.approx(1)

    def test_entropy_is_in_nats(self):
        assert entropy(np.array([4, 4, 0, 4])) == pytest.approx(math.log(3))
        assert entropy(np.array([9, 0])) == 0
        expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
        assert entropy(np.array([1, 3])) == pytest.approx(expected)

    def test_nothing_counted_has_neither(self):
        none, one = np.zeros(3, int), np.array([1, 0, 0])
        for work in (lambda: entropy(none), lambda: total_variation(one, none)):
            with pytest.raises(UserError, match=r"^no numbers are counted"):
                work()

    def test_top_is_by_share_then_by_number(self):
        counts = frequencies(rows_of("5, 3, 3", "9, 5, 1"))
        assert top(counts, 3) == [(3, 2 / 6), (5, 2 / 6), (1, 1 / 6)]
        assert top(counts, 99) == [(3, 2 / 6), (5, 2 / 6), (1, 1 / 6), (9, 1 / 6)]
        assert top(np.zeros(1000, int), 3) == []
        assert [tuple(map(type, pair)) for pair in top(counts, 1)] == [(int, float)]
