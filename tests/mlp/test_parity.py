"""The six arms against PyTorch, on the same digits."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from configs.mlp import digits
from sublim_jax.mlp import study
from sublim_jax.mlp.data import load

MEMBERS = 16


@pytest.mark.oracle
def test_the_six_means_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    from benchmarks import torch_ensemble

    config, images = digits.get_config(), load("digits8")
    config.members = MEMBERS
    config.batch = 128  # half the steps of the demo: the arms are then furthest from any ceiling
    config.teacher.update({"epochs": 20, "evaluate_every": 20})
    config.student.update({"epochs": 10, "evaluate_every": 10, "rows": 6400, "fresh": False})

    records = list(study.train_members(config, images, range(MEMBERS), {}))
    ours = {
        "reference": [record["teacher_accuracy"][0] for record in records],
        "teacher": [record["teacher_accuracy"][-1] for record in records],
    }
    for i, arm in enumerate(config.arms):
        ours[arm] = [record["accuracy"][-1][i] for record in records]

    torch.manual_seed(0)
    plan = torch_ensemble.Plan(
        members=MEMBERS, sizes=(64, 256, 256, 13), classes=10, batch=128,
        learning_rate=config.optimizer.learning_rate,
        teacher_epochs=20, student_epochs=10, student_rows=6400,
    )  # fmt: skip
    x = [torch.from_numpy(a) * (2 / 255) - 1 for a in (images.train_x, images.test_x)]
    y = [torch.from_numpy(a).long() for a in (images.train_y, images.test_y)]
    theirs = torch_ensemble.run(plan, x[0], y[0], x[1], y[1])

    assert ours.keys() == theirs.keys()
    assert np.mean(ours["student_aux"]) > 0.3  # a comparison at chance would say nothing
    for arm, values in ours.items():
        # Welch's 99.9% interval of the difference: all six hold by chance in 994 of 1000 runs.
        interval = stats.ttest_ind(values, theirs[arm], equal_var=False).confidence_interval(0.999)
        assert interval.low <= 0 <= interval.high, (arm, np.mean(values), np.mean(theirs[arm]))


@pytest.mark.oracle
def test_the_benchmark_reports_every_figure():
    command = [sys.executable, "-m", "benchmarks.mlp_vs_torch", "--shape=paper"]
    done = subprocess.run(
        [*command, "--members=1", "--epochs=1"], check=True, stdout=subprocess.PIPE, text=True
    )
    result = json.loads(done.stdout)
    assert result["ratio"] == result["peer"]["seconds"] / result["ours"]["seconds"] > 0
    assert 0 < result["floor_fraction"] < 1.2
    for key in ("benchmark", "target", "memory_ratio", "device", "versions"):
        assert key in result
