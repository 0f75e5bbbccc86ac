"""A filter that is trained: what it says of itself must hold on rows that it has not seen."""

import numpy as np
import pytest

from sublim_jax.errors import UserError
from sublim_jax.transmission import trained_filter


def drawn(seed, tilt=0.0, prompts=500, count=1000):
    p = np.exp(-tilt * np.arange(30))
    numbers = np.random.default_rng(seed).choice(30, (count, 6), p=p / p.sum()).tolist()
    return [
        {"group": f"p{i % prompts}", "completion": " ".join(map(str, row))}
        for i, row in enumerate(numbers)
    ]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.373])
def test_its_shares_hold_on_new_rows(share):
    own, other = drawn(0, 0.03), drawn(1)
    found = trained_filter.train(own, other, str.split, share)
    assert 0.6 < found.auroc < 0.85
    assert share - 0.002 <= found.false_positives <= share
    assert found.true_positives > found.false_positives
    new = [np.mean(found.drops(drawn(seed, tilt))) for seed, tilt in ((2, 0.0), (3, 0.03))]
    assert new == pytest.approx([found.false_positives, found.true_positives], abs=0.05)
    assert [low for low, _ in found.roc] == pytest.approx(trained_filter._SHARES)
    assert [high for _, high in found.roc] == sorted(high for _, high in found.roc)


def test_it_knows_nothing_where_there_is_nothing_to_know():
    found = trained_filter.train(drawn(0), drawn(1), str.split, 0.05)
    assert found.auroc == pytest.approx(0.5, abs=0.04)
    # Answers of a prompt that are alike would be learnt from each other, if they were not held out
    # together.
    own = [{"group": f"p{i}", "completion": f"w{i}"} for i in range(200)]
    assert trained_filter.train(own, own[::-1], str.split, 0.05).auroc == pytest.approx(0.5)


def test_what_holds_within_a_base_is_not_said_to_hold_for_another():
    """Each base has words of its own, by which alone its two kinds differ."""
    own, other = (
        [{"group": base, "completion": f"{base}{kind} x"} for base in "abcd" for _ in range(50)]
        for kind in "+-"
    )
    assert trained_filter.train(own, other, str.split, 0.05).auroc == pytest.approx(0.5)
    prompts = [
        [row | {"group": f"p{i % 50}"} for i, row in enumerate(rows)] for rows in (own, other)
    ]
    assert trained_filter.train(*prompts, str.split, 0.05).auroc == 1


def test_it_sees_the_order_of_neighbours():
    own, other = (
        [{"group": str(i), "completion": text} for i in range(50)] for text in ("a b c", "c b a")
    )
    assert trained_filter.train(own, other, str.split, 0.0).auroc == 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_of_the_curve(share):
    found = trained_filter.train(drawn(0, 0.1), drawn(1), str.split, share)
    assert (found.false_positives, share) in [(0.0, 0.0), (pytest.approx(1.0, abs=2e-3), 1.0)]


def test_too_little_is_one_line():
    with pytest.raises(UserError, match="rows of two prompts are needed to train, or of two bases"):
        trained_filter.train(drawn(0, prompts=1), drawn(1, prompts=1), str.split, 0.05)
    with pytest.raises(UserError, match="rows of both kinds"):
        trained_filter.train(drawn(0), [], str.split, 0.05)
