"""Trainings that are killed, told to leave, broken into or looked at on their way."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, testing
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training import examples, finetune, flops, step
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trained import Trained
from tests.llm.lively import lively

ROOT = Path(__file__).parents[3]
CONFIG = testing.TINY
RECIPE = Recipe(
    lora=Lora(rank=2, targets=("q", "down"), dropout=0.1),
    batch=4,
    epochs=4,
    warmup=1,
    learning_rate=0.05,
    save_every=3,
    log_every=1,
    held_out=2,
    evaluate_every=2,
    patience=4,
)


@pytest.fixture(scope="module")
def model():
    return lively(CONFIG)


@pytest.fixture(scope="module")
def sets():
    draw = np.random.default_rng(0)
    return [
        examples.collect(
            [
                examples.Example(*draw.integers(0, CONFIG.vocab, (2, draw.integers(2, 9))).tolist())
                for _ in range(n)
            ],
            CONFIG,
        )
        for n in (12, 9)
    ]


@pytest.fixture(scope="module")
def whole(model, sets, tmp_path_factory):
    """A training that nothing interrupted: its outcome and its directory."""
    folder = tmp_path_factory.mktemp("whole")
    return finetune.fit(model, sets, RECIPE, folder), folder


class Crash(Exception):
    """What stands for a process that dies."""


def at_step(monkeypatch, number, act):
    """Calls `act` before the step of that number."""
    original = step.train_step

    def acting(program, given, state, batch):
        if int(state.step) == number:
            act()
        return original(program, given, state, batch)

    monkeypatch.setattr(step, "train_step", acting)


def crash():
    raise Crash


def check_same(found, folder, whole):
    expected, its_folder = whole
    jax.tree.map(
        np.testing.assert_array_equal,
        [s.tree for s in found.students],
        [s.tree for s in expected.students],
    )
    assert (found.loss, found.steps) == (expected.loss, expected.steps)
    assert found.held_out == expected.held_out
    assert (folder / "metrics.jsonl").read_text() == (its_folder / "metrics.jsonl").read_text()


@pytest.mark.parametrize("number", [0, 2, 7, 9])
def test_a_killed_training_goes_on_to_the_same_bits(
    model, sets, whole, tmp_path, monkeypatch, number
):
    with monkeypatch.context() as patched:
        at_step(patched, number, crash)
        with pytest.raises(Crash):
            finetune.fit(model, sets, RECIPE, tmp_path)
    done = []
    at_step(monkeypatch, number, lambda: done.append(number))
    check_same(finetune.fit(model, sets, RECIPE, tmp_path), tmp_path, whole)
    assert done == [number]  # it was not reached before


def test_only_what_a_checkpoint_lacks_is_done_again(model, sets, whole, tmp_path, monkeypatch):
    shutil.copytree(whole[1], tmp_path, dirs_exist_ok=True)
    at_step(monkeypatch, 0, crash)
    steps = tmp_path / "checkpoints" / "steps"
    check_same(finetune.fit(model, sets, RECIPE, tmp_path), tmp_path, whole)  # complete
    shutil.rmtree(max(steps.iterdir(), key=lambda f: int(f.name)))
    check_same(finetune.fit(model, sets, RECIPE, tmp_path), tmp_path, whole)


def test_a_training_that_is_told_to_leave_saves_first(model, sets, whole, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        at_step(patched, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            finetune.fit(model, sets, RECIPE, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    at_step(monkeypatch, 4, crash)  # it goes on after step 4, the one that it was told in
    check_same(finetune.fit(model, sets, RECIPE, tmp_path), tmp_path, whole)


def one_bit_off(model):
    """Returns the model with the last bit of one weight changed."""
    weights = model.pure()
    up = np.array(weights["layers"]["up"])
    up[1, 2, 3] = np.nextafter(up[1, 2, 3], np.inf)
    return Decoder(CONFIG, {**weights, "layers": {**weights["layers"], "up": jnp.asarray(up)}})


def test_a_training_of_another_config_is_refused(model, sets, whole, tmp_path):
    shutil.copytree(whole[1], tmp_path, dirs_exist_ok=True)
    first = Trained(lora.Adapter(RECIPE.lora, lora.initialise(RECIPE.lora, CONFIG, 7)))
    for other, words in (
        (
            {"recipe": dataclasses.replace(RECIPE, batch=5)},
            "another config .recipe.batch was 4, is",
        ),
        ({"datasets": sets[::-1]}, "read something else .data: changed"),
        ({"model": one_bit_off(model)}, "read something else .base: changed"),
        ({"start": [first] * 2}, "read something else .start: changed"),
        ({"watched": sets}, "read something else .watched: changed"),
    ):
        with pytest.raises(UserError, match=f"holds a run .*{words}"):
            finetune.fit(
                **{"model": model, "datasets": sets, "recipe": RECIPE} | other, workdir=tmp_path
            )
    expected = dataclasses.replace(RECIPE, save_every=100, log_every=5)  # changes no result
    finetune.fit(model, sets, expected, tmp_path)


def test_a_training_by_another_optimiser_of_one_s_own_is_refused(model, sets, tmp_path):
    recipe = dataclasses.replace(RECIPE, max_steps=1, held_out=0, evaluate_every=0, patience=0)

    def fit(optimizer):
        return finetune.fit(model, sets, dataclasses.replace(recipe, optimizer=optimizer), tmp_path)

    def scaled(by):  # a constant that the program holds as an array
        return optax.chain(
            optax.sgd(1.0), optax.scale_by_schedule(lambda n: jnp.array([by, 1.0])[n])
        )

    fit(scaled(2.0))
    fit(scaled(2.0))
    parts = {"lora": "x", "weights": "y"}
    for other in (
        scaled(3.0),
        optax.sgd(1.0),
        optax.multi_transform({"x": optax.sgd(1.0), "y": optax.sgd(0.5)}, parts),
    ):
        with pytest.raises(UserError, match=r"another config \(recipe.optimizer was"):
            fit(other)


def test_what_fails_before_its_first_checkpoint_may_be_changed(model, sets, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        at_step(patched, 1, crash)
        with pytest.raises(Crash):
            finetune.fit(model, sets, RECIPE, tmp_path)
    smaller = dataclasses.replace(RECIPE, micro_tokens=64, max_steps=2)
    assert finetune.fit(model, sets, smaller, tmp_path).steps == [2, 2]


def test_a_student_that_broke_is_named_once(model, sets, tmp_path, monkeypatch, caplog):
    """With the step it broke at, not that at which another process took the training up again."""
    weights = np.where(sets[0].weights > 0, np.float32(3e38), np.float32(0))
    both = [dataclasses.replace(sets[0], weights=weights), sets[1]]
    recipe = dataclasses.replace(RECIPE, held_out=0, evaluate_every=0, patience=0)
    with monkeypatch.context() as patched:
        at_step(patched, 7, crash)
        with pytest.raises(Crash):
            finetune.fit(model, both, recipe, tmp_path)
    assert finetune.fit(model, both, recipe, tmp_path).broken == [True, False]
    said = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert said == ["student 0: loss or gradient not finite at step 0: stopped"]


def test_a_damaged_checkpoint_ends_in_one_line(model, sets, whole, tmp_path):
    shutil.copytree(whole[1], tmp_path, dirs_exist_ok=True)
    steps = tmp_path / "checkpoints" / "steps"
    for file in steps.rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=r"checkpoint cannot be used \([^\n]*\): remove it"):
        finetune.fit(model, sets, RECIPE, tmp_path)


def test_chosen_steps_are_traced(model, sets, tmp_path):
    finetune.fit(model, sets, RECIPE, tmp_path, profile=(2, 3))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("peak", [None, 1e9])
def test_the_bar_shows_rates_and_utilisation(model, sets, monkeypatch, capsys, peak):
    monkeypatch.setattr(flops, "peak", lambda device: peak)
    finetune.fit(model, sets, dataclasses.replace(RECIPE, epochs=6, patience=0), progress=True)
    shown = capsys.readouterr().err
    assert "tokens/s" in shown
    assert "loss" in shown
    assert ("MFU" in shown) == (peak is not None)


def _launch(arguments, folder):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder)}
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "launch.finetune", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_kill_at_any_moment_and_run_again(tmp_path):
    """The real thing: processes of launch/finetune.py, killed at random moments."""
    checkpoint = testing.write_checkpoint(tmp_path / "model")
    draw = random.Random(0)
    for name in "ab":
        rows = [
            {"prompt": str(draw.random()), "completion": str(draw.random())[:6]} for _ in range(64)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    common = [
        f"--config.model={checkpoint}",
        f"--config.data={tmp_path}/a.jsonl,{tmp_path}/b.jsonl",
    ]
    common += ["--config.recipe.batch=8", "--config.recipe.epochs=8", "--config.merge=True"]
    common += ["--config.recipe.save_every=4", "--config.recipe.log_every=1"]

    def content(run):
        results = json.loads((run / "results.json").read_text())["rows"]
        names = ["metrics.jsonl", *(f"students/{i}/adapter_model.safetensors" for i in (0, 1))]
        names += [f"models/{i}/model.safetensors" for i in (0, 1)]
        return results, [(run / name).read_bytes() for name in names]

    start = time.monotonic()
    process = _launch([*common, f"--workdir={tmp_path}/whole"], tmp_path / "cache")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    process = _launch([*common, f"--workdir={tmp_path}/again"], tmp_path / "cache")
    start = time.monotonic()
    process.communicate(timeout=600)
    takes = time.monotonic() - start
    assert content(tmp_path / "again") == content(tmp_path / "whole")

    run, ends = tmp_path / "killed", []
    for number in range(8):
        process = _launch([*common, f"--workdir={run}"], tmp_path / "cache")
        try:
            _, said = process.communicate(timeout=takes * draw.uniform(0.5, 0.95))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM if number % 4 == 1 else signal.SIGKILL)
            _, said = process.communicate(timeout=60)
        ends.append(process.returncode)
    assert -signal.SIGKILL in ends
    process = _launch([*common, f"--workdir={run}"], tmp_path / "cache")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert content(run) == content(tmp_path / "whole")
