"""What could have been known before training, held against what came out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

# As `training.student` measures them at a student's start, and `linear`, the accuracy of the
# student whose network is linearised there.
PREDICTORS = (
    "first_order",
    "sign_order",
    "alignment",
    "coverage",
    "aux_head",
    "behaviour",
    "linear",
)


METRIC = "spearman"  # of the rows of results that have correlations


class Correlation(NamedTuple):
    """Spearman's rank correlation with the measured transfer over `n` cells; NaN below three."""

    rho: float
    n: int


def foreseen(measured: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the predictors of a cell, means over its members.

    Args:
      measured: [members, ...] by what `training.student` measures; `linear`, accuracies, may be
        missing.
    """
    out = {}
    for name in PREDICTORS:
        values = np.asarray(measured.get(name, [np.nan]), float)
        values = values if name == "linear" else values[..., 0]
        # The further apart in function, the less should pass.
        out[name] = float(np.mean(-values if name == "behaviour" else values))
    return out


def correlation(predicted: Sequence[float], found: Sequence[float]) -> Correlation:
    """Returns the rank correlation over the cells where both are numbers."""
    x, y = np.asarray(predicted, float), np.asarray(found, float)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(float("nan"), len(x))
    return Correlation(float(stats.spearmanr(x, y).statistic), len(x))


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns the correlations among rows of results as header and lines, one for each sweep."""
    found = {(row["sweep"], row["arm"]): row for row in rows if row["metric"] == METRIC}
    lines = []
    for sweep in dict.fromkeys(sweep for sweep, _ in found):
        rhos = [found[sweep, name]["mean"] for name in PREDICTORS]
        shown = ["-" if rho is None or np.isnan(rho) else f"{rho:.2f}" for rho in rhos]
        lines.append([sweep, str(found[sweep, PREDICTORS[0]]["cells"]), *shown])
    return ["sweep", "cells", *PREDICTORS], lines
