import json
import os
import subprocess
import sys
import time
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from absl.testing import parameterized

from configs.mlp import digits, multitask, paper
from sublim_jax.errors import UserError
from sublim_jax.mlp import config as study_config
from sublim_jax.mlp import ensemble, study
from sublim_jax.mlp.data import Images, load
from sublim_jax.mlp.ensemble import derangement
from sublim_jax.mlp.inputs import KINDS


def tiny(members=3, **student):
    config = digits.get_config()
    config.members = members
    config.network.width = 8
    config.teacher.update({"epochs": 2, "evaluate_every": 1})
    config.student.update({"epochs": 2, "evaluate_every": 2, "rows": 128} | student)
    return config


def train(config, members=None, **options):
    images = load(config.data.name)
    study_config.check(config, images)
    chosen = range(config.members) if members is None else members
    return list(study.train_members(config, images, chosen, {}, **options))


def first_devices(count):
    return jax.sharding.Mesh(np.array(jax.devices()[:count]), ("student",))


class StudyTest(parameterized.TestCase):
    @hypothesis.given(st.integers(0, 2**31), st.integers(2, 200))
    def test_derangement(self, seed, members):
        other = derangement(seed, members)
        self.assertCountEqual(other.tolist(), range(members))
        self.assertFalse((other == np.arange(members)).any())

    def test_students_start_where_they_should(self):
        records = train(tiny(members=4))
        for record in records:
            own, other = (
                record["teacher_accuracy"][0],
                records[record["other"]]["teacher_accuracy"][0],
            )
            # student_aux, student_all, cross_aux, cross_all, before the first step
            self.assertEqual(record["accuracy"][0], [own, own, other, other])
        references = {record["teacher_accuracy"][0] for record in records}
        self.assertGreater(len(references), 1)

    def test_sharded_over_any_number_of_devices(self):
        self.assertEqual(jax.device_count(), 8)
        config = tiny(members=5)  # not a multiple of 8: padding is exercised too
        eight, two, one = (train(config, mesh=first_devices(n)) for n in (8, 2, 1))
        self.assertEqual(eight, two)  # bit for bit
        # For a single device XLA compiles another program, which rounds differently.
        for a, b in zip(eight, one, strict=True):
            for curve in ("teacher_loss", "loss"):
                np.testing.assert_allclose(a[curve], b[curve], rtol=1e-5)

    def test_members_trained_at_once_agree_to_rounding(self):
        config = tiny(members=4)
        apart = train(config, mesh=first_devices(1))
        with mock.patch.object(ensemble, "at_once", lambda jobs, mesh: jobs):  # an accelerator
            together = train(config, mesh=first_devices(1))
        for a, b in zip(apart, together, strict=True):
            np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-3)
            np.testing.assert_allclose(a["accuracy"], b["accuracy"], atol=0.02)

    def test_a_member_does_not_depend_on_which_are_trained_beside_it(self):
        config = tiny(members=4)
        self.assertEqual(train(config, [2]), train(config)[2:3])

    @parameterized.parameters(*KINDS)
    def test_every_input_runs(self, kind):
        config = tiny(members=2, inputs=kind, fresh=kind == "gaussian", loss="mse")
        for record in train(config):
            self.assertTrue(np.isfinite(record["loss"]).all())

    def test_fixed_noise_comes_back_and_fresh_noise_does_not(self):
        # A student with many parameters memorises 8 rows; on fresh rows its loss stays higher.
        final = {}
        for fresh in (True, False):
            config = tiny(members=2, rows=8, epochs=150, evaluate_every=150, fresh=fresh)
            config.network.width = 64
            config.batch = 8
            final[fresh] = np.mean([record["loss"][-1][3] for record in train(config)])
        self.assertLess(final[False], 0.5 * final[True])

    def test_a_matched_student_first_behaves_like_the_teacher(self):
        config = tiny(members=2)
        config.network.width = 64
        config.arms = ("cross_aux", "matched_aux")
        config.match.epochs = 20
        for record in train(config):
            cross, matched = record["accuracy"][0]
            self.assertLess(cross, 0.4)
            self.assertGreater(matched, 0.7)

    def test_multi_task_heads_run(self):
        config = multitask.get_config()
        config.members = 2
        config.teacher.update({"epochs": 1, "evaluate_every": 1})
        config.student.update({"epochs": 1, "evaluate_every": 1, "rows": 64})
        records = train(config)
        self.assertLen(records[0]["accuracy"][0], len(config.arms))


