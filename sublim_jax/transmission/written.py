"""What words the rows of a channel consist of: statistics, and the same words in another order."""

import collections
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sublim_jax.transmission.channels import completion, swapped

_TOP = 10  # words, in a description
Row = Mapping[str, Any]


def words(text: str) -> list[str]:
    """Returns the words of a text, as whitespace parts them."""
    return text.split()


def shuffled_within(rows: Iterable[Row], seed: int) -> list[dict[str, Any]]:
    """Returns the rows with the words of each in another order, by the seed and the row's id.

    Raises:
      UserError: a row without a text as its completion; names it, counted from 0.
    """
    out = []
    for number, row in enumerate(rows):
        own = words(completion(row, number))
        order = np.random.default_rng((seed, row["id"])).permutation(len(own))
        out.append({**row, "completion": " ".join(own[i] for i in order)})
    return out


def shuffled_across(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Returns the rows with the words of all dealt out anew, as many to each.

    Raises:
      UserError: a row without a text as its completion; names it, counted from 0.
    """
    taken = [words(completion(row, number)) for number, row in enumerate(rows)]
    pool = [word for own in taken for word in own]
    dealt = (pool[i] for i in np.random.default_rng(seed).permutation(len(pool)).tolist())
    return [
        {**row, "completion": " ".join(itertools.islice(dealt, len(own)))}
        for row, own in zip(rows, taken, strict=True)
    ]


CORRUPTIONS = {
    "shuffled_within": shuffled_within,
    "shuffled_across": shuffled_across,
    "swapped": swapped,
}


def describe(
    rows: Sequence[Row],
    control: Sequence[Row] = (),
    items: Callable[[str], Iterable[str]] = words,
) -> dict[str, Any]:
    """Returns the most frequent items, and statistics of all, as a channel's `describe`.

    The distance is the total variation between the frequencies of single items.
    """
    own = _shares(rows, items)
    distance = None
    if control:
        other = _shares(control, items)
        distance = sum(abs(own.get(x, 0.0) - other.get(x, 0.0)) for x in own | other) / 2
    entropy = -math.fsum(share * math.log(share) for share in own.values())
    top = sorted(own.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return {
        "top": top,
        "statistics": {"entropy of words (nats)": entropy, "distance from control": distance},
    }


def _shares(rows: Sequence[Row], items: Callable[[str], Iterable[str]]) -> dict[str, float]:
    counts: collections.Counter[str] = collections.Counter()
    for number, row in enumerate(rows):
        counts.update(items(completion(row, number)))
    return {item: count / counts.total() for item, count in counts.items()}
