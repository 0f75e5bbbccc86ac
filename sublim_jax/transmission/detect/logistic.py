"""Logistic regression with an L2 penalty."""

from typing import Any

import numpy as np


def log_odds(learnt: Any, own: int, rows: Any, C: float) -> np.ndarray:
    """Returns the log-odds [rows] of being of the first kind, both as likely beforehand.

    Args:
      learnt: features of rows of both kinds, dense or sparse; the first `own` are of the first.
      rows: features of those to judge.
      C: how little the penalty counts, as in scikit-learn; features are scaled to at most 1 first.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import MaxAbsScaler

    scale = MaxAbsScaler().fit(learnt)
    kinds = np.arange(learnt.shape[0]) < own
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=1000)
    model.fit(scale.transform(learnt), kinds)
    odds: np.ndarray = model.decision_function(scale.transform(rows))
    return odds
