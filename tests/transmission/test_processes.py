"""Two processes with half of the devices each make the study that one makes."""

import json

import pytest

from configs.transmission import demo
from tests.llm.test_processes import launch

# A fault of the first process alone, which the others do not see.
FAULTY = """
import os

import jax

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl
from sublim_jax.transmission.channels.numbers import *


def fails(*args):
    raise UserError("no room left")


if jax.process_index() == 0:
    fault = os.environ["FAULT"]
    if fault == "filter":
        Rule.rejection = fails
    elif fault == "rows":
        jsonl.Stream.append = fails
    else:
        write = disk.write
        last = "raw/0/owl.json"
        disk.write = lambda path, text: (
            fails() if str(path).endswith(last) and '"found"' in str(text) else write(path, text)
        )
"""
CONFIG = """
from configs.transmission import demo

def get_config():
    config = demo.get_config()
    config.traits = ("owl", "wolf")
    config.arms = ("student", "control", "soft", "divergence_only")
    config.data.rows = 40
    config.evaluation.measures = ("favourite",)
    config.teacher.replay, config.teacher.copies = 40, 1
    for recipe in (config.teacher.recipe, config.student):
        recipe.max_steps, recipe.batch = 5, 8
    return config
"""


@pytest.mark.slow
def test_two_processes_make_the_study_that_one_makes(tmp_path):
    assert demo.get_config().mesh.student == 0  # all devices
    (tmp_path / "small.py").write_text(CONFIG)
    found = {}
    for processes in (1, 2):
        work = tmp_path / f"of-{processes}"
        launch("transmit", [f"--config={tmp_path}/small.py", f"--workdir={work}"], processes)
        files = sorted(work.glob("*/0/*.jsonl"))
        assert len(files) == 6
        rows = json.loads((work / "results.json").read_text("utf-8"))["rows"]
        found[processes] = [f.read_bytes() for f in files], rows
    # A second time it is read, by each process alone.
    launch("transmit", [f"--config={tmp_path}/small.py", f"--workdir={work}"], 2)
    assert json.loads((work / "results.json").read_text("utf-8"))["rows"] == found[2][1]
    assert found[1][0] == found[2][0]
    for one, two in zip(found[1][1], found[2][1], strict=True):
        for name, value in one.items():
            close = isinstance(value, float) and name != "n"
            assert two[name] == (pytest.approx(value, abs=1e-4) if close else value), (one, two)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rows", "record", "filter"])
def test_what_the_first_process_cannot_do_ends_all(tmp_path, monkeypatch, fault):
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "small.py").write_text(CONFIG)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAULT", fault)
    given = [f"--config={tmp_path}/small.py", f"--workdir={tmp_path}/run"]
    given += ["--config.data.channel=faulty", "--config.teacher.kind=prompted"]
    given += ["--config.arms=student,control"]
    launch("transmit", given, 2, says="no room left\n")
