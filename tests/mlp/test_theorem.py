import json

import jax
import numpy as np
import pytest

from configs.theorem import digits
from sublim_jax.errors import UserError
from sublim_jax.mlp import theorem


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def tiny(activation="tanh"):
    config = digits.get_config()
    config.members = 8
    config.network.update({"width": 16, "activation": activation})
    config.examples = 64
    config.rows = 8
    return config


def test_predictions_hold_on_a_shared_initialisation_and_nowhere_else(tmp_path):
    theorem.run(tiny(), str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    holding = {
        arm: {r["holds"] for r in rows if r["arm"] == arm} for arm in (r["arm"] for r in rows)
    }
    assert holding == {
        "student_aux": {True}, "cross_aux": {False}, "one_logit": {True}, "orthogonal": {True},
    }  # fmt: skip
    assert len(rows) == 2 * 2 * 7 + 2
    for row in rows:
        assert row["n"] == 8
        assert row["holds"] == (row["satisfied"] == 8)
    shared, cross = (
        {r["metric"]: r for r in rows if r["arm"] == a} for a in ("student_aux", "cross_aux")
    )
    sign = "least cosine of dS, dT (kl)"
    assert shared[sign]["lowest"] > 0
    assert cross[sign]["lowest"] <= 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"<td>{cross[sign]['satisfied']} of 8</td><td>yes</td>" in page
    assert "<td>8 of 8</td><td>yes</td>" in page
    for name in ("report.html", "figures/theorem.svg", "figures/theorem.png"):
        assert (tmp_path / name).stat().st_size > 500


def test_a_run_that_contradicts_the_theorem_ends_in_an_error(tmp_path, monkeypatch):
    # "Another member" is the member itself: what must fail across initialisations holds.
    monkeypatch.setattr(theorem, "derangement", lambda seed, members: np.arange(members))
    with pytest.raises(UserError, match="not as Theorem 1 predicts"):
        theorem.run(tiny(), str(tmp_path))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("members", 1),
        ("losses", ("l1",)),
        ("alpha", 0.0),
        ("examples", 10**6),
        ("rows", 0),
        ("seed", -1),
        ("network.depth", -1),
        ("epsilon.low", 1e-3),
        ("epsilon.high", float("inf")),
        ("network.init_scale", 0.0),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path, field, value):
    config = tiny()
    group, _, name = field.rpartition(".")
    (config[group] if group else config)[name] = value
    with pytest.raises(UserError, match=f"config.{field}="):
        theorem.run(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
