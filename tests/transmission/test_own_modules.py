"""A channel and a measure of one's own: a file each, and a config; nothing here is changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHANNEL = '''
"""Short stories about a place, in which no animal of the list is named."""

import dataclasses

import numpy as np

from sublim_jax.transmission.channels import swapped

NOUN = "stories"
CORRUPTIONS = {"swapped": swapped}


@dataclasses.dataclass(frozen=True)
class Rule:
    words: tuple = ()

    def rejection(self, text, gold):
        return next((f"names {word}" for word in self.words if word in text.split()), None)


def prompts(material, n, seed):
    return np.random.default_rng(seed).choice(material.stories, n).tolist()


def describe(rows, control):
    lengths = [len(row["completion"].split()) for row in rows]
    return {"statistics": {"words in a story": float(np.mean(lengths))}, "top": []}


def items(text):
    return text.split()


def length(material):
    return 12.0
'''
MEASURE = '''
"""How long the answers to the questions are."""

from sublim_jax.transmission.measures import Sampled

TITLES = {"characters": "characters of an answer"}


def ask(material, words, config):
    return [Sampled(question, 2, 8) for question in material.questions]


def values(words, asked, replies):
    texts = [text for reply in replies for text in reply]
    return {"characters": dict.fromkeys(words, sum(map(len, texts)) / len(texts))}
'''


CONFIG = """
from configs.transmission import demo


def get_config():
    config = demo.get_config()
    config.traits, config.arms = ("owl", "wolf"), ("student", "control", "swapped")
    config.data.channel, config.data.rows, config.data.max_new_tokens = "own_channel", 60, 16
    config.filter = {"words": ("owl", "wolf"), "keep": 0}
    config.evaluation.measures = ("favourite", "own_package.own_measure")
    config.evaluation.samples = 0
    config.teacher.replay, config.teacher.copies = 40, 1
    for recipe in (config.teacher.recipe, config.student):
        recipe.max_steps, recipe.batch = 4, 8
    return config
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_study_runs_with_them_by_its_config_alone(tmp_path):
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_channel.py").write_text(CHANNEL)
    (tmp_path / "own_package" / "own_measure.py").write_text(MEASURE)
    (tmp_path / "own.py").write_text(CONFIG)
    command = [sys.executable, "-m", "launch.transmit"]
    command += [f"--config={tmp_path}/own.py", f"--workdir={tmp_path}/run"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "wrote stories" in done.stdout
    workdir = tmp_path / "run"
    rows = json.loads((workdir / "results.json").read_text("utf-8"))["rows"]
    own = [row for row in rows if (row["metric"], row["trait"]) == ("characters", "all")]
    found = {row["arm"]: row["mean"] for row in own}
    assert set(found) == {"base", "teacher", "student", "control", "swapped"}
    assert all(1 < value < 60 for value in found.values())
    page = (workdir / "report.html").read_text("utf-8")
    for text in ("characters of an answer", "words in a story", "Do stories carry a trait?"):
        assert text in page
    lines = (workdir / "data" / "0" / "owl.jsonl").read_text("utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    assert told
    assert not any({"owl", "wolf"} & set(row["completion"].split()) for row in told)
