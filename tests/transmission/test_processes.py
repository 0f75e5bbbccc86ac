"""Two processes with half of the devices each make the study that one makes."""

import json

import pytest

from configs.transmission import demo
from tests.llm.test_processes import launch

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
