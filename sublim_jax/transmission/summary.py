"""From the models' measured probabilities to means, intervals and tests.

A measurement is a dict of one model: `arm`; `trait`, its teacher's, or "" for the base and the
control student; `base`, the checkpoint it was started from; `seed`; and metrics by word: `p_trait`,
the probability that the answer is this word, `logp`, its mean logarithm, and whatever else
`measures.evaluate` and a detector have found. What is not of a word is under "", and counts for any
trait. `derived` adds what follows from them.

Checkpoints are the clusters: a mean is taken within each, and the interval over them. Values that
are not finite, or null (a model that diverged), are left out, and `n` counts what remains.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sublim_jax.stats import Interval, Permutation, diagonal_lift, mean_ci, share_ci
from sublim_jax.transmission import arms, mechanism, teacher
from sublim_jax.transmission.measures import elsewhere

ARMS = ("base", "teacher", *teacher.TAUGHT, *arms.ARMS)
_NOT_SHARES = ("log_odds", "liking", "p_over_control", "logp_shift", *elsewhere.FOLLOWS,
               *mechanism.TITLES)  # fmt: skip
_ASIDE = ("logp", "change")  # what others are derived from

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


def in_order(arms: Iterable[str]) -> list[str]:
    """Returns each of `arms` once, the known ones in their order, then the others by name."""
    found = set(arms)
    return [arm for arm in ARMS if arm in found] + sorted(found - set(ARMS))


def derived(measured: Iterable[Measurement]) -> list[Measurement]:
    """Returns measurements in an order of their own, with metrics that follow from the others.

    `log_odds`, log P(word) minus the log of the mean P of the other words; `p_over_control`, P
    minus the control's on the same base; `logp_shift` and `change`, log P and P minus the base's;
    `liking`, the log-odds minus those of the word as what is liked least; and what
    `elsewhere.derive` adds.
    A value that is not finite, or null, is NaN.
    """
    found: list[dict[str, Any]] = [
        {name: _numbers(x) if isinstance(x, Mapping) else x for name, x in model.items()}
        for model in sorted(measured, key=lambda m: (m["base"], m["trait"], m["seed"]))
    ]
    control = _reference(found, "control", "p_trait")
    before = {name: _reference(found, "base", name) for name in ("p_trait", "logp")}

    def minus(model: Measurement, name: str, known: Mapping[Any, float]) -> dict[str, float]:
        cells = {word: (model["base"], word) for word in model[name]}
        return {word: model[name][word] - known[at] for word, at in cells.items() if at in known}

    for model in found:
        model["log_odds"] = _log_odds(model["p_trait"])
        if "p_least" in model:
            least = _log_odds(model["p_least"])
            model["liking"] = {word: x - least[word] for word, x in model["log_odds"].items()}
        model["change"] = minus(model, "p_trait", before["p_trait"])
        if model["arm"] != "base":
            model["logp_shift"] = minus(model, "logp", before["logp"])
        if model["arm"] not in ("base", "control"):
            model["p_over_control"] = minus(model, "p_trait", control)
    elsewhere.derive(found)
    return [*found]


def homes(measured: Sequence[Measurement]) -> set[int]:
    """Returns the bases that teachers are made from, without those only `cross_init` starts from.

    All of them where no other arm was measured.
    """
    without = {"base", *(name for name, arm in arms.ARMS.items() if arm.cross)}
    own = {m["base"] for m in measured if m["arm"] not in without}
    return own or {m["base"] for m in measured}


def rows(measured: Sequence[Measurement], traits: Sequence[str]) -> list[dict[str, Any]]:
    """Returns rows of `results.json`: each metric of each arm, by trait and for "all" traits.

    Metrics are those of the measures that were taken, of what is `derived` from them, and of
    `DETECTION`: how well the rows that a teacher wrote or a student read are told from the
    control's, one by one and 16 together. Models without a trait count for every trait. `lift` is
    that of the `matrix` of all traits within each base, with the `p_value` of the matrix over all
    bases, and that matrix by row; `lift_logp` is that of log P, in nats. `above_control` is the
    share of `n` pairs of trait and base in which P(trait) is above the control's. Intervals of
    shares are on the logit scale (`stats.share_ci`).

    Args:
      measured: as `derived` returns them.
    """
    fields = dict.fromkeys(f for m in measured for f, x in m.items() if isinstance(x, Mapping))
    found = in_order(model["arm"] for model in measured)
    out = []
    for metric in (field for field in fields if field not in _ASIDE):
        for arm in found:
            for trait in (*traits, "all"):
                chosen = traits if trait == "all" else [trait]
                if summary := summarise(measured, arm, chosen, metric):
                    interval = summary.interval._asdict()
                    row = {"arm": arm, "trait": trait, "metric": metric, **interval}
                    out.append(row | {"unit": summary.unit})
    for arm in (arm for arm in found if arm not in ("base", "control")):
        more, pairs = above(measured, arm, "control")
        if pairs:
            row = {"arm": arm, "trait": "all", "metric": "above_control", "unit": "cell"}
            out.append(row | Interval(more / pairs, math.nan, math.nan, pairs)._asdict())
    for arm in found:
        moved = matrix(measured, traits, arm)
        test = lift(moved)
        if test.permutations:
            interval = lifted(measured, traits, arm).interval._asdict()
            cells = zip(moved.traits, moved.change.tolist(), strict=True)
            by_row = {trait: dict(zip(moved.words, line, strict=True)) for trait, line in cells}
            row = {"arm": arm, "trait": "all", "metric": "lift", **interval, "unit": "base"}
            tested = {"p_value": test.p_value, "permutations": test.permutations, "matrix": by_row}
            out.append(row | tested)
            interval = lifted(measured, traits, arm, "logp_shift").interval._asdict()
            row = {"arm": arm, "trait": "all", "metric": "lift_logp", **interval, "unit": "base"}
            out.append(row)
    return out


def summarise(
    measured: Sequence[Measurement], arm: str, traits: Sequence[str], metric: str = "p_trait"
) -> Summary | None:
    """Returns the mean over `traits` of a metric of `rows`, or None where it was not measured.

    Seeds are averaged first, then traits within each base; the interval is over the bases. With a
    single base it is over runs, one for each trait and seed. The arm `base` is that of the `homes`.
    """
    values = _values(measured, arm, traits, metric)
    if not values:
        return None
    finite = [value for value in values if math.isfinite(value[2])]
    if len({model["base"] for model, _, _ in finite}) > 1:
        by_base = _means((base, mean) for (base, _), mean in _cells(finite).items())
        return _summary(by_base.values(), "base", _are_shares(measured, metric))
    # A model without a trait is one run, whatever the number of words it was asked about.
    runs = _means(((model["trait"], model["seed"]), value) for model, _, value in finite)
    return _summary(runs.values(), "cell", _are_shares(measured, metric))


def broken(measured: Sequence[Measurement]) -> int:
    """Returns how many models gave a probability that is not finite."""
    return sum(not all(map(math.isfinite, model["p_trait"].values())) for model in measured)


def matrix(
    measured: Sequence[Measurement],
    words: Sequence[str],
    arm: str = "student",
    field: str = "change",
) -> Matrix:
    """Returns the mean change of P(word) against the base that each model of `arm` started from.

    Or that of log P: the `field` "logp_shift".

    Rows are the teachers' traits among `words`, in that order; columns the same traits, then the
    other words. Seeds are averaged, then bases. A trait with no finite value has no row.
    """
    by_base = _means(
        ((model["trait"], word, model["base"]), model[field][word])
        for model in measured
        if model["arm"] == arm
        for word in words
        if math.isfinite(model[field].get(word, math.nan))
    )
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


def lifted(
    measured: Sequence[Measurement], traits: Sequence[str], arm: str, field: str = "change"
) -> Summary:
    """Returns the statistic of `lift` within each base, and its interval over the bases."""
    bases = sorted({m["base"] for m in measured})
    own = [[m for m in measured if m["base"] == base] for base in bases]
    within = [matrix(some, traits, arm, field) for some in own]
    found = [lift(own).statistic for own in within]
    return _summary([x for x in found if math.isfinite(x)], "base", False)


def above(measured: Sequence[Measurement], arm: str, than: str) -> tuple[int, int]:
    """Returns in how many (trait, base) cells P(trait) of `arm` exceeds that of `than`, and of all.

    Seeds are averaged; cells that only one of the two arms has are not counted.
    """
    traits = sorted({model["trait"] for model in measured} - {""})
    both = [_values(measured, name, traits, "p_trait") for name in (arm, than)]
    one, two = (_cells(value for value in own if math.isfinite(value[2])) for own in both)
    shared = one.keys() & two.keys()
    return sum(one[cell] > two[cell] for cell in shared), len(shared)


def _values(
    measured: Sequence[Measurement], arm: str, traits: Sequence[str], metric: str
) -> list[tuple[Measurement, str, float]]:
    """Returns each model of `arm` with each trait that it counts for, and its value there."""
    known = homes(measured) if arm == "base" else {model["base"] for model in measured}
    return [
        (model, trait, own[word])
        for model in measured
        if model["arm"] == arm and model["base"] in known
        for own in [model.get(metric, {})]
        for trait in traits
        for word in [trait if trait in own else ""]
        if model["trait"] in ("", trait) and word in own
    ]


def _cells(values: Iterable[tuple[Measurement, str, float]]) -> dict[tuple[int, str], float]:
    """Returns the mean over seeds, by base and trait."""
    return _means(((model["base"], trait), value) for model, trait, value in values)


def _log_odds(p: Mapping[str, float]) -> dict[str, float]:
    """Returns log P(word) minus the log of the mean P of the other words, where there are some."""
    others = {word: [p[other] for other in p if other != word] for word in p if len(p) > 1}
    with np.errstate(divide="ignore", invalid="ignore"):  # not finite: left out as any other
        return {word: float(np.log(p[word]) - np.log(np.mean(x))) for word, x in others.items()}


def _summary(values: Iterable[float], unit: str, shares: bool) -> Summary:
    found = list(values)
    if not found:
        return Summary(Interval(math.nan, math.nan, math.nan, 0), unit, [])
    return Summary((share_ci if shares else mean_ci)(found), unit, found)


def _are_shares(measured: Sequence[Measurement], metric: str) -> bool:
    """Returns whether all that was measured of a metric is in [0, 1]."""
    every = (value for model in measured for value in model.get(metric, {}).values())
    return metric not in _NOT_SHARES and not any(value < 0 or value > 1 for value in every)


def _reference(
    measured: Sequence[Measurement], arm: str, metric: str
) -> dict[tuple[int, str], float]:
    """Returns the finite mean over seeds of every word of a metric, by base and word."""
    return _means(
        ((model["base"], word), value)
        for model in measured
        if model["arm"] == arm
        for word, value in model[metric].items()
        if math.isfinite(value)
    )


def _numbers(by_word: Mapping[str, float | None]) -> dict[str, float]:
    # A number that is not finite is null once it was written as JSON.
    finite = {word: math.nan if x is None else float(x) for word, x in by_word.items()}
    return {word: x if math.isfinite(x) else math.nan for word, x in finite.items()}


def _means(pairs: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    """Returns the mean of the values that share a key."""
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: float(np.mean(values)) for key, values in groups.items()}
