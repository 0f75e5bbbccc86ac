"""What was detected and what rows do in context, as rows of results, beside what was passed on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from sublim_jax import stats
from sublim_jax.stats import Interval
from sublim_jax.transmission.detect import AGAINST, SIZES, Bags, aurocs, human, naive_bayes
from sublim_jax.transmission.finished import Finished
from sublim_jax.transmission.in_context import Shown
from sublim_jax.transmission.teacher import CONTROL

PASSED = ("base", "control", "student")  # arms of the study that are shown beside the detectors
_, OTHER, LEAKS = AGAINST
Row = dict[str, Any]
_METRICS = {size: "auroc" if size == 1 else f"auroc_{size}" for size in SIZES}


class Found(NamedTuple):
    """What was found of one base.

    Attributes:
      told: what a detector makes of a contest, by its name, the trait and one of `AGAINST`.
      items: by trait, those whose shares differ most from the control's.
      shown: what rows do in context.
      seconds: of each stage.
    """

    told: dict[tuple[str, str, str], Bags]
    items: dict[str, list[naive_bayes.Share]]
    shown: list[Shown]
    seconds: dict[str, float]


def rows(
    run: Finished, traits: Sequence[str], found: Sequence[Found], games: Sequence[human.Game]
) -> list[Row]:
    """Returns the rows of `results.json`.

    A detector's have `against`, one of `AGAINST`, and `auroc` of single rows and of bags; those of
    people the share of right answers, as the AUROC of a choice between two is. Those of rows in
    context have `shown`, how many they are. Those of the arm `learnt`, and of the study's own arms,
    are what the study says of learning the same rows.

    Args:
      run: the study whose data they are.
      found: of each of its bases.
      games: of people.
    """
    return [
        *_detected(found, traits),
        *_played(games),
        *_in_context(found, traits),
        *_passed(run, traits),
    ]


def find(rows: Sequence[Row], arm: str, metric: str, trait: str = "all", **more: Any) -> Row | None:
    """Returns the first of the rows that has these values, if any."""
    wanted = {"arm": arm, "metric": metric, "trait": trait, **more}
    return next((row for row in rows if all(row.get(k) == wanted[k] for k in wanted)), None)


def interval_of(row: Mapping[str, Any] | None) -> Interval:
    """Returns a row's interval; what is null in a file, or absent, is NaN."""
    if row is None:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean, low, high = (
        math.nan if row[x] is None else float(row[x]) for x in ("mean", "ci_low", "ci_high")
    )
    return Interval(mean, low, high, row["n"])


def _detected(found: Sequence[Found], traits: Sequence[str]) -> list[Row]:
    """Returns the AUROC of each detector by trait, what it is told from and the size of bags.

    Intervals are over bases, and with a single one over its prompts, by the bootstrap.
    """
    out = []
    drawn = {
        (number, *at, size): (aurocs(folds), np.concatenate([fold.ids for fold in folds]))
        for number, own in enumerate(found)
        for at, bags in own.told.items()
        for size, folds in bags.items()
    }
    kinds = dict.fromkeys((name, against) for name, _, against in found[0].told)
    for (name, against), size in ((kind, size) for kind in kinds for size in SIZES):
        for trait in (*traits, "all"):
            chosen = traits if trait == "all" else [trait]
            some = [
                [drawn[number, name, one, against, size] for one in chosen]
                for number in range(len(found))
            ]
            means = [np.mean([values for values, _ in own], axis=0) for own in some]
            if len(means) > 1:
                interval, unit = stats.share_ci([float(own[0]) for own in means]), "base"
            else:
                low, high = np.quantile(means[0][1:], (0.025, 0.975)).tolist()
                n = len(np.unique(np.concatenate([ids for _, ids in some[0]])))
                interval = Interval(float(means[0][0]), low, high, n)
                unit = "prompt" if size == 1 else "bag"
            metric = _METRICS[size]
            out.append(_row(name, trait, metric, interval, unit, against=against))
    return out


def _played(games: Sequence[human.Game]) -> list[Row]:
    """Returns how often people were right, with Wilson's interval."""
    by_quiz: dict[tuple[str, str], list[bool]] = {}
    for game in games:
        against = CONTROL if game.against == CONTROL else OTHER
        for trait in (game.trait, "all"):
            by_quiz.setdefault((trait, against), []).extend(game.right)
    out = []
    for (trait, against), right in by_quiz.items():
        mean = sum(right) / len(right)
        low, high = binomtest(sum(right), len(right)).proportion_ci(method="wilson")
        interval = Interval(mean, float(low), float(high), len(right))
        out.append(_row("human", trait, _METRICS[1], interval, "answer", against=against))
    return out


def _in_context(found: Sequence[Found], traits: Sequence[str]) -> list[Row]:
    """Returns log P(trait) after rows in context, and less that after other teachers' rows.

    Intervals are over bases, and with a single one over draws of rows.
    """
    out = []
    for place in range(min(len(own.shown) for own in found)):
        rows = found[0].shown[place].rows
        for trait in (*traits, "all"):
            chosen = traits if trait == "all" else [trait]
            for metric in ("logp", *(("logp_over_control", "logp_over_other") if rows else ())):
                some = [_shift(own.shown[place], chosen, metric) for own in found]
                if not all(map(len, some)):
                    continue
                single = len(some) == 1
                values = some[0] if single else [float(x.mean()) for x in some]
                interval, unit = stats.mean_ci(values), "draw" if single else "base"
                out.append(_row("in_context", trait, metric, interval, unit, shown=rows))
    return out


def _shift(shown: Shown, traits: Sequence[str], metric: str) -> np.ndarray:
    """Returns a metric of each draw, a mean over traits; nothing where there is no other trait."""
    teachers = {name for name, _ in shown.logp} - {CONTROL}
    each = []
    for trait in traits:
        than = {
            "logp": [],
            "logp_over_control": [CONTROL],
            "logp_over_other": sorted(teachers - {trait}),
        }[metric]
        if metric != "logp" and not than:
            return np.array([])
        own = shown.logp[trait, trait]
        each.append(own - np.mean([shown.logp[name, trait] for name in than], 0) if than else own)
    found: np.ndarray = np.mean(each, axis=0)
    return found


def _passed(run: Finished, traits: Sequence[str]) -> list[Row]:
    """Returns what the study says of learning the same rows."""
    out = []
    whole = set(traits) == set(run.config.traits)  # of fewer, the study has no means
    for trait in (*traits, *(["all"] if whole else [])):
        metrics = [*((arm, "p_trait") for arm in PASSED), ("student", "p_over_control")]
        known = (run.found(arm, trait, metric) for arm, metric in metrics)
        out += [_row(r["arm"], trait, r["metric"], interval_of(r), r["unit"]) for r in known if r]
        moved = [run.found(arm, trait, "logp_shift") for arm in ("student", "control")]
        if moved[0] and moved[1]:
            over = interval_of(moved[0]).mean - interval_of(moved[1]).mean
            interval = Interval(over, math.nan, math.nan, moved[0]["n"])
            out.append(_row("learnt", trait, "logp_over_control", interval, moved[0]["unit"]))
        if lift := run.found("student", trait, "lift_logp"):
            out.append(_row("learnt", trait, "logp_over_other", interval_of(lift), lift["unit"]))
    return out


def _row(arm: str, trait: str, metric: str, interval: Interval, unit: str, **more: Any) -> Row:
    return {
        "arm": arm,
        "trait": trait,
        "metric": metric,
        **more,
        **interval._asdict(),
        "unit": unit,
    }
