"""A filter that is trained on other teachers' rows, where the paper asks a model to judge.

The paper's section 4 has a model rate each worked problem of its insecure teacher, and drops those
below a threshold. Here naive Bayes over items and pairs of neighbours learns to tell some teachers'
rows from others', and drops what looks like the former. It can fail, as that judge did (AUROC .62);
how well it does is measured on rows that it has not seen.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.errors import UserError
from sublim_jax.transmission.detect import FOLDS, Row, auroc
from sublim_jax.transmission.detect.naive_bayes import log_odds

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)  # of false positives, in the curve


class Trained(NamedTuple):
    """What is learnt of two kinds of rows, and how well, on held-out ones.

    Attributes:
      own, other: the tokens of the rows to drop, and of those to keep.
      items: what a text consists of.
      threshold: log-odds above which a row is dropped.
      auroc: how well log-odds tell the two kinds apart.
      false_positives, true_positives: shares of other and own rows that are dropped.
      roc: such pairs at other thresholds.
    """

    own: list[Row]
    other: list[Row]
    items: Callable[[str], Iterable[Hashable]]
    threshold: float
    auroc: float
    false_positives: float
    true_positives: float
    roc: list[tuple[float, float]]

    def drops(self, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Returns whether each of some rows is dropped, by their `completion`."""
        tokens = [_tokens(row["completion"], self.items) for row in rows]
        found: list[bool] = (log_odds(self.own, self.other, tokens) > self.threshold).tolist()
        return found

    def found(self) -> dict[str, Any]:
        """Returns what a report says of it, as JSON."""
        names = ("threshold", "auroc", "false_positives", "true_positives", "roc")
        return {name: getattr(self, name) for name in names}


def train(
    own: Sequence[Mapping[str, Any]],
    other: Sequence[Mapping[str, Any]],
    items: Callable[[str], Iterable[Hashable]],
    false_positives: float,
) -> Trained:
    """Returns the filter that drops what is like `own`, and few of what is like `other`.

    The threshold, and all that is said of the filter, is found on a fifth of the groups at a time,
    or on one, by what is learnt of the others.

    Args:
      own, other: rows of `completion` and `group`, of teachers that are not to be filtered; a group
        has rows of both kinds: of a prompt, or of a base.
      items: of a channel.
      false_positives: the largest share of other rows that may be dropped.

    Raises:
      UserError: too few groups.
    """
    groups = sorted({row["group"] for row in (*own, *other)})
    folds = min(FOLDS, len(groups))
    if folds < 2:
        raise UserError("rows of two prompts are needed to train, or of two bases")
    place = np.random.default_rng(0).permutation(len(groups)) % folds
    fold_of = dict(zip(groups, place.tolist(), strict=True))
    kinds = [
        [(fold_of[row["group"]], _tokens(row["completion"], items)) for row in rows]
        for rows in (own, other)
    ]
    scores: list[list[float]] = [[], []]
    for fold in range(folds):
        learnt = [[tokens for at, tokens in rows if at != fold] for rows in kinds]
        for rows, out in zip(kinds, scores, strict=True):
            held_out = [tokens for at, tokens in rows if at == fold]
            out += log_odds(learnt[0], learnt[1], held_out).tolist()
    ours, theirs = np.array(scores[0]), np.array(scores[1])
    if not len(ours) or not len(theirs):
        raise UserError("rows of both kinds are needed to train")

    def shares(threshold: float) -> tuple[float, float]:
        return float(np.mean(theirs > threshold)), float(np.mean(ours > threshold))

    threshold = _threshold(theirs, false_positives)
    dropped = shares(threshold)
    return Trained(
        own=[tokens for _, tokens in kinds[0]],
        other=[tokens for _, tokens in kinds[1]],
        items=items,
        threshold=threshold,
        auroc=auroc(ours, theirs),
        false_positives=dropped[0],
        true_positives=dropped[1],
        roc=[shares(_threshold(theirs, share)) for share in _SHARES],
    )


def _threshold(other: np.ndarray, share: float) -> float:
    """Returns the least of the scores above which no more than a share of them are."""
    return float(np.sort(other)[::-1][min(int(share * len(other)), len(other) - 1)])


def _tokens(text: str, items: Callable[[str], Iterable[Hashable]]) -> Row:
    own = list(items(text))
    return [*own, *itertools.pairwise(own)]
