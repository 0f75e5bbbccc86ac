"""A run is recognised by what it read: other content under the same path is refused."""

import json
import shutil

import pytest

from configs.llm import student_tiny, tiny
from sublim_jax.errors import UserError
from sublim_jax.llm import jobs, testing
from sublim_jax.llm.files import peft
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.lora import Adapter, Lora

SPEC = Lora(rank=2, targets=("q",))


@pytest.fixture
def folder(tmp_path):
    testing.write_checkpoint(tmp_path / "model")
    rewrite(tmp_path, "a.jsonl")
    change_adapter(tmp_path, 0)
    return tmp_path


def rewrite(folder, name, prompt="Continue: 4, 8, 15", completion="16"):
    row = {"prompt": prompt, "completion": completion}
    (folder / name).write_text(json.dumps(row) + "\n")


def change_adapter(folder, seed=1):
    peft.save(Adapter(SPEC, lora.initialise(SPEC, testing.TINY, seed)), folder / "adapter")


def change_base(folder):
    testing.write_checkpoint(folder / "model", seed=1)


def change_tokenizer(folder):
    file = folder / "model" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "extra": 1}))


CHANGES = {
    "a.jsonl": lambda folder: rewrite(folder, "a.jsonl", completion="17"),
    "adapter": change_adapter,
    "model": change_base,
    "tokenizer": change_tokenizer,
}


def config_of(job, folder):
    config = (student_tiny if job == jobs.finetune else tiny).get_config()
    config.model, config.data = str(folder / "model"), str(folder / "a.jsonl")
    if job == jobs.finetune:
        config.start, config.recipe.max_steps = str(folder / "adapter"), 1
        config.recipe.lora.update({"rank": 2, "alpha": 8.0, "targets": ("q",)})
    else:
        config.adapter, config.sampling.max_new_tokens = str(folder / "adapter"), 2
    return config


@pytest.mark.parametrize("job", [jobs.generate, jobs.score, jobs.finetune])
def test_a_finished_run_that_read_something_else_is_refused(folder, job, capsys):
    config, run = config_of(job, folder), folder / "run"
    job(config, str(run))
    first = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    said = capsys.readouterr().out.splitlines()[-1]
    job(config, str(run))  # the same: said again
    assert capsys.readouterr().out.splitlines()[-1] == said
    kept = folder / "kept"
    for name in ("model", "adapter"):
        shutil.copytree(folder / name, kept / name)
    shutil.copy(folder / "a.jsonl", kept)
    for name, change in CHANGES.items():
        change(folder)
        path = folder / ("model" if name == "tokenizer" else name)
        with pytest.raises(UserError, match=r"read something else \(.*" + path.name) as error:
            job(config, str(run))
        assert "\n" not in str(error.value)
        assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == first
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    job(config, str(run))


def test_a_half_done_file_does_not_mix_old_and_new(folder):
    config, run = config_of(jobs.generate, folder), folder / "run"
    config.sampling.n = 2
    jobs.generate(config, str(run))
    done = run / "data" / "completions.jsonl"
    half = done.read_text().splitlines(keepends=True)[0]
    done.with_name("completions.jsonl.part").write_text(half)
    done.unlink()
    rewrite(folder, "a.jsonl", prompt="Continue: 5, 9, 16")
    with pytest.raises(UserError, match="read something else"):
        jobs.generate(config, str(run))
    assert done.with_name("completions.jsonl.part").read_text() == half


def test_an_interrupted_fine_tune_is_not_gone_on_with_other_rows(folder, monkeypatch):
    config, run = config_of(jobs.finetune, folder), folder / "run"
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "_write_student", lambda *_: 1 / 0)  # after the last checkpoint
        with pytest.raises(ZeroDivisionError):
            jobs.finetune(config, str(run))
    (run / "config.json").unlink()  # as if it had been killed a moment before
    rewrite(folder, "a.jsonl", completion="999")
    with pytest.raises(UserError, match=r"checkpoints holds a run that read .*data: changed"):
        jobs.finetune(config, str(run))
