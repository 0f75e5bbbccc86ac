"""The interval over runs, and the permutation test."""

import itertools
import math

import numpy as np
import pytest

from sublim_jax.stats import diagonal_lift, mean_ci, share_ci


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        # By hand, Student's t at 97.5% from a printed table: t * s / sqrt(n).
        ([1, 2, 3, 4], 2.5, 3.1824 * 1.290994 / 2),
        ([0.0, 1.0], 0.5, 12.7062 * 0.5),
        ([5.0] * 3, 5.0, 0.0),
        (np.float32([2, 4, 4, 4, 5, 5, 7, 9]), 5.0, 2.3646 * 2.13809 / math.sqrt(8)),
    ],
)
def test_interval(values: list[float] | np.ndarray, mean: float, half: float) -> None:
    interval = mean_ci(values)
    assert interval.n == len(values)
    np.testing.assert_allclose(interval[:3], [mean, mean - half, mean + half], atol=1e-4)
    assert all(type(number) is float for number in interval[:3])  # as json writes them


def test_one_run_has_no_interval() -> None:
    interval = mean_ci([0.25])
    assert (interval.mean, interval.n) == (0.25, 1)
    assert math.isnan(interval.ci_low)
    assert math.isnan(interval.ci_high)


def test_it_covers_the_truth_nineteen_times_in_twenty() -> None:
    samples = np.random.default_rng(0).normal(3.0, 2.0, (2000, 5))
    intervals = [mean_ci(x) for x in samples]
    covered = np.mean([i.ci_low <= 3.0 <= i.ci_high for i in intervals])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        # By hand: mean .4, t s / sqrt(n) = 4.3027 * .1 / sqrt(3) = .24842, over .4 * .6: 1.03508
        # about logit(.4) = -.405465: sigmoids of -1.440545 and .629615.
        ([0.3, 0.4, 0.5], (0.4, 0.191462, 0.652403)),
        # Single values at an end: half 12.7062 * .5 / .25 = 25.4, about logit(.5) = 0.
        ([0.0, 1.0], (0.5, 0.0, 1.0)),
        ([0.25] * 3, (0.25, 0.25, 0.25)),
        ([1.0, 1.0 + 1e-7], (1.0, math.nan, math.nan)),  # scored: rounding may pass the end
        ([0.0] * 5, (0.0, math.nan, math.nan)),
        ([0.25], (0.25, math.nan, math.nan)),
        ([0.25, math.nan], (math.nan, math.nan, math.nan)),
    ],
)
def test_interval_of_shares(values: list[float], interval: tuple[float, ...]) -> None:
    found = share_ci(values)
    assert found.n == len(values)
    np.testing.assert_allclose(found[:3], interval, atol=1e-5)
    assert all(type(number) is float for number in found[:3])


def test_intervals_of_shares_stay_inside_and_cover_the_truth() -> None:
    # Runs as different as students are: the interval by Student's t alone leaves 0 to 1 here.
    samples = np.random.default_rng(0).beta(0.6, 2.4, (2000, 5))
    intervals = [share_ci(x) for x in samples]
    assert min(i.ci_low for i in intervals) >= 0
    assert max(i.ci_high for i in intervals) <= 1
    plain = [mean_ci(x) for x in samples]
    assert min(i.ci_low for i in plain) < 0
    covered = np.mean([i.ci_low <= 0.2 <= i.ci_high for i in intervals])
    assert covered > np.mean([i.ci_low <= 0.2 <= i.ci_high for i in plain])
    assert 0.92 < covered < 0.98


