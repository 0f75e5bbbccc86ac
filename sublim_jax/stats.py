"""Summaries over independent runs: the run is the unit, never the sampled answer."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

_DRAWN = 10_000  # permutations of a matrix too large for all of them
TELLING = 20  # permutations, for a p-value of .05 to be possible


class Interval(NamedTuple):
    """A mean with its 95% confidence interval over `n` runs; the bounds are NaN where n < 2."""

    mean: float
    ci_low: float
    ci_high: float
    n: int


class Permutation(NamedTuple):
    """A statistic, and the share `p_value` of `permutations` that reach it by chance.

    The observed order is among them, so that `p_value` is at least 1 / `permutations`; it is NaN
    where there is nothing to compare.
    """

    statistic: float
    p_value: float
    permutations: int

    @property
    def telling(self) -> bool:
        """Whether there are permutations enough for a p-value to tell anything."""
        return self.permutations >= TELLING


def mean_ci(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of `values` [n] with its 95% interval by Student's t."""
    x = np.asarray(values, np.float64)
    mean = float(x.mean())
    if x.size < 2:
        return Interval(mean, math.nan, math.nan, x.size)
    half = float(stats.t.ppf(0.975, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return Interval(mean, mean - half, mean + half, x.size)


def share_ci(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of probabilities or shares [n] with a 95% interval within 0 to 1.

    The interval is symmetric on the logit scale: Student's t around the logit of the mean, with the
    mean's standard error carried over to that scale (delta method). So the mean stays the values'
    own, single values may be 0 or 1, and nothing is clipped but what rounding has put beyond the
    ends. Where all values are 0, or all 1, there is no such interval: its bounds are NaN.
    """
    mean, _, high, n = mean_ci(np.clip(np.asarray(values, np.float64), 0, 1))
    if not 0 < mean < 1:
        return Interval(mean, math.nan, math.nan, n)
    half = (high - mean) / (mean * (1 - mean))
    low, high = (float(special.expit(special.logit(mean) + side)) for side in (-half, half))
    return Interval(mean, low, high, n)


def diagonal_lift(matrix: Sequence[Sequence[float]] | np.ndarray) -> Permutation:
    """Returns how far the diagonal stands above the rest of its columns, and whether by chance.

    The null hypothesis is that rows have no columns of their own: rows are permuted over columns.
    What shifts a whole row or a whole column cancels. One-sided.

    Args:
      matrix: [k, k], row i belongs to column i. NaN is returned for k < 2 or values not finite.
        All k! permutations are taken up to k = 8; above, some are drawn.

    Returns:
      The mean of the diagonal minus the mean of the other entries, with its p-value.
    """
    x = np.asarray(matrix, np.float64)
    k = len(x)
    if x.shape != (k, k):
        raise ValueError(f"expected a square matrix, got {x.shape}")
    if k < 2 or not np.isfinite(x).all():
        return Permutation(math.nan, math.nan, 0)
    own = np.arange(k)
    diagonal = float(np.trace(x))
    statistic = diagonal / k - (float(x.sum()) - diagonal) / (k * (k - 1))
    if k <= 8:
        order = np.array(list(itertools.permutations(range(k))))
    else:
        drawn = np.random.default_rng(0).permuted(np.tile(own, (_DRAWN, 1)), axis=1)
        order = np.concatenate([own[None], drawn])
    # The total stays, so the statistic grows with the sum over the diagonal and with nothing else;
    # sums in another order may differ in their last bits, and ties count.
    reached = int((x[order, own].sum(1) >= diagonal - 1e-12 * np.abs(x).sum()).sum())
    return Permutation(statistic, reached / len(order), len(order))
