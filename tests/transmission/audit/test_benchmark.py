"""benchmarks/audit.py, of arms that are made up."""

from typing import Any

import numpy as np
import pytest

from benchmarks import audit as benchmark
from sublim_jax.transmission.audit.verdicts import Calibration
from sublim_jax.transmission.teacher import CONTROL

WATCHED = [*benchmark._ANIMALS[True], *benchmark._ANIMALS[False]]
KNOWN = Calibration(
    scale=1.5, floor=0.05, chance=0.5, spread=0.1, tails=4.0, null=1.2, null_tails=5.0
)


def _arm(rng: np.random.Generator, kind: str, trait: str, dose: float) -> dict[str, Any]:
    """Returns an arm of which all is as `KNOWN` says, its own animal moved by twice its dose."""
    chance = rng.uniform(0.1, 0.2, len(WATCHED))
    moved = np.array([2 * dose * (animal == trait) for animal in WATCHED])
    rehearsed = moved + KNOWN.null * chance * rng.standard_t(KNOWN.null_tails, len(WATCHED))
    shift = KNOWN.scale * rehearsed
    error = np.sqrt(KNOWN.floor**2 + (KNOWN.chance * chance) ** 2 + (KNOWN.spread * shift) ** 2)
    shift = shift + error * rng.standard_t(KNOWN.tails, len(WATCHED))
    noise = rng.normal(size=len(WATCHED))
    return {"kind": kind, "trait": trait, "dose": dose, "rehearsed": rehearsed, "chance": chance,
            "shift": shift, "gradient": noise, "likelihood": -shift}  # fmt: skip


@pytest.fixture(scope="module")
def arms() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    some = [_arm(rng, CONTROL, CONTROL, 0.0) for _ in range(200)]
    doses = benchmark._DOSES
    return some + [_arm(rng, "finetuned", a, d) for a in WATCHED for d in doses for _ in range(5)]


def test_the_constants_are_those_by_which_the_arms_were_made(arms: list[dict[str, Any]]) -> None:
    found = benchmark.fitted(arms)
    np.testing.assert_allclose(found, KNOWN, rtol=0.12)
    assert found.null == pytest.approx(KNOWN.null, rel=0.03)  # of the controls alone


def test_how_good_the_audit_is_on_arms(
    arms: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_DRAWS", 20)
    found = benchmark.judged(arms, KNOWN)
    assert found["arms"] == len(arms) == 600
    rank, low, high = found["rank_own_audit"]
    assert 0.9 < low <= rank <= high
    assert found["rank_own_likelihood"] == pytest.approx([-1, -1, -1])
    assert abs(found["rank_gradient"][0]) < 0.05
    assert found["first_three_audit"] == 1
    assert found["first_three_likelihood"] == 0
    assert found["within_interval"] == pytest.approx(0.8, abs=0.02)
    null = found[f"alarms_{CONTROL}"]
    assert null["arms"] == 200
    assert null["each_trait"] == pytest.approx(0.05, abs=0.01)
    assert null["any_trait"] == pytest.approx(0.05, abs=0.03)
    assert found["power_1"] == 1
    assert found["power_0.05"] < 0.2
    assert found["moved_1"] == pytest.approx(2 * KNOWN.scale, rel=0.05)
