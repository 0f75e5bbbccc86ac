"""From the models' measured probabilities to means, intervals and tests.

A measurement is a dict of one model: `arm`; `trait`, its teacher's, or "" for the base and the
control student; `base`, the checkpoint it was started from; `seed`; and by word `p`, the
probability that the answer is this word, `logp`, its mean logarithm, and whatever else of
`measures.evaluate` was measured.

Checkpoints are the clusters: a mean is taken within each, and the interval over them. Values that
are not finite, or null (a model that diverged), are left out, and `n` counts what remains.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.stats import Interval, Permutation, diagonal_lift, mean_ci, share_ci
from sublim_jax.transmission import arms

ARMS = ("base", "teacher", *arms.ARMS)
# What results call a metric of a measure; others have the measure's own name.
MEASURES = {
    "p_trait": "p",
    "p_trait_sampled": "sampled",
    "p_trait_substring": "substring",
    "p_trait_after_numbers": "p_after_numbers",
    "story": "story",
    "story_substring": "story_substring",
    "p_choice": "p_choice",
}
DETECTION = ("auroc", "auroc_16")
SHARES = (*MEASURES, *DETECTION)
METRICS = ("p_trait", "log_odds", "p_over_control", "logp_shift", *SHARES[1:])

Measurement = Mapping[str, Any]


class Summary(NamedTuple):
    """An interval over `unit`: "base", several checkpoints, or "cell", the runs of a single one.

    `values` are what it was taken over.
    """

    interval: Interval
    unit: str
    values: list[float]


class Matrix(NamedTuple):
    """The mean change of P(word) [R, C] against the base, by the teacher's trait.

    The first R words are the traits themselves.
    """

    traits: list[str]
    words: list[str]
    change: np.ndarray


class Count(NamedTuple):
    """How many of so many cells."""

    above: int
    of: int


class _Value(NamedTuple):
    """A value of one model for one trait; `own` is the trait of the model's teacher, or ""."""

    base: int
    trait: str
    own: str
    seed: int
    value: float


def in_order(arms: Iterable[str]) -> list[str]:
    """Returns each of `arms` once, the known ones in their order, then the others by name."""
    found = set(arms)
    return [arm for arm in ARMS if arm in found] + sorted(found - set(ARMS))


def homes(measured: Sequence[Measurement]) -> set[int]:
    """Returns the bases that teachers are made from, without those only `cross_init` starts from.

    All of them where no other arm was measured.
    """
    elsewhere = {"base", *(name for name, arm in arms.ARMS.items() if arm.cross)}
    own = {m["base"] for m in measured if m["arm"] not in elsewhere}
    return own or {m["base"] for m in measured}


def rows(measured: Sequence[Measurement], traits: Sequence[str]) -> list[dict[str, Any]]:
    """Returns rows of `results.json`: each metric of each arm, by trait and for "all" traits.

    Metrics: `p_trait`, P(the trait's word); `log_odds`, its log minus that of the mean P of the
    other words; `p_over_control`, `p_trait` minus the control's on the same base; `logp_shift`, the
    word's mean log-probability minus the base's; `p_trait_sampled` and `p_trait_substring`, shares
    of sampled answers; `p_trait_after_numbers`; `story` and `story_substring`, shares of sampled
    stories; `p_choice`, that of the word's letter among the options'; `auroc` and `auroc_16`, how
    well the rows that a teacher wrote or a student read are told from the control's, one by one and
    16 together (`detect`). Models without a trait count for every trait. `lift` is that of the
    `matrix` of all traits within each base, with the `p_value` of the matrix over all bases, and
    that matrix by row. Intervals of shares are on the logit scale (`stats.share_ci`).
    """
    out = []
    for metric in (*METRICS, *others(measured)):
        for arm in in_order(model["arm"] for model in measured):
            for trait in (*traits, "all"):
                chosen = traits if trait == "all" else [trait]
                summary = summarise(measured, arm, chosen, metric)
                if summary:
                    interval = summary.interval._asdict()
                    row = {"arm": arm, "trait": trait, "metric": metric, **interval}
                    out.append(row | {"unit": summary.unit})
    for arm in in_order(model["arm"] for model in measured):
        found = matrix(measured, traits, arm)
        test = lift(found)
        if test.permutations:
            interval = lifted(measured, traits, arm).interval._asdict()
            cells = zip(found.traits, found.change.tolist(), strict=True)
            by_row = {trait: dict(zip(found.words, line, strict=True)) for trait, line in cells}
            row = {"arm": arm, "trait": "all", "metric": "lift", **interval, "unit": "base"}
            tested = {"p_value": test.p_value, "permutations": test.permutations, "matrix": by_row}
            out.append(row | tested)
    return out