@pytest.mark.parametrize(
    ("matrix", "lift", "p_value"),
    [
        ([[1, 0], [0, 1]], 1.0, 1 / 2),
        ([[0, 1], [1, 0]], -1.0, 1.0),
        # Sums over the diagonal in the six orders of the rows: 6, 4, 3, 3, 2, 0.
        ([[3, 1, 0], [0, 2, 1], [1, 0, 1]], 6 / 3 - 3 / 6, 1 / 6),
        # 5; then one order above it and one as high: 6, 5, 2, 2, 0.
        ([[3, 1, 0], [0, 1, 3], [1, 0, 1]], 5 / 3 - 5 / 6, 3 / 6),
        # Rows that differ in size alone, and columns: nothing to tell them apart by.
        ([[0.1 * i + 0.7 * j for j in range(4)] for i in range(4)], 0.0, 1.0),
    ],
)
def test_lift_by_hand(matrix: list[list[float]], lift: float, p_value: float) -> None:
    found = diagonal_lift(matrix)
    assert found.statistic == pytest.approx(lift, abs=1e-12)
    assert found.p_value == pytest.approx(p_value)
    assert found.permutations == math.factorial(len(matrix))
    assert found.telling == (len(matrix) > 3)  # of three traits, 1 / 6 is the least there can be


@pytest.mark.parametrize("k", [2, 3, 4])
def test_lift_against_every_order_of_the_rows(k: int) -> None:
    for matrix in np.random.default_rng(k).normal(size=(20, k, k)):
        off = ~np.eye(k, dtype=bool)
        orders = [matrix[list(order)] for order in itertools.permutations(range(k))]
        lifts = [float(x.diagonal().mean() - x[off].mean()) for x in orders]
        found = diagonal_lift(matrix)
        assert found.statistic == pytest.approx(lifts[0])
        assert found.p_value == pytest.approx(np.mean(np.array(lifts) >= lifts[0] - 1e-12))


def test_lift_does_not_see_rows_or_columns_that_move_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 5))
    moved = matrix + rng.normal(size=(5, 1)) * 10 + rng.normal(size=(1, 5)) * 10
    # A row's size weighs on its own entry once, and on the mean of the others as much.
    assert diagonal_lift(moved).statistic == pytest.approx(diagonal_lift(matrix).statistic)
    assert diagonal_lift(moved).p_value == diagonal_lift(matrix).p_value


@pytest.mark.parametrize("k", [2, 5, 9])
def test_ties_count_though_sums_round_differently(k: int) -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):  # rows and columns that move as a whole: every order is as good
        assert diagonal_lift(rng.random((k, 1)) + rng.random((1, k))).p_value == 1.0
    assert diagonal_lift(np.zeros((k, k))).p_value == 1.0


def test_lift_by_chance_is_as_rare_as_it_says() -> None:
    found = [diagonal_lift(x).p_value for x in np.random.default_rng(1).normal(size=(1500, 4, 4))]
    for rank in (1, 6, 12):
        share = rank / 24
        error = math.sqrt(share * (1 - share) / 1500)
        assert abs(np.mean(np.array(found) <= share + 1e-9) - share) < 4 * error


def test_lift_of_many_traits_is_drawn() -> None:
    matrix = np.random.default_rng(2).normal(size=(9, 9))
    found = diagonal_lift(matrix)
    assert found.permutations == 10_001
    assert diagonal_lift(matrix) == found
    # Not 0, though no order that was drawn reaches it; and all of them reach a tie.
    assert diagonal_lift(np.eye(12)).p_value == 1 / 10_001
    assert diagonal_lift(np.ones((9, 9))).p_value == 1.0


@pytest.mark.parametrize("matrix", [[[1.0]], [[1.0, math.nan], [0.0, 1.0]], np.zeros((0, 0))])
def test_no_lift_without_two_rows_of_numbers(matrix: list[list[float]]) -> None:
    found = diagonal_lift(matrix)
    assert math.isnan(found.statistic)
    assert math.isnan(found.p_value)
    assert found.permutations == 0


def test_lift_of_a_matrix_that_is_not_square() -> None:
    with pytest.raises(ValueError, match="square"):
        diagonal_lift(np.zeros((2, 3)))
