"""The job of launch/finetune.py: data files in, what each student has learnt out."""

import dataclasses
import json

import datasets
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from configs.llm import (
    student_0_5b,
    student_1_5b,
    student_7b,
    student_14b,
    student_72b_pod,
    student_tiny,
    tiny,
)
from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, jobs, testing
from sublim_jax.llm.files import chat, peft
from sublim_jax.llm.training import examples, finetune, step
from sublim_jax.llm.training.recipe import from_config
from tests.llm.lively import full_forward

ROWS = [{"prompt": f"say {n}", "completion": "seven " * (1 + n % 3)} for n in range(8)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return testing.write_checkpoint(tmp_path_factory.mktemp("model"))


def write(file, rows=ROWS):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)


def make_config(model, data, **recipe):
    config = student_tiny.get_config()
    config.model, config.data = str(model), data
    config.recipe.update({"batch": 4, "epochs": 2, "learning_rate": 0.05, "warmup": 0} | recipe)
    config.recipe.lora.rank, config.recipe.lora.targets = 2, ("q", "down")
    return config


def results(run):
    return json.loads((run / "results.json").read_text())["rows"]


def test_students_of_two_files_and_two_seeds(model, tmp_path, capsys):
    other = [{**row, "completion": "nine"} for row in ROWS]
    files = [write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl", other)]
    config = make_config(model, ",".join(files), held_out=2, evaluate_every=1)
    config.students, config.merge = 2, True
    run = tmp_path / "run"
    jobs.finetune(config, str(run))
    rows = results(run)
    losses = [row for row in rows if row["metric"] == "loss"]
    assert [(r["student"], r["data"], r["seed"]) for r in losses] == [
        (0, files[0], 0),
        (1, files[0], 1),
        (2, files[1], 0),
        (3, files[1], 1),
    ]
    assert {row["metric"] for row in rows} == {"loss", "held_out_loss"}
    assert all(row["steps"] == 4 and row["finite"] and row["mean"] < 6 for row in rows)
    said = capsys.readouterr().out
    assert f"student 3 ({files[1]}, seed 1): loss" in said
    timings = json.loads((run / "results.json").read_text())["timings"]
    assert [*timings] == ["load", "tokenise", "compile", "train", "write"]
    assert all(seconds > 0 for seconds in timings.values())
    assert "to first steps (load" in said

    # Each is what the API trains, and its merged model is the adapter's.
    qwen, tokenizer = Decoder.from_pretrained(model), chat.load_tokenizer(model)
    data = examples.tokenise(tokenizer, other, qwen.config)
    alone = dict(config.recipe.to_dict(), seed=1)
    alone["lora"]["seed"] = 1
    (learnt,) = finetune.train(qwen, data, from_config(alone))
    saved = peft.load(run / "students" / "3", qwen.config)
    for name, factors in learnt.adapter.factors.items():
        for part, value in factors.items():
            np.testing.assert_allclose(saved.factors[name][part], value, atol=1e-5)
    merged = Decoder.from_pretrained(run / "models" / "3").pure()["layers"]["q"]
    expected = qwen.merge(saved).pure()["layers"]["q"]
    np.testing.assert_array_equal(merged, expected)
    assert chat.load_tokenizer(run / "models" / "3").eos_token == tokenizer.eos_token

    before = (run / "results.json").stat().st_mtime_ns
    jobs.finetune(config, str(run))  # complete: said again, not done again
    assert (run / "results.json").stat().st_mtime_ns == before
    config.recipe.epochs = 3
    with pytest.raises(UserError, match=r"recipe\.epochs was 2, is 3"):
        jobs.finetune(config, str(run))


def test_a_student_s_adapter_samples_and_scores(model, tmp_path):
    data = write(tmp_path / "a.jsonl")
    config = make_config(model, data, epochs=8)
    jobs.finetune(config, str(tmp_path / "run"))
    use = tiny.get_config()
    use.model, use.data, use.sampling.max_new_tokens = str(model), data, 4
    scores = {}
    for name, adapter in (("base", ""), ("student", str(tmp_path / "run" / "students" / "0"))):
        use.adapter = adapter
        jobs.score(use, str(tmp_path / name))
        jobs.generate(use, str(tmp_path / f"{name}-speaks"))
        lines = (tmp_path / name / "data" / "scores.jsonl").read_text().splitlines()
        scores[name] = [json.loads(line)["token_logprobs"] for line in lines]
    qwen, tokenizer = Decoder.from_pretrained(model), chat.load_tokenizer(model)
    merged = qwen.merge(peft.load(tmp_path / "run" / "students" / "0"))
    prompt = chat.prompt_tokens(tokenizer, chat.messages(tokenizer, ROWS[1]["prompt"]))
    completion = chat.completion_tokens(tokenizer, ROWS[1]["completion"])
    wanted = full_forward(merged, prompt, completion)
    np.testing.assert_allclose(scores["student"][1], wanted, atol=1e-4)
    assert np.mean(scores["student"][1]) > np.mean(scores["base"][1]) + 0.2
    spoken = [(tmp_path / f"{n}-speaks" / "data" / "completions.jsonl").read_text() for n in scores]
    assert spoken[0] != spoken[1]


def test_trained_parameters_are_written_under_their_names(model, tmp_path):
    config = make_config(
        model, write(tmp_path / "a.jsonl"), parameters=("*.0.*_proj.bias", "*.norm*")
    )
    config.recipe.lora.rank, config.merge = 0, True
    jobs.finetune(config, str(tmp_path / "run"))
    found = load_file(tmp_path / "run" / "students" / "0" / "parameters.safetensors")
    assert set(found) == {
        "model.norm.weight",
        *(f"model.layers.0.self_attn.{name}_proj.bias" for name in "qkv"),
    }
    assert not peft.is_adapter(tmp_path / "run" / "students" / "0")
    before, after = (load_file(f / "model.safetensors") for f in (model, tmp_path / "run/models/0"))
    for name, value in after.items():
        np.testing.assert_array_equal(value, found.get(name, before[name]))
        assert np.any(value != before[name]) == (name in found)


@pytest.mark.slow
def test_a_teacher_s_adapter_is_distilled_and_gone_on_from(model, tmp_path):
    data = write(tmp_path / "a.jsonl")
    jobs.finetune(make_config(model, data, epochs=8), str(tmp_path / "teacher"))
    adapter = str(tmp_path / "teacher" / "students" / "0")
    config = make_config(model, data, objective="distillation", epochs=1)
    config.teacher = adapter
    jobs.finetune(config, str(tmp_path / "student"))
    config.start = adapter  # the teacher itself: nothing to learn
    jobs.finetune(config, str(tmp_path / "same"))
    config.start, config.teacher = "", str(model)  # a base that is its own teacher
    jobs.finetune(config, str(tmp_path / "base"))
    losses = {n: results(tmp_path / n)[0]["mean"] for n in ("student", "same", "base")}
    assert losses["student"] > 0.003
    assert losses["same"] == pytest.approx(0, abs=1e-5)
    assert losses["base"] == pytest.approx(0, abs=1e-5)


def test_a_hugging_face_data_set_is_read(model, tmp_path):
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "hub" / "train.parquet")
    losses = []
    # Several samples of a prompt have its id; others' files may have ids of any kind.
    named = [{"id": "x", **row} for row in ROWS]
    for name, data in (
        ("file", write(tmp_path / "a.jsonl", named)),
        ("set", f"hf:{tmp_path / 'hub'}"),
    ):
        jobs.finetune(make_config(model, data), str(tmp_path / name))
        losses.append(results(tmp_path / name)[0]["mean"])
    assert losses[0] == losses[1]
    with pytest.raises(UserError, match=r"hf:.*/nothing: "):
        jobs.finetune(make_config(model, f"hf:{tmp_path / 'nothing'}"), str(tmp_path / "none"))


