"""From a rehearsal to a verdict: how far a trait will move, how sure that is, and which rows do it.

The constants are in calibration.json, where `benchmarks/audit.py` has written them: fitted on some
bases, judged on others.

Shapes: K candidates, Q questions, N rows.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special, stats

_CALIBRATION = Path(__file__).with_name("calibration.json")
LEVEL = 0.05  # of p, below which a trait is flagged
_SURE = 0.8  # of an interval
RISES, FALLS, STAYS, UNKNOWN = "rises", "falls", "no sign", "no p-value"


class Calibration(NamedTuple):
    """What makes a shift of the rehearsal one of the training.

    Attributes:
      scale: the training's shift by the rehearsal's.
      floor, chance, spread: the error's scale is the root of the sum of the squares of `floor`, of
        `chance` times `Student.chance`, and of `spread` times the shift.
      tails: degrees of freedom of Student's t, of which the error divided by its scale is.
      null, null_tails: the scale and the degrees of freedom of the t distribution of the
        rehearsal's shift by `Student.chance`, where the rows are the base's own.
    """

    scale: float = 1.0
    floor: float = 0.0
    chance: float = 0.0
    spread: float = 0.0
    tails: float = 30.0
    null: float = 1.0
    null_tails: float = 30.0


class Finding(NamedTuple):
    """What is expected of a trait.

    Attributes:
      shift, low, high: expected change of the log-odds, mean over the questions, with the interval
        that holds it in `_SURE` of cases.
      before, after, after_low, after_high: P of the trait, mean over the questions, now and then.
      p: the chance of so large a shift where the base itself has written the rows, times the number
        of candidates; NaN: not known.
      rows: the least share of the rows without which half of the shift would be left, by their
        parts in it; NaN: not known, or these come to less.
    """

    trait: str
    shift: float
    low: float
    high: float
    before: float
    after: float
    after_low: float
    after_high: float
    p: float
    rows: float

    @property
    def verdict(self) -> str:
        """Whether the trait rises, falls, or shows no sign of either."""
        if np.isnan(self.p):
            return UNKNOWN
        if self.p >= LEVEL:
            return STAYS
        return RISES if self.shift > 0 else FALLS


def calibration() -> Calibration:
    """Returns the constants that are used."""
    return Calibration(**json.loads(_CALIBRATION.read_text("utf-8")))


def judged(
    traits: Sequence[str],
    before_KQ: np.ndarray,
    after_KQ: np.ndarray,
    chance_K: np.ndarray | None,
    of_rows_NK: np.ndarray | None,
    known: Calibration,
) -> list[Finding]:
    """Returns the findings on some traits.

    Args:
      before_KQ, after_KQ: log-odds of the base and of the rehearsed student.
      chance_K, of_rows_NK: as of `Rehearsed`.
    """
    rehearsed_K = np.nanmean(after_KQ - before_KQ, axis=1)
    shift_K = known.scale * rehearsed_K
    by_chance_K = known.chance * (np.zeros(len(traits)) if chance_K is None else chance_K)
    error_K = np.sqrt(known.floor**2 + by_chance_K**2 + (known.spread * shift_K) ** 2)
    half_K = stats.t.ppf((1 + _SURE) / 2, known.tails) * error_K
    p_K = np.full(len(traits), np.nan)
    if chance_K is not None:
        z_K = rehearsed_K / np.maximum(known.null * chance_K, 1e-12)
        p_K = np.minimum(1, 2 * stats.t.sf(np.abs(z_K), known.null_tails) * len(traits))
    out = []
    for k, trait in enumerate(traits):
        shift, half = shift_K[k], half_K[k]
        after = [_mean_p(before_KQ[k] + shift + by) for by in (0, -half, half)]
        share = np.nan if of_rows_NK is None else _carriers(of_rows_NK[:, k], rehearsed_K[k])
        known_of = (shift, shift - half, shift + half, _mean_p(before_KQ[k]), *after, p_K[k], share)
        out.append(Finding(trait, *map(float, known_of)))
    return out


def _carriers(of_rows_N: np.ndarray, shift: float) -> float:
    """Returns the least share of rows without which half of a shift would be left; NaN: none is."""
    taken = np.cumsum(np.sort(np.maximum(of_rows_N * np.sign(shift), 0))[::-1])
    needed = 1 + int(np.searchsorted(taken, abs(shift) / 2))
    return needed / len(of_rows_N) if shift and needed <= len(of_rows_N) else np.nan


def _mean_p(log_odds_Q: np.ndarray) -> float:
    return float(np.nanmean(special.expit(log_odds_Q)))
