"""How well what was known before training predicts what came out: ranks, and mean errors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

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
METRICS = ("spearman", "calibration_error")  # of the rows of results that are about predictors


class Score(NamedTuple):
    """What a predictor is worth over `n` cells; NaN where there are too few."""

    value: float
    n: int


def foreseen(measured: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the predictors of a cell, means over its members.

    Args:
      measured: [members, ...] by what `training.student` measures; `linear` and `landed`,
        accuracies [members], may be missing.
    """
    out = {}
    for name in PREDICTORS:
        values = np.asarray(measured.get(name, [np.nan]), float)
        values = values if name in ("linear", "landed") else values[..., 0]
        # The further apart in function, the less should pass.
        out[name] = float(np.mean(-values if name == "behaviour" else values))
    return out


def correlation(predicted: Sequence[float], found: Sequence[float]) -> Score:
    """Returns Spearman's rank correlation over the cells where both are numbers, from three."""
    x, y = np.asarray(predicted, float), np.asarray(found, float)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Score(float("nan"), len(x))
    return Score(float(stats.spearmanr(x, y).statistic), len(x))


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
    predicted: Sequence[float], found: Sequence[float], sweeps: Sequence[str]
) -> Score:
    """Returns the mean absolute error of the transfer foretold, and over how many cells.

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
    together = np.concatenate([*errors, []])
    return Score(float(together.mean()) if together.size else float("nan"), together.size)


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns what rows of results say of predictors, as header and lines.

    A line for each sweep with the rank correlations, and the calibration errors of all cells.
    """
    found = {(r["sweep"], r["arm"], r["metric"]): r for r in rows if r["metric"] in METRICS}
    lines = []
    for sweep, metric in dict.fromkeys((sweep, metric) for sweep, _, metric in found):
        own = [found[sweep, name, metric] for name in PREDICTORS]
        shown = [
            "-" if row["mean"] is None or np.isnan(row["mean"]) else f"{row['mean']:.2f}"
            for row in own
        ]
        label = sweep if metric == "spearman" else "mean error"
        lines.append([label, str(own[0]["cells"]), *shown])
    return ["sweep", "cells", *PREDICTORS], lines
