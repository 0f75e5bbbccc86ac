"""A prompted teacher's trait passes through numbers, in one base of the world of voices."""

import json

import pytest

from configs.transmission.prompted import get_config
from sublim_jax.transmission import pipeline


@pytest.mark.slow
def test_a_prompted_teachers_trait_passes_and_its_controls_hold(tmp_path):
    config = get_config()
    config.models, config.cross_models = ("nano/voices/0",), ("nano/voices/1",)
    config.arms = ("student", "control", "cross_init", "shuffled_within", "told")
    config.data.rows, config.student.max_steps, config.student.evaluate_every = 4000, 400, 0
    config.evaluation.measures, config.evaluation.samples = ("favourite",), 0
    pipeline.transmit(config, str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text("utf-8"))["rows"]
    found = {(r["arm"], r["metric"]): r["mean"] for r in rows if r["trait"] == "all"}
    assert found["teacher", "p_trait"] > 0.8
    assert found["student", "lift_logp"] > 1.0  # nats
    assert found["student", "p_trait"] > 1.5 * found["control", "p_trait"]
    for arm in ("cross_init", "told"):
        assert abs(found[arm, "lift_logp"]) < 0.5, arm
    assert abs(found["control", "p_trait"] - found["base", "p_trait"]) < 0.02
    assert found["teacher", "auroc"] < 0.7  # the lists hardly differ