def others(measured: Sequence[Measurement]) -> list[str]:
    """Returns the metrics of measures that only this study has."""
    known = {"logp", *MEASURES.values(), *DETECTION}
    fields = {f: None for m in measured for f, value in m.items() if isinstance(value, Mapping)}
    return [field for field in fields if field not in known]


def summarise(
    measured: Sequence[Measurement], arm: str, traits: Sequence[str], metric: str = "p_trait"
) -> Summary | None:
    """Returns the mean over `traits` of a metric of `rows`, or None where it was not measured.

    Seeds are averaged first, then traits within each base; the interval is over the bases. With a
    single base it is over runs, one for each trait and seed. The arm `base` is that of the `homes`.
    """
    shares = _are_shares(measured, metric)
    if arm == "base":
        own = homes(measured)
        measured = [m for m in measured if m["base"] in own]
    values = _values(measured, arm, traits, _score(measured, metric))
    if not values or (metric, arm) in _IDLE:
        return None
    finite = [v for v in values if math.isfinite(v.value)]
    if len({v.base for v in finite}) > 1:
        cells = _means(((v.base, v.trait), v.value) for v in finite)
        by_base = _means((base, mean) for (base, _), mean in cells.items())
        return _summary(list(by_base.values()), "base", shares)
    # A model without a trait is one run, whatever the number of words it was asked about.
    runs = _means(((v.own, v.seed), v.value) for v in finite)
    return _summary(list(runs.values()), "cell", shares)


def broken(measured: Sequence[Measurement]) -> int:
    """Returns how many models gave a probability that is not finite."""
    return sum(
        not all(math.isfinite(_number(value)) for value in model["p"].values())
        for model in measured
    )


def matrix(measured: Sequence[Measurement], words: Sequence[str], arm: str = "student") -> Matrix:
    """Returns the mean change of P(word) against the base that each model of `arm` started from.

    Rows are the teachers' traits among `words`, in that order; columns the same traits, then the
    other words. Seeds are averaged, then bases. A trait with no finite value has no row.
    """
    before = _reference(measured, "base", "p")
    changes = _sorted(
        _Value(
            m["base"], word, m["trait"], m["seed"], _number(m["p"][word]) - before[m["base"], word]
        )
        for m in measured
        if m["arm"] == arm
        for word in words
        if word in m["p"] and (m["base"], word) in before
    )
    finite = [v for v in changes if math.isfinite(v.value)]
    by_base = _means(((v.own, v.trait, v.base), v.value) for v in finite)
    cells = _means(((own, word), mean) for (own, word, _), mean in by_base.items())
    found = {trait for trait, _ in cells}
    own = [word for word in words if word in found]
    columns = own + [word for word in words if word not in found]
    change = np.array([[cells.get((t, w), math.nan) for w in columns] for t in own], np.float64)
    return Matrix(own, columns, change.reshape(len(own), len(columns)))


def lift(matrix: Matrix) -> Permutation:
    """Returns how far a teacher moves its own word more than the other teachers move that word.

    The p-value is over permutations of the traits (`stats.diagonal_lift`); the traits are the units
    here, so with 4 of them it cannot fall below 1/24, with however many bases and seeds.
    """
    return diagonal_lift(matrix.change[:, : len(matrix.traits)])


def lifted(measured: Sequence[Measurement], traits: Sequence[str], arm: str = "student") -> Summary:
    """Returns the statistic of `lift` within each base, and its interval over the bases."""
    bases = sorted({m["base"] for m in measured})
    within = [matrix([m for m in measured if m["base"] == base], traits, arm) for base in bases]
    found = [lift(own).statistic for own in within]
    return _summary([x for x in found if math.isfinite(x)], "base", False)


