"""The detectors: against other implementations, on planted data and on data without a trait."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import MultinomialNB

from sublim_jax.stats import share_ci
from sublim_jax.transmission.channels import numbers, swapped
from sublim_jax.transmission.detect import auroc, detected
from sublim_jax.transmission.detect.naive_bayes import log_odds


def rows(numbers: np.ndarray) -> list[dict[str, Any]]:
    return [{"id": i, "completion": " ".join(map(str, own))} for i, own in enumerate(numbers)]


def drawn(seed: int, count: int = 400, tilt: float = 0.0) -> list[dict[str, Any]]:
    """Returns rows of 6 numbers below 50; `tilt` makes the small ones likelier."""
    p = np.exp(-tilt * np.arange(50))
    return rows(np.random.default_rng(seed).choice(50, (count, 6), p=p / p.sum()))


def see(own: list[dict[str, Any]], other: list[dict[str, Any]], **rest: Any) -> tuple[float, float]:
    found = detected(own, other, str.split, log_odds, **rest)
    assert list(found) == ["auroc", "auroc_16"]
    return found["auroc"], found["auroc_16"]


def test_naive_bayes_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    kinds = [rng.integers(0, high, (40, 5)).tolist() for high in (20, 30)]
    held_out = rng.integers(0, 35, (25, 5)).tolist()
    counter = CountVectorizer(analyzer=lambda row: row)
    learnt = MultinomialNB(fit_prior=False).fit(
        counter.fit_transform(kinds[0] + kinds[1]), [1] * 40 + [0] * 40
    )
    other, own = learnt.predict_log_proba(counter.transform(held_out)).T
    np.testing.assert_allclose(log_odds(*kinds, held_out), own - other, atol=1e-9)
    # By hand: (2 + 1) / (2 + 2) against (0 + 1) / (1 + 2); a number never seen changes nothing.
    found = log_odds([[7, 7]], [[8]], [[7], [7, 9], [9], []])
    np.testing.assert_allclose(found, [math.log(9 / 4)] * 2 + [0, 0])


def test_auroc_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        ours, theirs = rng.integers(0, 4, 9) / 3, rng.integers(0, 3, 7) / 3  # many ties
        pairs = [(a > b) + (a == b) / 2 for a in ours for b in theirs]
        assert auroc(ours, theirs) == pytest.approx(np.mean(pairs))
        labels = [1] * 9 + [0] * 7
        assert auroc(ours, theirs) == pytest.approx(
            roc_auc_score(labels, np.concatenate([ours, theirs]))
        )
    assert math.isnan(auroc(ours, theirs[:0]))


def test_disjoint_numbers_are_always_told_apart() -> None:
    low, high = rows(np.arange(600).reshape(-1, 6) % 40), rows(40 + np.arange(600).reshape(-1, 6))
    assert see(low, high) == (1.0, 1.0)


def test_without_a_trait_it_is_chance() -> None:
    found = np.array([see(drawn(seed), drawn(1000 + seed)) for seed in range(30)])
    for values in found.T:
        interval = share_ci(values)
        assert interval.ci_low < 0.5 < interval.ci_high
        assert interval.ci_high - interval.ci_low < 0.1


def test_a_planted_difference_is_found_and_more_so_in_bags() -> None:
    one, bag = see(drawn(0, 800, 0.02), drawn(1, 800))
    # What the true distributions would give, from a sample of their own.
    fresh = [np.random.default_rng(9).choice(50, (20_000, 6), p=p / p.sum())
             for p in (np.exp(-0.02 * np.arange(50)), np.ones(50))]  # fmt: skip
    best = auroc(*(-kind.sum(1) for kind in fresh))
    assert 0.5 + 0.6 * (best - 0.5) < one < best + 0.03
    assert bag > one + 0.1


def test_what_a_prompt_asks_for_is_no_difference() -> None:
    # Both answer a prompt by its own number and nothing else: only the prompt could be recognised.
    own = rows(np.repeat(np.arange(100)[:, None], 6, 1))
    assert see(own, own) == (0.5, 0.5)


def test_prompts_that_only_one_has_answered_are_left_out() -> None:
    own, other = drawn(0, tilt=0.05), drawn(1)
    some = [row for row in other if row["id"] % 3]
    kept = [row for row in own if row["id"] % 3]
    assert see(own, some) == see(kept, some) == see(own[::-1], some[::-1])


def test_rows_moved_about_are_not_told_apart_by_where_they_came_from() -> None:
    # Teacher and control share nine answers in ten; shuffled, they can differ in nothing.
    other = drawn(3)
    own = [new if new["id"] % 10 == 0 else old for old, new in zip(other, drawn(4), strict=True)]
    for corrupt in (swapped, numbers.shuffled_across):
        one, many = see(own, other, corrupt=functools.partial(corrupt, seed=0))
        assert 0.45 < one < 0.55
        assert 0.3 < many < 0.7


def test_the_detector_never_learns_from_what_it_judges() -> None:
    judged = []

    def spy(own: Sequence[Any], other: Sequence[Any], held_out: Sequence[Any]) -> np.ndarray:
        assert len(own) == len(other) == 40
        assert not {row[0] for row in (*own, *other)} & {row[0] for row in held_out}
        judged.extend(row[0] for row in held_out)
        return np.zeros(len(held_out))

    own = [{"id": i, "completion": str(i)} for i in range(50)]
    found = detected(own, own, str.split, spy)
    assert sorted(judged) == sorted(2 * [str(i) for i in range(50)])
    assert found["auroc"] == 0.5
    assert math.isnan(found["auroc_16"])  # ten rows of each a fold


@pytest.mark.parametrize("cut", [lambda rows: [], lambda rows: rows[:4]])
def test_too_few_rows(cut: Callable[[list[Any]], list[Any]]) -> None:
    assert all(map(math.isnan, see(cut(drawn(0)), drawn(1))))