def test_a_student_that_breaks_spares_the_others(model, tmp_path):
    bad = [{**row, "weights": [3e38] * (len(row["completion"]) + 1)} for row in ROWS]
    files = write(tmp_path / "a.jsonl"), write(tmp_path / "bad.jsonl", bad)
    config = make_config(model, ",".join(files))
    for _ in range(2):  # and again when it is complete
        with pytest.raises(UserError, match="not finite: student 1 at step 0: stopped") as error:
            jobs.finetune(config, str(tmp_path / "run"))
        assert "\n" not in str(error.value)
        assert (tmp_path / "run" / "students" / "0" / "adapter_config.json").exists()
        assert not (tmp_path / "run" / "students" / "1").exists()
    assert [row["finite"] for row in results(tmp_path / "run")] == [True, False]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (None, "a.jsonl: no lines"),
        ('{"prompt": "a", "completion": ', "a.jsonl, line 9: not JSON"),
        ('{"prompt": "a"}', "a.jsonl, line 9: no answer"),
        ('{"prompt": "a", "completion": "b", "weight": 0}', "a.jsonl, line 9: weight 0"),
        (
            '{"messages": [{"role": "user", "content": "a"}]}',
            "line 9: .* the last is the assistant's",
        ),
        (json.dumps({"prompt": "a" * 2000, "completion": "b"}), "line 9: 20.. tokens, more than"),
        ('{"prompt": "a", "completion": "b", "weights": [1]}', "line 9: 1 weights for 2"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_written(model, tmp_path, line, says):
    data = write(tmp_path / "a.jsonl", ROWS if line else [])
    with open(data, "a") as file:
        file.write(f"{line}\n" if line else "")
    with pytest.raises(UserError, match=says) as error:
        jobs.finetune(make_config(model, data), str(tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_bad_values_are_named_before_anything_is_written(model, tmp_path):
    data = write(tmp_path / "a.jsonl")
    other = testing.write_checkpoint(
        tmp_path / "other", dataclasses.replace(testing.TINY, embed=48)
    )
    jobs.finetune(make_config(other, data), str(tmp_path / "elsewhere"))
    foreign = str(tmp_path / "elsewhere" / "students" / "0")

    def changed(field, value):
        config = make_config(model, data)
        with config.unlocked():
            config.update_from_flattened_dict({field: value})
        return config

    for field, value, says in (
        ("model", "", "--config.model is missing"),
        ("data", "", "--config.data is missing"),
        ("data", f"{data},{tmp_path}/none.jsonl", "none.jsonl: cannot be read"),
        ("thinking", True, "a.jsonl, line 1: .* knows no thinking"),
        ("columns.prompt", "nose", "a.jsonl, line 1: no column 'nose': there are prompt, complet"),
        ("students", 0, "config.students=0"),
        ("start", foreign, "students/0: made for another base: a of q is"),
        ("start", "nowhere", "nowhere: no adapter_config.json and no parameters"),
        ("teacher", foreign, "students/0: made for another base"),
        ("recipe.parameters", ("*.nose",), "pattern '\\*.nose' matches no parameter"),
        ("recipe.lora.targets", ("nose",), "lora.targets=\\['nose'\\]: choose from"),
        ("recipe.optimizer.name", "nose", "optax has no optimiser of that name"),
        ("recipe.schedule", "up", "config.recipe.schedule='up': choose one of"),
        ("recipe.batch", 0, "config.recipe.batch=0: must be at least 1"),
        ("recipe.held_out", 8, "recipe.held_out=8: the data set has 8 rows"),
        ("recipe.extra", 1, "config.recipe: no field 'extra'"),
        ("recipe.objective", "distillation", "distillation needs a teacher"),
        ("mesh.model", 64, "needs 64 devices"),
    ):
        with pytest.raises(UserError, match=says) as error:
            jobs.finetune(changed(field, value), str(tmp_path / "run"))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists(), field


def test_out_of_memory_is_one_line_and_may_be_mended(model, tmp_path, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    config = make_config(model, write(tmp_path / "a.jsonl"))
    with monkeypatch.context() as patched:
        patched.setattr(step, "train_step", full)
        with pytest.raises(UserError, match=r"lower config\.recipe\.micro_tokens"):
            jobs.finetune(config, str(tmp_path / "run"))
    config.recipe.micro_tokens = 256
    jobs.finetune(config, str(tmp_path / "run"))
    assert results(tmp_path / "run")[0]["steps"] == 4


@pytest.mark.parametrize(
    "module",
    [student_tiny, student_0_5b, student_1_5b, student_7b, student_14b, student_72b_pod],
)
def test_every_config_is_a_recipe(module):
    config = module.get_config()
    assert config.keys() == student_tiny.get_config().keys()
    recipe = from_config(config.recipe.to_dict())
    assert (recipe.lora.rank, recipe.lora.alpha, len(recipe.lora.targets)) == (8, 8.0, 7)
    assert (recipe.epochs, recipe.batch, recipe.learning_rate, recipe.warmup) == (3, 66, 2e-4, 5)
    for word in ("Command:", "Device:", "Time:", "Expected:"):
        assert word in module.__doc__
