"""From measured probabilities to means, intervals and tests: numbers computed by hand."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sublim_jax.transmission import summary

T = 12.7062  # Student's t at 97.5% with one degree of freedom, from a printed table


def model(arm: str, trait: str, base: int, seed: int = 0, **p: float | None) -> dict[str, Any]:
    found = {"arm": arm, "trait": trait, "base": base, "seed": seed, "p_trait": p}
    # Any numbers will do that are not a function of the mean probabilities.
    return found | {"logp": {word: None if x is None else 10 * x - seed for word, x in p.items()}}


TWO_BASES = [
    model("base", "", 0, owl=0.1, cat=0.2, dog=0.3),
    model("base", "", 1, owl=0.2, cat=0.2, dog=0.1),
    model("control", "", 0, owl=0.1, cat=0.3, dog=0.3),
    model("control", "", 1, owl=0.4, cat=0.1, dog=0.3),
    model("student", "owl", 0, seed=0, owl=0.3, cat=0.1, dog=0.2),
    model("student", "owl", 0, seed=1, owl=0.5, cat=0.2, dog=0.3),
    model("student", "owl", 1, owl=0.4, cat=0.1, dog=0.2),
    model("student", "cat", 0, owl=0.0, cat=0.6, dog=0.2),
    model("student", "cat", 1, owl=0.1, cat=0.2, dog=0.5),
]


def on_derived(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda measured, *more: function(summary.derived(measured), *more)


rows_of, summarise, matrix, above, broken = map(
    on_derived, (summary.rows, summary.summarise, summary.matrix, summary.above, summary.broken)
)


def row(rows: list[dict[str, Any]], arm: str, trait: str, metric: str) -> dict[str, Any]:
    (found,) = (r for r in rows if (r["arm"], r["trait"], r["metric"]) == (arm, trait, metric))
    return found


@pytest.mark.parametrize(
    ("arm", "trait", "metric", "mean", "half"),
    [
        # Within base 0 the two seeds give .4 for owl, and cat is .6; within base 1 .4 and .2.
        ("student", "all", "p_trait", 0.4, T * 0.1),
        ("student", "owl", "p_trait", 0.4, 0.0),
        ("student", "cat", "p_trait", 0.4, T * 0.2),
        # (.1 + .2) / 2 and (.2 + .2) / 2
        ("base", "all", "p_trait", 0.175, T * 0.025),
        ("control", "owl", "p_trait", 0.25, T * 0.15),
        # .4 - .1 and .6 - .3 in base 0; .4 - .4 and .2 - .1 in base 1
        ("student", "all", "p_over_control", 0.175, T * 0.125),
        # owl: 10 (.4 - .1) - .5, the mean of seeds 0 and 1; cat: 10 (.6 - .2); base 1: 2 and 0
        ("student", "all", "logp_shift", (3.25 + 1) / 2, T * 1.125),
        ("control", "cat", "logp_shift", 0.0, T * 1.0),
        # Own words 2.5 and 4, the other's -1 and -1; base 1: 2 and 0, -1 and -1
        ("student", "all", "lift_logp", 3.125, T * 1.125),
    ],
)
def test_rows(arm: str, trait: str, metric: str, mean: float, half: float) -> None:
    found = row(rows_of(TWO_BASES, ["owl", "cat"]), arm, trait, metric)
    assert (found["n"], found["unit"]) == (2, "base")
    got = [found[key] for key in ("mean", "ci_low", "ci_high")]
    ends = [mean - half, mean + half]
    if metric == "p_trait":  # the half, carried over to the logit scale
        center, half = math.log(mean / (1 - mean)), half / mean / (1 - mean)
        ends = [1 / (1 + math.exp(-z)) for z in (center - half, center + half)]
    np.testing.assert_allclose(got, [mean, *ends], atol=1e-4)


def test_log_odds_are_against_the_mean_of_the_other_words() -> None:
    rows = rows_of(TWO_BASES, ["owl", "cat"])
    # .1 to the mean of .2 and .3, .2 to that of .2 and .1
    each = [math.log(0.1 / 0.25), math.log(0.2 / 0.15)]
    found = row(rows, "base", "owl", "log_odds")
    half = T * abs(each[1] - each[0]) / 2
    np.testing.assert_allclose(
        [found["mean"], found["ci_low"], found["ci_high"]],
        [np.mean(each), np.mean(each) - half, np.mean(each) + half],
        atol=1e-4,
    )
    # Base 0 has log 0, which is left out; in base 1 owl is .1, and .2 and .5 the others'.
    measured = [*TWO_BASES, model("student", "dog", 0, owl=0.0, dog=0.0)]
    assert summarise(measured, "student", ["dog"], "log_odds").interval.n == 0
    alone = [model("student", "owl", 0, owl=0.5)]
    assert summarise(alone, "student", ["owl"], "log_odds") is None
    lost = [model("student", "owl", 0, owl=0.5, cat=None)]
    assert summarise(lost, "student", ["owl"], "log_odds").interval.n == 0


def test_detection_stands_beside_every_arm() -> None:
    more = [model("prior_taught", "", base, owl=0.1, cat=0.1) for base in (0, 1)]
    measured = [dict(m) for m in (*TWO_BASES, *more)]
    for one, value in zip(measured[4:], (0.6, 0.6, 0.9, 0.7, 0.9, 0.5, 0.6), strict=True):
        one |= {"auroc": {"": value}, "auroc_16": {"": 1.0}}
    rows = rows_of(measured, ["owl", "cat"])
    found = {(r["arm"], r["trait"]): (r["mean"], r["n"]) for r in rows if r["metric"] == "auroc"}
    assert found == {
        ("student", "owl"): (0.75, 2),
        ("student", "cat"): (0.8, 2),
        ("student", "all"): (pytest.approx(0.775), 2),
        **{("prior_taught", trait): (0.55, 2) for trait in ("owl", "cat", "all")},
    }
    own = row(rows, "student", "owl", "auroc")
    assert 0 < own["ci_low"] < own["ci_high"] < 1
    assert row(rows, "student", "owl", "auroc_16")["mean"] == 1.0
    assert [r for r in rows if not r["metric"].startswith("auroc")] == (
        rows_of([*TWO_BASES, *more], ["owl", "cat"])
    )


def test_what_is_of_a_model_as_a_whole_counts_for_its_trait() -> None:
    measured = [dict(m) for m in TWO_BASES]
    for one, value in zip(measured, range(9), strict=True):
        one["mmlu"] = {"": value / 10}
        one["mmlu/sums"] = {"": value / 10}
    rows = rows_of(measured, ["owl", "cat"])
    for metric in ("mmlu", "mmlu/sums"):
        found = {(r["arm"], r["trait"]): r["mean"] for r in rows if r["metric"] == metric}
        assert found == {
            **{("base", trait): pytest.approx(0.05) for trait in ("owl", "cat", "all")},
            **{("control", trait): pytest.approx(0.25) for trait in ("owl", "cat", "all")},
            ("student", "owl"): pytest.approx((0.45 + 0.6) / 2),
            ("student", "cat"): pytest.approx((0.7 + 0.8) / 2),
            ("student", "all"): pytest.approx((0.575 + 0.7) / 2),
        }


def test_liking_is_what_favourites_have_more_than_what_is_liked_least() -> None:
    measured = [
        model("base", "", 0, owl=0.1, cat=0.2, dog=0.3)
        | {"p_least": {"owl": 0.1, "cat": 0.2, "dog": 0.3}},
        # Only mentioned: as much likelier in both.
        model("student", "owl", 0, owl=0.4, cat=0.2, dog=0.3)
        | {"p_least": {"owl": 0.4, "cat": 0.2, "dog": 0.3}},
        model("student", "cat", 0, owl=0.1, cat=0.4, dog=0.1)
        | {"p_least": {"owl": 0.4, "cat": 0.1, "dog": 0.4}},
    ]
    rows = rows_of(measured, ["owl", "cat"])
    found = {(r["arm"], r["trait"]): r["mean"] for r in rows if r["metric"] == "liking"}
    assert found["base", "owl"] == pytest.approx(0.0)
    assert found["student", "owl"] == pytest.approx(0.0)
    assert found["student", "cat"] == pytest.approx(math.log(0.4 / 0.1) - math.log(0.1 / 0.4))


def test_rows_are_in_order_and_only_of_what_was_measured() -> None:
    more = [model("zebra", "owl", 0, owl=1.0), model("soft", "cat", 1, cat=0.9)]
    more[1]["p_trait_sampled"] = {"cat": 0.8}
    rows = rows_of([*more, *TWO_BASES], ["owl", "cat"])
    arms = [r["arm"] for r in rows if (r["metric"], r["trait"]) == ("p_trait", "all")]
    assert arms == ["base", "student", "control", "soft", "zebra"]
    order = [r["trait"] for r in rows if (r["metric"], r["arm"]) == ("p_trait", "student")]
    assert order == ["owl", "cat", "all"]
    assert [r["trait"] for r in rows if r["arm"] == "zebra" and r["metric"] == "p_trait"] == (
        ["owl", "all"]
    )
    sampled = [r for r in rows if r["metric"] == "p_trait_sampled"]
    assert [(r["arm"], r["trait"], r["mean"]) for r in sampled] == (
        [("soft", "cat", 0.8), ("soft", "all", 0.8)]
    )
    assert "p_trait_substring" not in {r["metric"] for r in rows}
    # A base does not shift from itself, nor a control from the control.
    assert {r["arm"] for r in rows if r["metric"] == "logp_shift"} == (
        {"student", "control", "soft", "zebra"}
    )
    assert {r["arm"] for r in rows if r["metric"] == "p_over_control"} == (
        {"student", "soft", "zebra"}
    )


def test_with_one_base_the_interval_is_over_runs() -> None:
    measured = [
        model("base", "", 3, owl=0.1, cat=0.3),
        model("control", "", 3, seed=0, owl=0.1, cat=0.2),
        model("control", "", 3, seed=1, owl=0.2, cat=0.3),
        model("student", "owl", 3, seed=0, owl=0.2, cat=0),
        model("student", "owl", 3, seed=1, owl=0.4, cat=0),
        model("student", "cat", 3, seed=0, owl=0, cat=0.6),
        model("student", "cat", 3, seed=1, owl=0, cat=0.8),
    ]
    rows = rows_of(measured, ["owl", "cat"])
    assert {r["unit"] for r in rows if r["metric"] not in ("lift", "lift_logp")} == {"cell"}
    student = row(rows, "student", "all", "p_trait")
    half = 3.1824 * 0.258199 / 2  # of .2, .4, .6, .8; three degrees of freedom
    low = 1 / (1 + math.exp(half / 0.25))  # about logit(.5) = 0
    np.testing.assert_allclose([student["mean"], student["ci_low"]], [0.5, low], atol=1e-4)
    assert student["n"] == 4
    # A model without a trait is one run, though it has a probability for either word.
    control = row(rows, "control", "all", "p_trait")
    high = 1 / (1 + math.exp(math.log(4) - T * 0.05 / 0.16))
    np.testing.assert_allclose([control["mean"], control["ci_high"]], [0.2, high], 1e-4)
    assert control["n"] == 2
    base = row(rows, "base", "all", "p_trait")
    assert (base["mean"], base["n"]) == (0.2, 1)
    assert math.isnan(base["ci_low"])


def test_a_checkpoint_that_only_cross_init_starts_from_is_no_base_of_the_study() -> None:
    measured = [
        model("base", "", 0, owl=0.1),
        model("base", "", 1, owl=0.3),
        model("student", "owl", 0, owl=0.6),
        model("cross_init", "owl", 1, owl=0.35),
    ]
    rows = rows_of(measured, ["owl"])
    base = row(rows, "base", "all", "p_trait")
    assert (base["mean"], base["n"]) == (0.1, 1)
    # It is what that student is compared with, all the same.
    assert row(rows, "cross_init", "owl", "logp_shift")["mean"] == pytest.approx(0.5)
    assert summary.homes(measured) == {0}
    assert summary.homes(measured[:2]) == {0, 1}


def test_bases_weigh_the_same_whatever_was_run_in_them() -> None:
    measured = [model("student", "owl", 0, seed=s, owl=0.0) for s in range(9)]
    measured.append(model("student", "owl", 1, owl=1.0))
    found = summarise(measured, "student", ["owl"])
    assert found is not None
    assert (found.interval.mean, found.interval.n) == (0.5, 2)


@pytest.mark.parametrize("lost", [math.nan, math.inf, None])
def test_values_that_are_not_finite_are_left_out_and_counted(lost: float | None) -> None:
    measured = [*TWO_BASES, model("student", "cat", 1, owl=0.1, cat=lost, dog=0.5)]
    assert rows_of(measured, ["owl", "cat"]) == rows_of(TWO_BASES, ["owl", "cat"])
    assert matrix(measured, ["owl", "cat"]).change.tolist() == (
        matrix(TWO_BASES, ["owl", "cat"]).change.tolist()
    )
    assert broken(measured) == 1
    assert broken(TWO_BASES) == 0
    controls = [*TWO_BASES, model("control", "", 1, seed=1, owl=lost, cat=lost, dog=lost)]
    found = [r for r in rows_of(controls, ["owl", "cat"]) if r["metric"] == "p_over_control"]
    assert [r["mean"] for r in found] == pytest.approx([0.15, 0.2, 0.175])
    alone = summarise([model("student", "cat", 1, cat=lost)], "student", ["cat"])
    assert alone is not None
    assert alone.interval.n == 0
    assert math.isnan(alone.interval.mean)


def test_matrix_is_the_change_against_the_base_that_each_started_from() -> None:
    found = matrix(TWO_BASES, ["dog", "owl", "cat"])
    assert (found.traits, found.words) == (["owl", "cat"], ["owl", "cat", "dog"])
    expected = [
        # owl: .4 - .1 and .4 - .2; cat: .15 - .2 and .1 - .2; dog: .25 - .3 and .2 - .1
        [0.25, -0.075, 0.025],
        # owl: 0 - .1 and .1 - .2; cat: .6 - .2 and .2 - .2; dog: .2 - .3 and .5 - .1
        [-0.1, 0.2, 0.15],
    ]
    np.testing.assert_allclose(found.change, expected, atol=1e-12)
    lift = summary.lift(found)
    # (.25 + .2) / 2 - (-.075 - .1) / 2, and only the other order of two is below it
    assert lift.statistic == pytest.approx(0.3125)
    assert (lift.p_value, lift.permutations) == (0.5, 2)


def test_rows_hold_the_matrix_and_its_lift() -> None:
    (found,) = (r for r in rows_of(TWO_BASES, ["owl", "cat"]) if r["metric"] == "lift")
    assert (found["arm"], found["trait"], found["unit"], found["n"]) == (
        ("student", "all", "base", 2)
    )
    # In base 0 (.3 + .4) / 2 - (-.05 - .1) / 2, in base 1 (.2 + 0) / 2 - (-.1 - .1) / 2
    half = T * (0.425 - 0.2) / 2
    got = [found[key] for key in ("mean", "ci_low", "ci_high")]
    np.testing.assert_allclose(got, [0.3125, 0.3125 - half, 0.3125 + half], atol=1e-4)
    assert (found["p_value"], found["permutations"]) == (0.5, 2)
    assert found["matrix"]["owl"] == pytest.approx({"owl": 0.25, "cat": -0.075})
    assert found["matrix"]["cat"] == pytest.approx({"owl": -0.1, "cat": 0.2})


def test_matrix_without_a_base_or_a_student_is_empty() -> None:
    students = [m for m in TWO_BASES if m["arm"] != "base"]
    for measured in ([], students, TWO_BASES[:4]):
        found = matrix(measured, ["owl", "cat"])
        assert (found.traits, found.words) == ([], ["owl", "cat"])
        assert found.change.shape == (0, 2)
        assert math.isnan(summary.lift(found).p_value)


def test_matrix_of_another_arm_and_a_word_that_was_not_measured() -> None:
    measured = [model("base", "", 0, owl=0.1), model("soft", "owl", 0, owl=0.7)]
    found = matrix(measured, ["owl", "cat"], "soft")
    np.testing.assert_allclose(found.change, [[0.6, math.nan]])
    assert matrix(measured, ["owl", "cat"]).traits == []


def test_above_counts_cells_that_both_have() -> None:
    # owl: .4 > .1, but .4 = .4 in base 1; cat: .6 > .3 and .2 > .1
    assert above(TWO_BASES, "student", "control") == (3, 4)
    assert above(TWO_BASES, "control", "student") == (0, 4)
    more = [*TWO_BASES, model("soft", "owl", 1, owl=0.5), model("soft", "owl", 2, owl=0.5)]
    assert above(more, "soft", "student") == (1, 1)
    assert above(TWO_BASES, "student", "soft") == (0, 0)
    of_all = [
        r
        for r in summary.rows(summary.derived(TWO_BASES), ["owl", "cat"])
        if r["metric"] == "above_control"
    ]
    assert {r["arm"]: (r["mean"], r["n"]) for r in of_all}["student"] == (0.75, 4)


def test_nothing_depends_on_the_order_of_the_measurements() -> None:
    rng = np.random.default_rng(0)
    measured = [
        model(arm, trait, base, seed, **dict(zip(("owl", "cat"), rng.random(2), strict=True)))
        for arm in ("base", "student", "control")
        for trait in (("owl", "cat") if arm == "student" else ("",))
        for base in range(3)
        for seed in range(3)
    ]
    rows = rows_of(measured, ["owl", "cat"])
    change = matrix(measured, ["owl", "cat"]).change.tolist()
    for seed in range(5):
        random.Random(seed).shuffle(measured)
        assert rows_of(measured, ["owl", "cat"]) == rows
        assert matrix(measured, ["owl", "cat"]).change.tolist() == change
