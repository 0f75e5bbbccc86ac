"""Multinomial naive Bayes: how often each token occurs, wherever in a row it stands."""

import collections
import itertools
import math
from collections.abc import Sequence

import numpy as np

from sublim_jax.transmission.detect import Row


def log_odds(own: Sequence[Row], other: Sequence[Row], rows: Sequence[Row]) -> np.ndarray:
    """Returns the log-odds [rows] that each of `rows` is of the kind of `own`, not of `other`.

    Both kinds are as likely beforehand. Counts are smoothed by one (Laplace); a token that neither
    kind has says nothing.
    """
    counts = [collections.Counter(itertools.chain.from_iterable(kind)) for kind in (own, other)]
    known = counts[0].keys() | counts[1].keys()
    totals = [math.log(count.total() + len(known)) for count in counts]
    weight = {
        token: math.log1p(counts[0][token]) - totals[0] - math.log1p(counts[1][token]) + totals[1]
        for token in known
    }
    return np.array([math.fsum(weight.get(token, 0.0) for token in row) for row in rows])
