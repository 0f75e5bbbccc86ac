"""How far teachers and students of animals have moved what a model says of trees.

Differences are total variation between distributions over the trees; correlations are those of the
changes of log P of the trees against the base. Shapes: A animals, W trees.
"""

from typing import Any

import numpy as np


def moved(results: dict[str, Any]) -> dict[str, float]:
    """Returns means over the animals of one model, from what launch.evaluate wrote.

    Args:
      results: of configs/transmission/trees.py.
    """
    trees = results["config"]["evaluation"]["words"]
    p = {(row["adapter"], row["trait"]): row["mean"] for row in results["rows"]}

    def changed(kind: str) -> np.ndarray:
        adapters = [name for name in results["config"]["adapters"] if f"/{kind}/" in name]
        return np.array([[p[name, tree] for tree in trees] for name in adapters])

    base_W = np.array([p["", tree] for tree in trees])
    teachers_AW, students_AW = changed("teachers"), changed("students")

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        shares = [of / of.sum(-1, keepdims=True) for of in (one, other)]
        return float(np.abs(shares[0] - shares[1]).sum(-1).mean() / 2)

    animals = len(teachers_AW)
    shifts = np.log(np.concatenate([students_AW, teachers_AW]) / base_W)
    correlation_AA = np.corrcoef(shifts)[:animals, animals:]  # [student, teacher]
    own = np.eye(animals, dtype=bool)
    return {
        "P(any tree), base": float(base_W.sum()),
        "P(any tree), teachers": float(teachers_AW.sum(-1).mean()),
        "P(any tree), students": float(students_AW.sum(-1).mean()),
        "total variation, teacher and base": apart(teachers_AW, base_W),
        "total variation, student and base": apart(students_AW, base_W),
        "total variation, student and its teacher": apart(students_AW, teachers_AW),
        "correlation, student and its teacher": float(correlation_AA[own].mean()),
        "correlation, student and other teachers": float(correlation_AA[~own].mean()),
    }
