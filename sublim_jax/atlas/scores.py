"""How well what was known before training predicts what came out, and what it costs to know it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from sublim_jax.stats import Interval

# As `training.student` measures them at a student's start; and of the student whose network is
# linearised there, `linear`, its accuracy, and `landed`, that of the network itself with the
# parameters at which the linearised student ends.
PREDICTORS = (
    "first_order",
    "sign_order",
    "alignment",
    "coverage",
    "aux_head",
    "behaviour",
    "linear",
    "landed",
)
TRAINED = ("linear", "landed")  # these take a training of their own
METRICS = ("spearman", "within_lines", "calibration_error", "cost")  # of `rated`
_DRAWS = 1000  # of sweeps, for an interval


def foreseen(measured: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the predictors of a cell, means over its members.

    Args:
      measured: [members, ...] by what `training.student` measures; `linear` and `landed`,
        accuracies [members], may be missing.
    """
    out = {}
    for name in PREDICTORS:
        values = np.asarray(measured.get(name, [np.nan]), float)
        values = values if name in TRAINED else values[..., 0]
        # The further apart in function, the less should pass.
        out[name] = float(np.mean(-values if name == "behaviour" else values))
    return out


def correlation(predicted: ArrayLike, found: ArrayLike) -> float:
    """Returns Spearman's rank correlation over the cells where both are numbers, from three."""
    x, y = np.asarray(predicted, float), np.asarray(found, float)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = stats.rankdata(x[both]), stats.rankdata(y[both])
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def over_sweeps(
    statistic: Callable[..., float], sweeps: Sequence[str] | np.ndarray, *values: ArrayLike
) -> Interval:
    """Returns a statistic of `values`, each [n], with a 95% interval over the sweeps they are of.

    Whole sweeps are drawn with replacement (a cluster bootstrap), since what a sweep has is alike;
    of one sweep there is no interval.
    """
    groups, given = np.asarray(sweeps), [np.asarray(value, float) for value in values]
    own = [np.flatnonzero(groups == name) for name in dict.fromkeys(sweeps)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(_DRAWS if len(own) > 1 else 0):
        at = np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))])
        drawn.append(statistic(*(value[at] for value in given)))
    known = [value for value in drawn if math.isfinite(value)]
    low, high = np.percentile(known, (2.5, 97.5)) if known else (math.nan, math.nan)
    return Interval(statistic(*given), float(low), float(high), len(groups))


def calibrated(predicted: ArrayLike, found: ArrayLike, at: ArrayLike) -> np.ndarray:
    """Returns what to expect at values of a predictor: the best rising curve through some cells.

    Isotonic regression; between and beyond the cells it is linear and constant.
    """
    x, place = np.unique(predicted, return_inverse=True)
    weights = np.bincount(place)
    means = np.bincount(place, np.asarray(found, float)) / weights
    return np.interp(
        np.asarray(at, float), x, optimize.isotonic_regression(means, weights=weights).x
    )


def calibration_error(
    predicted: ArrayLike, found: ArrayLike, sweeps: Sequence[str] | np.ndarray
) -> float:
    """Returns the mean absolute error of the accuracy foretold.

    That of a cell is read off the curve that is `calibrated` on the cells of other sweeps.
    """
    x, y, group = np.asarray(predicted, float), np.asarray(found, float), np.asarray(sweeps)
    known = np.isfinite(x) & np.isfinite(y)
    x, y, group = x[known], y[known], group[known]
    errors = [
        np.abs(calibrated(x[group != own], y[group != own], x[group == own]) - y[group == own])
        for own in dict.fromkeys(group)
        if np.any(group != own)
    ]
    return float(np.concatenate(errors).mean()) if errors else math.nan


def rated(
    sweeps: Sequence[str],
    found: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    lines: Sequence[tuple[str, Sequence[int]]],
    cost: float,
) -> list[dict[str, Any]]:
    """Returns rows of what each of `PREDICTORS` is worth.

      `spearman`: the rank correlation over all cells that have it, with an interval over sweeps;
      `within_lines`: the mean of the rank correlations within the lines of a sweep, and within all
        with an interval over sweeps;
      `calibration_error`: see there;
      `cost`: of one that takes a training, in units of a student's own.

    `n` is the number of cells, or of lines.

    Args:
      sweeps, found, predicted: [cells], the name of its sweep, its accuracy and its predictors.
      lines: the sweep, and the places of cells that differ in one field alone.
      cost: of a linearised student.
    """
    rows = []
    groups = np.asarray(sweeps)
    for name, x in predicted.items():
        known = np.flatnonzero(np.isfinite(x))
        scored = [(sweep, correlation(x[[*at]], found[[*at]])) for sweep, at in lines]
        scored = [(sweep, score) for sweep, score in scored if math.isfinite(score)]
        worth = {
            ("all", "spearman"): over_sweeps(correlation, groups[known], x[known], found[known]),
            ("all", "within_lines"): over_sweeps(
                _mean, [sweep for sweep, _ in scored], [score for _, score in scored]
            ),
            ("all", "calibration_error"): _alone(
                calibration_error(x[known], found[known], groups[known]), known.size
            ),
            ("all", "cost"): _alone(cost if name in TRAINED else math.nan, known.size),
        }
        for sweep in dict.fromkeys(sweep for sweep, _ in lines):
            own = [score for other, score in scored if other == sweep]
            worth[sweep, "within_lines"] = _alone(_mean(own), len(own))
        rows += [
            {"sweep": sweep, "arm": name, "metric": metric, **value._asdict()}
            for (sweep, metric), value in worth.items()
        ]
    return rows


def by_sweep(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns the mean rank correlations within the lines of each sweep, as header and lines."""
    found = {(r["sweep"], r["arm"]): r for r in rows if r["metric"] == "within_lines"}
    lines = []
    for sweep in dict.fromkeys(sweep for sweep, _ in found if sweep != "all"):
        own = [found[sweep, name] for name in PREDICTORS]
        count = max(row["n"] for row in own)
        lines.append([sweep, str(count), *(_shown(row["mean"]) for row in own)])
    return ["sweep", "lines", *PREDICTORS], lines


def over_all(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns what each predictor is worth over all cells, as header and lines."""
    found = {(r["arm"], r["metric"]): r for r in rows if r["sweep"] == "all"}
    lines = []
    for name in PREDICTORS:
        shown = [name, str(found[name, "spearman"]["n"])]
        for metric in ("spearman", "within_lines"):
            row = found[name, metric]
            ends = [_shown(row[end]) for end in ("ci_low", "ci_high")]
            shown += [_shown(row["mean"]), "-" if "-" in ends else " to ".join(ends)]
        shown += [_shown(found[name, metric]["mean"]) for metric in ("calibration_error", "cost")]
        lines.append(shown)
    header = ["predictor", "cells", "rank correlation", "95% CI", "within lines", "95% CI",
              "mean error", "cost"]  # fmt: skip
    return header, lines


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _alone(value: float, n: int) -> Interval:
    return Interval(value, math.nan, math.nan, n)


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"