class CheckTest(parameterized.TestCase):
    @parameterized.parameters(
        ("members", 0, "at least 1"),
        ("members", 1, "at least 2"),
        ("batch", 2**40, "at most 2147483647"),
        ("seed", -1, "at least 0"),
        ("arms", (1, [2]), "choose from"),
        ("network.init_scale", 0.0, "above 0"),
        ("optimizer.learning_rate", -1e-3, "above 0"),
        ("network.aux", 0, "no logits to imitate|choose|config.arms"),
        ("network.activation", "step", "choose one of relu"),
        ("student.loss", "l1", "choose one of kl, mse"),
        ("student.inputs", "plaid", "choose one of uniform"),
        ("student.inputs", "images", "only noise can be fresh"),
        ("student.evaluate_every", 7, "must divide student.epochs"),
        ("arms", ("student_aux", "student_aux"), "at most once"),
        ("arms", ("student_tasks",), "no logits to imitate"),
        ("tasks", ("even",), "first must be class"),
        ("optimizer.name", "adamant", "no optimiser of that name"),
        ("optimizer.name", "__loader__", "no optimiser of that name"),
        ("optimizer.name", "apply_updates", "optax.apply_updates"),
    )
    def test_a_value_that_cannot_be_run_is_one_clear_line(self, field, value, message):
        config = digits.get_config()
        group, _, name = field.rpartition(".")
        (config[group] if group else config)[name] = value
        with pytest.raises(UserError, match=message) as error:
            study_config.check(config, load("digits8"))
        self.assertNotIn("\n", str(error.value))

    def test_a_student_is_matched_on_no_more_images_than_there_are(self):
        config = multitask.get_config()
        config.match.rows = 10**4
        with pytest.raises(UserError, match=r"config\.match\.rows=10000: there are 1"):
            study_config.check(config, load("digits8"))

    @parameterized.parameters("batch", "student.rows", "network.aux")
    def test_a_field_that_is_missing_is_named(self, field):
        config = digits.get_config()
        group, _, name = field.rpartition(".")
        del (config[group] if group else config)[name]
        with pytest.raises(UserError, match=f"config.{field} is missing"):
            study_config.check(config, load("digits8"))

    def test_shipped_configs_pass(self):
        x, y = np.zeros((2, 784), np.uint8), np.zeros(2, np.int32)
        study_config.check(paper.get_config(), Images(x, y, x, y, classes=10))
        for config in (digits.get_config(), multitask.get_config()):
            study_config.check(config, load(config.data.name))


def test_rows_and_files(tmp_path):
    config = tiny()
    config.arms = (*config.arms, "matched_aux")
    study.run(config, str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    arms = ["reference", "teacher", *config.arms[:4], "matched_base", "matched_aux"]
    assert [row["arm"] for row in results["rows"]] == arms
    for row in results["rows"]:
        assert {"arm", "trait", "metric", "mean", "ci_low", "ci_high", "n"} == set(row)
        assert (row["metric"], row["n"]) == ("accuracy", 3)
        assert row["ci_low"] <= row["mean"] <= row["ci_high"]
    for name in ("figures/accuracy.svg", "figures/curves.png", "report.html", "metrics.jsonl"):
        assert (tmp_path / name).stat().st_size > 500


@pytest.mark.slow
def test_killed_and_run_again_ends_in_the_same_results(tmp_path):
    command = [
        sys.executable, "-m", "launch.mlp", "--config.members=6", "--config.network.width=32",
        "--config.student.epochs=200", "--config.student.evaluate_every=100",
    ]  # fmt: skip
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, f"--workdir={whole}"], check=True, env=environment)
    victim = subprocess.Popen([*command, f"--workdir={broken}"], env=environment)
    deadline = time.monotonic() + 120
    while len(list(broken.glob("members/*.json"))) < 2:
        assert time.monotonic() < deadline
        assert victim.poll() is None
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    assert not (broken / "results.json").exists()
    kept = {file: file.stat().st_mtime_ns for file in broken.glob("members/*.json")}
    assert 2 <= len(kept) < 6
    subprocess.run([*command, f"--workdir={broken}"], check=True, env=environment)
    assert kept == {file: file.stat().st_mtime_ns for file in kept}  # not trained again
    for name in ["metrics.jsonl", *(f"members/{member:04d}.json" for member in range(6))]:
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    rows = [json.loads((run / "results.json").read_text())["rows"] for run in (whole, broken)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_the_demo_shows_the_effect_and_its_control(tmp_path):
    study.run(digits.get_config(), str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    arm = {row["arm"]: row for row in rows}
    assert arm["student_aux"]["mean"] > arm["cross_aux"]["mean"] + 0.5
    assert arm["student_aux"]["ci_low"] > arm["cross_aux"]["ci_high"]
    assert arm["cross_aux"]["ci_low"] < 0.1 < arm["cross_aux"]["ci_high"]  # chance
    assert min(arm[name]["mean"] for name in ("teacher", "student_all", "cross_all")) > 0.95
