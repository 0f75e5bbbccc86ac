"""Whether anything tells a teacher's data from the control's: one detector a file.

A detector is a function of rows of tokens, of the teacher's and of the control's to learn from and
others to judge: it returns the log-odds that each of the others is the teacher's.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = list[Hashable]
Corrupt = Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]]
Detector = Callable[[Sequence[Row], Sequence[Row], Sequence[Row]], np.ndarray]
BAG, FOLDS = 16, 5
DETECTION = ("auroc", f"auroc_{BAG}")  # of single rows, and of bags


def detected(
    own: Sequence[Mapping[str, Any]],
    control: Sequence[Mapping[str, Any]],
    tokens: Callable[[str], Iterable[Hashable] | None],
    detector: Detector,
    corrupt: Corrupt | None = None,
) -> dict[str, float]:
    """Returns how well `detector` tells a teacher's completions from the control's.

    Of the prompts (`id`) that both have answered, a fifth at a time is held out with both answers:
    the two are balanced, and the detector has seen no held-out prompt. A bag's log-odds are the sum
    of its rows'.

    Args:
      tokens: what the detector sees of a completion; None: nothing.
      corrupt: what is done to the teacher's rows before, to those of each fold by themselves: what
        goes from row to row must not go from what is judged to what is learnt.

    Returns:
      `auroc` of single rows and `auroc_16` of bags of 16, means over the folds; .5 is chance. NaN
      where there are too few rows.
    """

    def seen(rows: Iterable[Mapping[str, Any]]) -> dict[int, Row]:
        return {row["id"]: list(tokens(row["completion"]) or ()) for row in rows}

    written, theirs_by_id = {row["id"]: row for row in own}, seen(control)
    shared = np.random.default_rng(0).permutation(sorted(written.keys() & theirs_by_id.keys()))
    folds = [fold.tolist() for fold in np.array_split(shared, FOLDS)]
    ours_by_id: dict[int, Row] = {}
    for fold in folds:
        some = [written[i] for i in fold]
        ours_by_id |= seen(corrupt(some) if corrupt else some)
    folds = [[i for i in fold if i in ours_by_id] for fold in folds]
    read = ours_by_id, theirs_by_id
    found: list[list[float]] = [[], []]
    for fold in folds if min(map(len, folds)) else []:
        kept = [i for other in folds if other is not fold for i in other]
        ours, theirs = ([rows[i] for i in kept] for rows in read)
        scores = detector(ours, theirs, [rows[i] for rows in read for i in fold]).reshape(2, -1)
        whole = scores[:, : len(fold) // BAG * BAG].reshape(2, -1, BAG).sum(2)
        for values, (high, low) in zip(found, (scores, whole), strict=True):
            values.append(auroc(high, low))
    return {
        name: float(np.mean(values)) if values else float("nan")
        for name, values in zip(DETECTION, found, strict=True)
    }


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Returns the chance that a positive score is above a negative one, a tie counting half."""
    n, m = len(positive), len(negative)
    if not n or not m:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