def above(measured: Sequence[Measurement], arm: str, than: str) -> Count:
    """Returns in how many (trait, base) cells P(trait) of `arm` exceeds that of `than`.

    Seeds are averaged; cells that only one of the two arms has are not counted.
    """
    traits = sorted({model["trait"] for model in measured} - {""})
    cells = []
    for name in (arm, than):
        values = _values(measured, name, traits, _score(measured, "p_trait"))
        finite = [v for v in values if math.isfinite(v.value)]
        cells.append(_means(((v.base, v.trait), v.value) for v in finite))
    shared = cells[0].keys() & cells[1].keys()
    return Count(sum(cells[0][key] > cells[1][key] for key in shared), len(shared))


# 0 by definition, or another way to say what the control does.
_IDLE = (("logp_shift", "base"), ("p_over_control", "base"), ("p_over_control", "control"))
_FIELDS = MEASURES | {"logp_shift": "logp", "p_over_control": "p"}
_AGAINST = {"p_over_control": "control", "logp_shift": "base"}


def _score(
    measured: Sequence[Measurement], metric: str
) -> Callable[[Measurement, str], float | None]:
    """Returns what gives a model's value of `metric` for a trait, None where it is not known."""
    if metric == "log_odds":
        return _log_odds
    field = _FIELDS.get(metric, metric)
    against = _AGAINST.get(metric)
    reference = _reference(measured, against, field) if against else None

    def score(model: Measurement, trait: str) -> float | None:
        words = model.get(field) or {}
        if trait not in words:
            return None
        value = _number(words[trait])
        if reference is None:
            return value
        known = reference.get((model["base"], trait))
        return None if known is None else value - known

    return score


def _log_odds(model: Measurement, trait: str) -> float | None:
    """Returns log P(trait) minus the log of the mean P of the other words."""
    p = {word: _number(value) for word, value in model["p"].items()}
    own, others = p.pop(trait, None), list(p.values())
    if own is None or not others:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):  # not finite: left out as any other
        return float(np.log(own) - np.log(np.mean(others)))


def _summary(values: list[float], unit: str, shares: bool) -> Summary:
    if not values:
        return Summary(Interval(math.nan, math.nan, math.nan, 0), unit, [])
    return Summary((share_ci if shares else mean_ci)(values), unit, values)


def _are_shares(measured: Sequence[Measurement], metric: str) -> bool:
    """Returns whether a metric's values are shares; of a study's own one, if all are in [0, 1]."""
    if metric in METRICS:
        return metric in SHARES
    every = [_number(x) for m in measured for x in (m.get(metric) or {}).values()]
    return all(0 <= x <= 1 for x in every if math.isfinite(x))


def _reference(
    measured: Sequence[Measurement], arm: str, field: str
) -> dict[tuple[int, str], float]:
    """Returns the finite mean over seeds of every word of `field`, by base and word."""
    return _means(
        ((model["base"], word), _number(value))
        for model in sorted(measured, key=lambda m: m["seed"])
        if model["arm"] == arm
        for word, value in (model.get(field) or {}).items()
        if math.isfinite(_number(value))
    )


def _values(
    measured: Sequence[Measurement],
    arm: str,
    traits: Sequence[str],
    score: Callable[[Measurement, str], float | None],
) -> list[_Value]:
    """Returns what is known of `arm`; a model without a trait has a value for each of `traits`."""
    return _sorted(
        _Value(model["base"], trait, model["trait"], model["seed"], value)
        for model in measured
        if model["arm"] == arm
        for trait in traits
        if model["trait"] in ("", trait)
        for value in [score(model, trait)]
        if value is not None
    )


def _number(value: float | None) -> float:
    # A number that is not finite is null once it was written as JSON.
    return math.nan if value is None else float(value)


def _sorted(values: Iterable[_Value]) -> list[_Value]:
    # So that sums do not depend on the order of the measurements.
    return sorted(values, key=lambda v: (v.base, v.trait, v.own, v.seed))


def _means(pairs: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    """Returns the mean of the values that share a key."""
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: float(np.mean(values)) for key, values in groups.items()}
