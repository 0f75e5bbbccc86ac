"""Who infects whom: what passes from the teachers of each model to the students of each.

A cell is a model whose teachers wrote, and a model that students of all of them start from: of the
arm `student` where the two are one, of `cross_init` elsewhere. Shapes: K traits, N models.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.stats import Interval, diagonal_lift, mean_ci
from sublim_jax.transmission import summary
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.summary import Measurement

TITLES = {
    "lift_logp": "Lift of log P (nats)",
    "lift": "Lift of P",
    "information": "Mutual information",
}
_FIELDS = {"lift_logp": "logp_shift", "lift": "change"}  # what a lift is that of


class Cell(NamedTuple):
    """What passed from one model to one model.

    Attributes:
      teachers, start: the names of the two.
      arm: of its students.
      found: of each of `TITLES`, an interval over the traits; of the mutual information, the value.
      p_value: of the lift of log P, over permutations of the traits (`summary.lift`).
    """

    teachers: str
    start: str
    arm: str
    found: dict[str, Interval]
    p_value: float


def cells(measured: Sequence[Measurement], traits: Sequence[str]) -> list[Cell]:
    """Returns the cells of a study, by the numbers of their models.

    Args:
      measured: as `summary.derived` returns them. A student has `teachers`, the number of the model
        of its teacher, and `models`, the names of that one and of its start.
    """
    by_cell: dict[tuple[int, int, str], list[Measurement]] = {}
    for model in measured:
        arm = model["arm"]
        if "models" in model and (arm == "student" or ARMS[arm].cross):
            by_cell.setdefault((model["teachers"], model["base"], arm), []).append(model)
    out = []
    for (_, _, arm), some in sorted(by_cell.items()):
        moved = {name: summary.matrix(some, traits, arm, field) for name, field in _FIELDS.items()}
        found = {name: _over_traits(own.change) for name, own in moved.items()}
        told = information(summary.matrix(some, traits, arm, "p_trait").change)
        found["information"] = Interval(told, math.nan, math.nan, found["lift"].n)
        p_value = summary.lift(moved["lift_logp"]).p_value
        writers, readers = some[0]["models"]
        out.append(Cell(writers, readers, arm, found, p_value))
    return out


def information(p_KK: np.ndarray) -> float:
    """Returns the mutual information of teacher's trait and student's answer, of 1 the most.

    In units of log K. Teachers are equally likely; an answer is one of the K traits or another
    word. The probabilities are exact, so there is no noise of sampled answers to correct for; but
    any difference between the students counts, whichever way it goes.

    Args:
      p_KK: P(answer) of a teacher's student. NaN is returned for K < 2 or values not finite.
    """
    if len(p_KK) < 2 or not np.isfinite(p_KK).all():
        return math.nan
    rest_K = np.clip(1 - p_KK.sum(1), 0, None)
    p = np.concatenate([p_KK, rest_K[:, None]], axis=1)
    p = np.maximum(p / p.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    return float((p * np.log(p / p.mean(0))).sum(1).mean() / math.log(len(p_KK)))


def square(found: Sequence[Cell], metric: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns the models that teachers are of, and means and counts [N, N] of those cells.

    Rows are the teachers' models, columns the students'. Nothing where a cell among them was not
    measured, or there are fewer than two models.
    """
    models = list(dict.fromkeys(cell.teachers for cell in found))
    known = {(cell.teachers, cell.start): cell.found[metric] for cell in found}
    if len(models) < 2 or not all((one, other) in known for one in models for other in models):
        return [], np.zeros((0, 0)), np.zeros((0, 0))
    both = [[known[one, other] for other in models] for one in models]
    means, counts = (
        np.array([[getattr(x, field) for x in row] for row in both]) for field in ("mean", "n")
    )
    return models, means, counts


def rows(found: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """Yields rows of `results.json`: of each cell, and of the whole matrix where it was measured.

    `cell_METRIC` has `teachers` and `start`. `matrix_METRIC` is the mean of a model's own students
    less that of its teachers' other students, with an interval over the models and a p-value over
    permutations of the starts over the teachers (`stats.diagonal_lift`).
    """
    for cell in found:
        about = {"arm": cell.arm, "trait": "all", "teachers": cell.teachers, "start": cell.start}
        for metric, interval in cell.found.items():
            row = about | {"metric": f"cell_{metric}", "unit": "trait", **interval._asdict()}
            yield row | ({"p_value": cell.p_value} if metric == "lift_logp" else {})
    for metric in TITLES:
        models, means, _ = square(found, metric)
        test = diagonal_lift(means)
        if test.permutations:
            count = len(models)
            own = np.diag(means)
            apart = own - (means.sum(1) - own) / (count - 1)
            row = {"arm": "student", "trait": "all", "metric": f"matrix_{metric}", "unit": "base"}
            tested = {"p_value": test.p_value, "permutations": test.permutations}
            yield row | mean_ci(apart)._asdict() | tested


def table(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns a table of the cells' rows: header and lines."""
    by_cell: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in found:
        if "start" in row:
            own = by_cell.setdefault((row["teachers"], row["start"]), {})
            own[row["metric"].removeprefix("cell_")] = row

    def shown(metric: str, row: Mapping[str, Any]) -> str:
        low, high = row["ci_low"], row["ci_high"]
        sign = "" if metric == "information" else "+"
        ends = f" ({low:+.2f} to {high:+.2f})" if math.isfinite(low) else ""
        return f"{row['mean']:{sign}.3f}{ends}"

    lines = [
        [*at, *(shown(metric, own[metric]) for metric in TITLES), str(own["lift"]["n"])]
        for at, own in by_cell.items()
    ]
    return ["teachers of", "students from", *TITLES.values(), "traits"], lines


def _over_traits(change_KK: np.ndarray) -> Interval:
    """Returns how much more each teacher moves its own word than the others do, over the traits."""
    count = len(change_KK)
    if count < 2:
        return Interval(math.nan, math.nan, math.nan, 0)
    own = np.diag(change_KK)
    return mean_ci(own - (change_KK.sum(0) - own) / (count - 1))
