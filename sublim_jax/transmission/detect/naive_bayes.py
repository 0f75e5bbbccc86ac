"""Multinomial naive Bayes: how often each token occurs, wherever in a row it stands."""

import collections
import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.transmission.detect import Row

TITLE = "naive Bayes on items"


class Share(NamedTuple):
    """An item, and its share of all items of either kind."""

    item: Hashable
    own: float
    other: float


def seen(texts: Sequence[str], items: Sequence[Sequence[Any]]) -> np.ndarray:
    """Returns the items of each text, an array of lists."""
    return np.fromiter(map(list, items), object, len(items))


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


def most_different(
    own: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]], count: int = 10
) -> list[Share]:
    """Returns the items whose shares differ most, in standard errors of their difference."""
    counts = [collections.Counter(itertools.chain.from_iterable(kind)) for kind in (own, other)]
    n, m = (max(some.total(), 1) for some in counts)

    def distance(item: Hashable) -> float:
        p = (counts[0][item] + counts[1][item]) / (n + m)
        error = math.sqrt(p * (1 - p) * (1 / n + 1 / m))
        return abs(counts[0][item] / n - counts[1][item] / m) / error if error else 0.0

    known = sorted(counts[0].keys() | counts[1].keys(), key=str)
    chosen = sorted(known, key=distance, reverse=True)[:count]
    return [Share(item, counts[0][item] / n, counts[1][item] / m) for item in chosen]
