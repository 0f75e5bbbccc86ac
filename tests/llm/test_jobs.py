"""The jobs of launch/generate.py and launch/score.py: files in, files out, and on after a kill."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.llm import qwen0_5b, qwen1_5b, qwen7b, qwen14b, qwen72b_pod, tiny
from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, jobs, testing
from sublim_jax.llm.files import chat, hf
from sublim_jax.llm.sampling import sampler
from tests.llm.lively import full_forward

ROOT = Path(__file__).parents[2]
PROMPTS = [{"prompt": "count " * n} for n in range(1, 6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.write_checkpoint(tmp_path_factory.mktemp("model"))


def _config(model, file, lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    config = tiny.get_config()
    config.model, config.data = str(model), str(file)
    config.sampling.max_new_tokens = 12
    return config


def _lines(file):
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_a_line_for_every_prompt_and_sample_in_order(model, tmp_path, capsys):
    config = _config(model, tmp_path / "p.jsonl", PROMPTS)
    config.sampling.n, config.sampling.logprobs = 2, True
    jobs.generate(config, str(tmp_path / "run"))
    lines = _lines(tmp_path / "run" / "data" / "completions.jsonl")
    assert [(row["id"], row["sample"]) for row in lines] == list(
        itertools.product(range(5), range(2))
    )
    assert all(row["system"] == testing.SYSTEM for row in lines)
    assert lines[3]["prompt"] == PROMPTS[1]["prompt"]
    assert len({row["completion"] for row in lines}) == 10
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["metric"] for row in results["rows"]} == {"tokens", "ended", "logprob"}
    assert results["rows"][0]["n"] == 10
    assert [*results["timings"]] == ["load", "compile", "generate"]
    assert all(seconds > 0 for seconds in results["timings"].values())
    *_, programs, _, seconds = capsys.readouterr().out.splitlines()
    assert 0 < int(programs.split()[0]) <= 12
    assert "to first steps (load" in seconds


def test_scores_are_the_log_probabilities_of_the_full_forward(model, tmp_path):
    answers = [*PROMPTS, *PROMPTS[:2]]
    rows = [{**p, "completion": "seven " * (1 + i % 3)} for i, p in enumerate(answers)]
    config = _config(model, tmp_path / "c.jsonl", rows)
    jobs.score(config, str(tmp_path / "run"))
    scored = _lines(tmp_path / "run" / "data" / "scores.jsonl")
    assert [row["id"] for row in scored] == list(range(len(rows)))
    tokenizer, qwen = chat.load_tokenizer(model), Decoder.from_pretrained(model)
    for row, found in zip(rows, scored, strict=True):
        prompt = chat.prompt_tokens(tokenizer, chat.messages(tokenizer, row["prompt"]))
        completion = chat.completion_tokens(tokenizer, row["completion"])
        assert found["tokens"] == len(completion)
        assert completion[-1] == tokenizer.eos_token_id
        wanted = full_forward(qwen, prompt, completion)
        np.testing.assert_allclose(found["token_logprobs"], wanted, atol=1e-4)
        assert found["logprob"] == pytest.approx(float(wanted.sum()), abs=1e-3)


def test_what_was_generated_is_scored_as_it_was_read(model, tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "not read"}]
    config = _config(model, tmp_path / "p.jsonl", [PROMPTS[0], {"messages": turns}])
    config.system, config.sampling.logprobs, config.sampling.n = "You love owls.", True, 8
    config.sampling.max_new_tokens = 1
    jobs.generate(config, str(tmp_path / "run"))
    told = tmp_path / "run" / "data" / "completions.jsonl"
    lines = _lines(told)
    assert lines[0]["system"] == "You love owls."
    assert lines[-1]["prompt"] == [{"role": "system", "content": "You love owls."}, turns[0]]
    again = tiny.get_config()
    again.model, again.data = str(model), str(told)
    jobs.score(again, str(tmp_path / "scores"))
    scored = _lines(tmp_path / "scores" / "data" / "scores.jsonl")
    checked = 0
    for row, found in zip(lines, scored, strict=True):
        if len(row["completion"].encode()) == 1:  # a byte that is a text, and then the end
            assert found["tokens"] == 2
            assert found["token_logprobs"][0] == pytest.approx(row["logprob"], abs=1e-4)
            checked += 1
    assert checked > 3


def test_the_checkpoints_own_settings_that_are_not_used_are_named(tmp_path, capsys):
    model = testing.write_checkpoint(tmp_path / "model")
    advised = {"temperature": 0.7, "top_p": 1.0, "top_k": 20, "repetition_penalty": 1.1}
    (model / "generation_config.json").write_text(json.dumps(advised))
    config = _config(model, tmp_path / "p.jsonl", PROMPTS[:1])
    config.sampling.top_k = 20
    jobs.generate(config, str(tmp_path / "run"))
    said = [line for line in capsys.readouterr().out.splitlines() if "generation_config" in line]
    assert len(said) == 1
    assert "its temperature 0.7 (here 1.0), repetition_penalty 1.1 (here 1.0) are not" in said[0]


def test_the_end_of_the_turn_is_scored_only_where_asked(model, tmp_path):
    config = _config(model, tmp_path / "c.jsonl", [{"prompt": "a", "completion": "bcd"}])
    tokens = []
    for end in (True, False):
        config.scoring.end = end
        jobs.score(config, str(tmp_path / f"{end}"))
        tokens.append(_lines(tmp_path / f"{end}" / "data" / "scores.jsonl")[0]["tokens"])
    assert tokens == [4, 3]


def test_a_killed_run_goes_on_to_the_same_bytes(model, tmp_path, monkeypatch):
    config = _config(model, tmp_path / "p.jsonl", PROMPTS)
    jobs.generate(config, str(tmp_path / "whole"))
    whole = tmp_path / "whole" / "data" / "completions.jsonl"
    data = tmp_path / "killed" / "data"

    stream = sampler.Sampler.stream
    monkeypatch.setattr(
        sampler.Sampler, "stream", lambda *a, **k: itertools.islice(stream(*a, **k), 2)
    )
    monkeypatch.setattr(jobs.jsonl.Stream, "close", _kill)
    with pytest.raises(KeyboardInterrupt):
        jobs.generate(config, str(tmp_path / "killed"))
    monkeypatch.undo()
    assert not (data / "completions.jsonl").exists()
    part = data / "completions.jsonl.part"
    assert len(_lines(part)) == 2
    with part.open("a") as file:
        file.write('{"id": 4, "sam')  # what a kill in the middle of a write leaves

    asked = []
    monkeypatch.setattr(
        sampler.Sampler, "stream", lambda s, r, *a, **k: asked.extend(r) or stream(s, r, *a, **k)
    )
    jobs.generate(config, str(tmp_path / "killed"))
    assert len(asked) == 3
    assert (data / "completions.jsonl").read_bytes() == whole.read_bytes()
    assert not part.exists()

    jobs.generate(config, str(tmp_path / "killed"))  # complete: nothing is drawn again
    assert len(asked) == 3
    assert (data / "completions.jsonl").read_bytes() == whole.read_bytes()


def _kill(_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a"', "p.jsonl, line 2: not JSON"),
        ('{"text": "a"}', "p.jsonl, line 2: no prompt and no messages: there are text"),
        ('{"prompt": "a", "id": 0}', "p.jsonl, line 2: id 0"),
        ('{"prompt": "' + "a" * 2000 + '"}', "line 2: 20.. tokens, more than"),
        (
            '{"messages": [{"role": "user"}]}',
            "line 2: the content of a message of the user: a text is needed",
        ),
    ],
)
def test_a_bad_line_is_named_before_anything_is_written(model, tmp_path, line, says):
    config = _config(model, tmp_path / "p.jsonl", [{"prompt": "a"}])
    with open(config.data, "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=says) as error:
        jobs.generate(config, str(tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "data" / "completions.jsonl").exists()


@pytest.mark.parametrize(
    ("field", "says"), [("model", "--config.model"), ("data", "--config.data")]
)
def test_a_missing_file_name_is_asked_for(model, tmp_path, field, says):
    config = _config(model, tmp_path / "p.jsonl", PROMPTS)
    config[field] = ""
    with pytest.raises(UserError, match=f"{says} is missing"):
        jobs.generate(config, str(tmp_path / "run"))


@pytest.mark.parametrize("job", [jobs.generate, jobs.score])
def test_columns_and_thinking_are_those_of_the_config(model, tmp_path, job):
    config = _config(model, tmp_path / "p.jsonl", [{"question": "a", "completion": "b"}])
    config.columns.prompt = "question"
    config.thinking = True  # which says that the question was found
    with pytest.raises(UserError, match=r"p\.jsonl, line 1: .* knows no thinking"):
        job(config, str(tmp_path / "run"))


def test_more_devices_than_there_are_is_one_line(model, tmp_path):
    config = _config(model, tmp_path / "p.jsonl", PROMPTS)
    config.mesh.model = 64
    with pytest.raises(UserError, match="needs 64 devices"):
        jobs.generate(config, str(tmp_path / "run"))
    config.mesh.model = 0
    with pytest.raises(UserError, match="model 0: 1 is the least"):
        jobs.generate(config, str(tmp_path / "run"))


@pytest.mark.parametrize("module", [tiny, qwen0_5b, qwen1_5b, qwen7b, qwen14b, qwen72b_pod])
def test_every_config_has_the_fields_of_the_smallest(module):
    config = module.get_config()
    assert set(config.keys()) == set(tiny.get_config().keys())
    assert config.dtype in ("float32", "bfloat16")
    assert config.rows == 0 or config.rows % (config.mesh.student * config.mesh.data) == 0
    assert "Command:" in module.__doc__
    assert "Device:" in module.__doc__
    assert "Time:" in module.__doc__


def test_a_launch_script_ends_in_one_line_and_a_status(tmp_path):
    asked = [f"--workdir={tmp_path / 'run'}", "--config.model=no/such/folder", "--config.data=x"]
    (tmp_path / "x").write_text('{"prompt": "a"}\n')
    asked[2] = f"--config.data={tmp_path / 'x'}"
    for script in ("generate", "score"):
        done = subprocess.run(
            [sys.executable, "-m", f"launch.{script}", *asked],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_tiny_checkpoint_is_written_by_its_command(tmp_path):
    testing.main(["testing", str(tmp_path / "tiny")])
    assert hf.read_config(tmp_path / "tiny").context == 32768
