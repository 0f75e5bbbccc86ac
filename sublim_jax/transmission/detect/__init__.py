"""Whether anything tells a teacher's data from the control's: one detector a file.

A detector that counts is a function of rows of tokens, of the teacher's and of the control's to
learn from and others to judge: it returns the log-odds that each of the others is the teacher's.
As a module it also has `seen(texts, items)`, what it sees of answers that consist of these items:
lists, or the rows of a matrix. `reader` and `prompted` ask a model instead. All judge a `Contest`.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from sublim_jax.errors import UserError

Row = list[Hashable]
Corrupt = Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]]
Detector = Callable[[Sequence[Row], Sequence[Row], Sequence[Row]], np.ndarray]
BAG, FOLDS = 16, 5
DETECTION = ("auroc", f"auroc_{BAG}")  # of single rows, and of bags
SIZES = (1, 8, BAG)  # of bags
DRAWS = 500  # of the bootstrap
# What a trait's rows are told from; last, the control's rows with leaks from those without.
AGAINST = CONTROL, OTHER, LEAKS = "control", "other trait", "leaks"


class Contest(NamedTuple):
    """Two sets of answers to be told apart.

    Attributes:
      trait: whose answers are to be found.
      against: what the others are: one of `AGAINST`.
      ids: int64 [n], of the prompts.
      own, other: the n texts of each, both in the order of `ids`.
      folds: places of the prompts that are held out together, `FOLDS` int64 arrays.
    """

    trait: str
    against: str
    ids: np.ndarray
    own: list[str]
    other: list[str]
    folds: list[np.ndarray]


class Judged(NamedTuple):
    """Log-odds that bags of held-out rows are the trait's.

    Attributes:
      ids: int64 [n], the prompt of each bag's first row.
      own, other: float64 [n], of the trait's bags and of the other's.
    """

    ids: np.ndarray
    own: np.ndarray
    other: np.ndarray


Bags = dict[int, list[Judged]]  # by the size of a bag: of each fold


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
    folds = [fold.tolist() for fold in split(written.keys() & theirs_by_id.keys())]
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
        for values, (high, low) in zip(found, (scores, summed(scores, BAG)), strict=True):
            values.append(auroc(high, low))
    return {
        name: float(np.mean(values)) if values else float("nan")
        for name, values in zip(DETECTION, found, strict=True)
    }


def contest(
    trait: str, against: str, own: Mapping[int, str], other: Mapping[int, str], most: int
) -> Contest:
    """Returns the contest of two sets of answers by their ids: of the first that both have.

    Raises:
      UserError: there are too few for a bag in each fold.
    """
    ids = np.array(sorted(own.keys() & other.keys())[:most], np.int64)
    if len(ids) < FOLDS * BAG:
        raise UserError(
            f"{trait} and {against}: {len(ids)} prompts that both have answered: at least "
            f"{FOLDS * BAG} are needed"
        )
    texts = [[some[i] for i in ids.tolist()] for some in (own, other)]
    folds = [np.searchsorted(ids, fold) for fold in split(ids.tolist())]
    return Contest(trait, against, ids, texts[0], texts[1], folds)


def judge(module: Any, items: Callable[[str], Sequence[Any]], one: Contest) -> Bags:
    """Returns what a detector that counts makes of a contest; a bag's log-odds are its rows' sum.

    Args:
      items: what a text consists of.
    """
    own, other = (module.seen(some, list(map(items, some))) for some in (one.own, one.other))
    singles = []
    for fold in one.folds:
        kept = np.setdiff1d(np.arange(len(one.ids)), fold)
        own_odds, other_odds = (
            module.log_odds(own[kept], other[kept], some[fold]) for some in (own, other)
        )
        singles.append(Judged(one.ids[fold], own_odds, other_odds))
    return {size: [bagged(fold, size) for fold in singles] for size in SIZES}


def bagged(rows: Judged, size: int) -> Judged:
    """Returns bags of so many rows, or bags, that follow each other; what is left over goes."""
    ids = rows.ids[: len(rows.ids) // size * size : size]
    return rows._replace(ids=ids, own=summed(rows.own, size), other=summed(rows.other, size))


def summed(scores: np.ndarray, size: int) -> np.ndarray:
    """Returns the sums of so many scores that follow each other, [..., n // size]."""
    whole = scores[..., : scores.shape[-1] // size * size]
    return whole.reshape(*scores.shape[:-1], -1, size).sum(-1)


def split(ids: Iterable[int]) -> list[np.ndarray]:
    """Returns the ids in `FOLDS` parts, in an order that depends on them alone."""
    return np.array_split(np.random.default_rng(0).permutation(sorted(ids)), FOLDS)


def aurocs(folds: Sequence[Judged]) -> np.ndarray:
    """Returns the AUROC, a mean over the folds, [1 + DRAWS]: first as it is, then bootstrapped.

    In a draw each prompt has a weight from an exponential distribution (Rubin, Annals of Statistics
    1981), the same wherever the prompt is: draws of several contests can be averaged. A bag has the
    weight of its first prompt, as if bags of other contests had no prompts in common with it.
    """
    return np.mean([_weighted(fold) for fold in folds], axis=0)


def _weighted(fold: Judged) -> np.ndarray:
    rng = np.random.default_rng(1)
    drawn_ND = rng.exponential(size=(int(fold.ids.max()) + 1, DRAWS))[fold.ids]
    weights_ND = np.column_stack([np.ones(len(fold.ids)), drawn_ND])
    weights_ND /= weights_ND.sum(0)
    order = np.argsort(fold.other)
    below_ND = np.cumsum(np.concatenate([np.zeros((1, DRAWS + 1)), weights_ND[order]]), axis=0)
    ends = [np.searchsorted(fold.other[order], fold.own, side) for side in ("left", "right")]
    won_ND = (below_ND[ends[0]] + below_ND[ends[1]]) / 2  # a tie counts half
    found: np.ndarray = np.sum(weights_ND * won_ND, axis=0)
    return np.round(found, 9)  # so that chance and certainty are what they are


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Returns the chance that a positive score is above a negative one, a tie counting half."""
    n, m = len(positive), len(negative)
    if not n or not m:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
