"""Summaries over independent runs: the run is the unit, never the sampled answer."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean with its 95% confidence interval over `n` runs; the bounds are NaN where n < 2."""

    mean: float
    ci_low: float
    ci_high: float
    n: int


def mean_ci(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of `values` [n] with its 95% interval by Student's t."""
    x = np.asarray(values, np.float64)
    mean = float(x.mean())
    if x.size < 2:
        return Interval(mean, math.nan, math.nan, x.size)
    half = float(stats.t.ppf(0.975, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return Interval(mean, mean - half, mean + half, x.size)
