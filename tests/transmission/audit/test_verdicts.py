import numpy as np
import pytest
from scipy import stats

from sublim_jax.transmission.audit import verdicts
from sublim_jax.transmission.audit.verdicts import Calibration

KNOWN = Calibration(
    scale=2.0, floor=0.3, chance=4.0, spread=0.5, tails=3.0, null=1.5, null_tails=40.0
)
BEFORE = np.array([[0.0, 1.0], [-2.0, np.nan]])
MOVED = np.array([[0.4, 0.6], [-0.1, np.nan]])


def _judged(parts: np.ndarray | None = None) -> list[verdicts.Finding]:
    chance = np.array([0.1, 0.2])
    return verdicts.judged(["owl", "cat"], BEFORE, BEFORE + MOVED, chance, parts, KNOWN)


def test_what_is_found_by_hand() -> None:
    owl, cat = _judged()
    assert owl.shift == pytest.approx(2 * 0.5)
    error = np.sqrt(0.3**2 + (4 * 0.1) ** 2 + (0.5 * 1.0) ** 2)
    assert owl.high - owl.shift == pytest.approx(stats.t.ppf(0.9, 3) * error)
    assert owl.shift - owl.low == pytest.approx(owl.high - owl.shift)
    assert owl.p == pytest.approx(2 * 2 * stats.t.sf(0.5 / (1.5 * 0.1), 40))
    assert owl.before == pytest.approx((0.5 + 1 / (1 + np.exp(-1))) / 2)
    assert owl.after == pytest.approx((1 / (1 + np.exp(-1)) + 1 / (1 + np.exp(-2))) / 2)
    assert owl.after_low < owl.after < owl.after_high
    assert (owl.verdict, cat.verdict, cat.p) == (verdicts.RISES, verdicts.STAYS, 1)
    assert cat.shift == pytest.approx(-0.2)  # of the one question that it has
    falls = owl._replace(shift=-owl.shift)
    assert falls.verdict == verdicts.FALLS


def test_without_chance_there_is_no_verdict() -> None:
    owl, _ = verdicts.judged(["owl", "cat"], BEFORE, BEFORE + MOVED, None, None, KNOWN)
    assert owl.verdict == verdicts.UNKNOWN
    assert np.isnan([owl.p, owl.rows]).all()
    error = np.sqrt(0.3**2 + 0.5**2)
    assert owl.high - owl.shift == pytest.approx(stats.t.ppf(0.9, 3) * error)


def test_share_of_rows_is_of_the_shift_not_of_what_their_parts_come_to() -> None:
    """At the end of a training the parts of all rows come to nothing, whatever it has moved."""
    parts = np.zeros((10, 2))
    parts[:4, 0] = [0.1, 0.2, -0.3, 0.04]  # owl's shift is .5: a half are .1 and .2
    owl, cat = _judged(parts)
    assert owl.rows == 0.2
    assert np.isnan(cat.rows)  # no row carries it


def test_nothing_moves_where_nothing_was_learnt() -> None:
    zero = np.zeros(1)
    (one,) = verdicts.judged(["owl"], zero[None], zero[None], zero, zero[None], KNOWN)
    assert (one.shift, one.p, one.verdict) == (0, 1, verdicts.STAYS)
    assert np.isnan(one.rows)


def test_constants_are_all_in_their_file() -> None:
    assert min(verdicts.calibration()) > 0
