"""The command that measures on a GPU: how it runs its parts, and what it does without a GPU."""

import functools
import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import processes, stand_in, table
from tests import fake_measure

ROOT = Path(__file__).parents[1]
CONFIGS = ["atlas.quick", "mlp.paper", "transmission.nano", "transmission.demo", "llm.student_7b"]


def side(name, limit=60.0):
    return processes.Side("tests.fake_measure", name, limit, {"JAX_PLATFORMS": "cpu"})


def test_what_fails_is_recorded_and_the_rest_goes_on(tmp_path):
    file = processes.run(side("broken"), tmp_path, "real")
    parts = json.loads(file.read_text("utf-8"))["parts"]
    assert parts["raises"]["error"][-1] == "ZeroDivisionError: division by zero"
    assert parts["dies"] == {"error": ["the process ended in this part"]}
    assert parts["process"]["error"][-1] == "ended with status 3"
    assert parts["after"]["rate"] == 2.0
    failed, lacking = table.failures([file])
    assert (len(failed), lacking) == (3, [])
    text = table.markdown(fake_measure.figures(table.Found(tmp_path, "fake_measure")))
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()[2:]]
    assert cells == [["", "ours", "not run", ">= 1", ""], ["", "broken", "2", ">= 1", ""]]


@pytest.mark.slow  # waits for the limit
def test_what_takes_too_long_is_ended(tmp_path):
    parts = json.loads(processes.run(side("long", 5.0), tmp_path, "real").read_text("utf-8"))[
        "parts"
    ]
    assert parts["process"]["error"][-1] == "stopped after 5 s"


def test_without_time_nothing_is_started(tmp_path):
    file = processes.run(side("ours"), tmp_path, "real", end=0.0)
    assert json.loads(file.read_text("utf-8"))["parts"] == {
        "process": {"error": ["no time was left for it"]}
    }


def test_without_a_gpu_programs_are_lowered_parts_tried_and_no_figure_is_given(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    monkeypatch.setattr(gpu, "MEASURES", {"fake_measure": fake_measure})
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["gpu"])
    with flagsaver.flagsaver(out=str(tmp_path), only=[]):
        gpu.main([])
    for platform in ("cuda", "tpu"):
        lowered = json.loads((tmp_path / f"lowered/fake_measure_{platform}.json").read_text())
        assert lowered["parts"]["good"]["programs"] == {"one": 1}
    tried = json.loads((tmp_path / "tiny/fake_measure_ours.json").read_text())
    assert tried["parts"]["good"]["tiny"] is True
    lines = (tmp_path / "table.md").read_text().splitlines()[2:]
    assert len(lines) == 2
    assert all("| not run " in line for line in lines)
    said = capsys.readouterr().out
    assert "fake_measure_ours, lacks: no_such_package is not installed" in said
    assert "0 parts failed" in said


def test_the_stand_in_reads_configs_as_ml_collections_does(monkeypatch):
    def read():
        for name in [*sys.modules]:
            if name.startswith("configs."):
                monkeypatch.delitem(sys.modules, name)
        modules = (importlib.import_module(f"configs.{name}") for name in CONFIGS)
        return [module.get_config() for module in modules]

    known = read()
    module = types.ModuleType("ml_collections")
    module.ConfigDict = stand_in.ConfigDict
    module.config_dict = types.SimpleNamespace(placeholder=lambda kind: None)
    monkeypatch.setitem(sys.modules, "ml_collections", module)
    found = read()
    assert [config.to_dict() for config in found] == [config.to_dict() for config in known]
    assert type(found[0].sweeps.aux.lines) is stand_in.ConfigDict
    assert found[0].sweeps.aux["values"] == found[0].sweeps.aux.values == (1, 3, 10)
    found[0].update({"cell": {"width": 5}})
    assert found[0].cell.width == 5
    assert found[0].cell.steps == known[0].cell.steps
    with pytest.raises(AttributeError):
        _ = found[0].nothing


def test_what_is_measured_needs_few_packages():
    program = """
import sys
lacking = ("ml_collections", "gguf", "datasets", "tensorboardX", "chex")
sys.modules.update(dict.fromkeys(lacking))  # as if they were not installed
from benchmarks.gpu import stand_in
stand_in.install()
import benchmarks.gpu.__main__, benchmarks.mlp_vs_torch
import sublim_jax.atlas.atlas, sublim_jax.transmission.pipeline
import sublim_jax.transmission.measures.favourite
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_whole_command_without_a_gpu(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", f"--out={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    read = functools.partial(Path.read_text, encoding="utf-8")
    for platform in ("cuda", "tpu"):
        files = [*tmp_path.glob(f"lowered/*_{platform}.json")]
        assert len(files) == len(gpu.MEASURES)
        for file in files:
            assert all(part["programs"] for part in json.loads(read(file))["parts"].values())
    lines = read(tmp_path / "table.md").splitlines()[2:]
    assert all("| not run " in line for line in lines)
