"""The interval over runs."""

import math

import numpy as np
import pytest

from sublim_jax.stats import mean_ci


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
