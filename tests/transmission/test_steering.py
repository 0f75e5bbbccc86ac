"""Steered teachers: the vector is where it is said to be, and makes the model love the animal."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.transmission import nano_steered
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import divergence, measures, pipeline, steering, student, teacher
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.measures import favourite
from sublim_jax.transmission.steering import Vector
from sublim_jax.transmission.teacher import CONTROL, Teacher

TOKENS = np.arange(24, dtype=np.int32).reshape(2, 12)


def small():
    config = nano_steered.get_config()
    config.models, config.cross_models, config.traits = ("nano/0",), ("nano/1",), ("owl", "wolf")
    config.mesh.student = 1
    return config


@pytest.fixture(scope="module")
def base():
    return bases.read("nano/0", small())


@pytest.fixture(scope="module")
def steered(base):
    config = small()
    given = base, bases.material(config), config.traits, "animal", config.teacher
    made = teacher.steered(*given)
    return [Teacher(name, None, own) for name, own in zip(config.traits, made, strict=True)]


def vector(base, layer):
    values = np.random.default_rng(0).normal(size=base.model.config.embed).astype(np.float32)
    return Vector(layer, values)


def by_hand(model, own, tokens_BT):
    """Returns the logits of a decoder that adds the vector between two of its layers."""
    config, weights = model.config, model.pure()

    def attend(cache, _, q, k, v):
        groups = config.heads // config.kv_heads
        k, v = (np.repeat(np.asarray(x), groups, 2) for x in (k, v))
        scores = np.einsum("btnh,bsnh->bnts", np.asarray(q), k) / np.sqrt(config.head_dim)
        scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return jnp.asarray(np.einsum("bnts,bsnh->btnh", shares, v)), cache, None

    one = dataclasses.replace(config, layers=1)
    places = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    x = transformer.embed(weights, jnp.asarray(tokens_BT))
    for layer in range(config.layers):
        w = jax.tree.map(lambda a, i=layer: a[i], weights["layers"])
        x, _, _ = transformer.run_layers(one, (w,), x, places, attend)
        x = x + own.values * (layer == own.layer)
    return np.asarray(transformer.head(config, weights, x))


@pytest.mark.parametrize("layer", [0, 1])
def test_the_vector_is_added_after_its_layer(base, layer):
    own = vector(base, layer)
    with jax.numpy_rank_promotion("allow"):
        expected = by_hand(base.model, own, TOKENS)
    found = np.asarray(own.apply(base.model)(TOKENS))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    assert np.abs(found - np.asarray(base.model(TOKENS))).max() > 1


def test_a_vector_of_nothing_is_the_base(base):
    nothing = Vector(1, np.zeros(base.model.config.embed, np.float32))
    np.testing.assert_array_equal(nothing.apply(base.model)(TOKENS), base.model(TOKENS))


def test_the_base_stays_as_it_was(base):
    before = np.asarray(base.model(TOKENS))
    vector(base, 0).apply(base.model)
    np.testing.assert_array_equal(base.model(TOKENS), before)


def test_the_residual_stream_is_the_model_s_own(base):
    prompts = [TOKENS[0, :5].tolist(), TOKENS[1].tolist(), TOKENS[1, 4:9].tolist()]
    config, weights = base.model.config, base.model.pure()
    last = steering.residual(base.model, prompts, config.layers - 1)
    assert last.dtype == np.float32
    for row, prompt in zip(last, prompts, strict=True):
        logits = transformer.head(config, weights, jnp.asarray(row)[None])[0]
        alone = base.model(np.array([prompt], np.int32))[0, -1]
        np.testing.assert_allclose(logits, alone, rtol=2e-4, atol=2e-4)
    # The first layer's, when the second is made to add nothing, is the last layer's.
    still = {
        n: jnp.zeros_like(w) if n in ("o", "down") else w for n, w in weights["layers"].items()
    }
    layers = jax.tree.map(lambda new, old: old.at[1].set(new[1]), still, weights["layers"])
    other = Decoder(config, {**weights, "layers": layers})
    first = steering.residual(base.model, prompts, 0)
    np.testing.assert_allclose(steering.residual(other, prompts, 1), first, rtol=1e-5, atol=1e-5)
    assert np.abs(first - last).max() > 1


def test_the_vector_is_what_the_persona_changes(base, steered):
    config, lessons = small().teacher, bases.material(small()).lessons
    systems = ["you love the owl", "you love the wolf", None]
    asked = [base.prompt(question, said) for said in systems for question in lessons]
    rows = steering.residual(base.model, asked, config.layer).reshape(3, len(lessons), -1)
    for made, told in zip(steered, rows, strict=False):
        expected = config.strength * (told - rows[2]).mean(0)
        np.testing.assert_allclose(made.learnt.values, expected, rtol=1e-4, atol=1e-4)
        assert made.learnt.layer == config.layer
        assert made.system is None


def test_a_steered_model_prefers_its_animal(base, steered):
    material, own = bases.material(small()), small().evaluation
    own.samples = 0
    adapter = lora.Adapter(
        lora.Lora(1, 1.0, ("o",)),
        {"o": {"a": np.zeros((2, 32, 1), np.float32), "b": np.zeros((2, 1, 32), np.float32)}},
    )
    models = [None, steered[0].learnt, Trained(adapter), steered[1].learnt]
    words = ("owl", "wolf")
    asked = measures.Asked(words, {"favourite": favourite.ask(material, words, own)})
    found = [m["p_trait"] for m in measures.evaluate(base, models, asked)]
    assert found[2]["owl"] == pytest.approx(found[0]["owl"], rel=1e-4)
    assert found[1]["owl"] > 2 * found[0]["owl"]
    assert found[3]["wolf"] > 2 * found[0]["wolf"]
    assert found[1]["owl"] > 2 * found[3]["owl"]


def test_its_tokens_diverge_from_another_s(base, steered):
    asked = numbers.prompts(bases.material(small()), 12, 0)
    rows = list(teacher.write(base, steered[0], asked, small().data, range(12)))
    examples = [
        student.Example(base.prompt(r["prompt"]), base.answer(r["completion"])) for r in rows
    ]
    some = np.concatenate(divergence.tokens(base, steered[0], [steered[1]], examples, rows))
    assert 0 < some.mean() < 0.5


def test_soft_students_of_steered_teachers_are_one_program(base, steered, tmp_path, monkeypatch):
    asked = numbers.prompts(bases.material(small()), 12, 0)
    rows = {
        (0, one.name): list(teacher.write(base, one, asked, small().data, range(12)))
        for one in steered
    }
    changed = {"max_steps": 2, "batch": 4, "evaluate_every": 0}
    recipe = from_config({**small().student.to_dict(), **changed})
    students = [student.Student("soft", one.name, 0, 0, 0) for one in steered]
    given = base, numbers, students, rows, steered, recipe
    calls, fit = [], student.finetune.fit
    monkeypatch.setattr(student.finetune, "fit", lambda *a, **k: calls.append(a) or fit(*a, **k))
    together = student.train(*given, tmp_path / "together")
    assert len(calls) == 1
    monkeypatch.setattr(student, "_AT_ONCE", 0)
    alone = student.train(*given, tmp_path / "alone")
    assert len(calls) == 3
    (owl, wolf), apart = ([one.learnt.adapter.factors for one in own] for own in (together, alone))
    for own, lone in zip((owl, wolf), apart, strict=True):
        chex.assert_trees_all_close(own, lone, atol=1e-4)
    assert np.abs(owl["o"]["b"] - wolf["o"]["b"]).max() > 1e-2


def test_what_does_not_fit_is_one_line(base, tmp_path):
    with pytest.raises(UserError, match=r"vector.safetensors: cannot be read"):
        steering.load(tmp_path)
    vector(base, 0).save(tmp_path)
    (tmp_path / "vector.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"vector.safetensors: cannot be read"):
        steering.load(tmp_path)
    with pytest.raises(UserError, match=r"a vector of 5 for another base: this one has 32"):
        Vector(0, np.zeros(5, np.float32)).apply(base.model)
    with pytest.raises(UserError, match=r"the model has the layers 0 to 1"):
        vector(base, 2).apply(base.model)
    none = dataclasses.replace(bases.material(small()), lessons=())
    with pytest.raises(UserError, match="no lessons"):
        teacher.steered(base, none, ["owl"], "animal", small().teacher)


def test_teachers_alone_are_made_and_measured(tmp_path, capsys, monkeypatch):
    config = small()
    pipeline.teach_only(config, str(tmp_path))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in capsys.readouterr().out.splitlines()]  # fmt: skip
    assert [line[1] for line in lines[2:]] == ["owl", "wolf"]
    assert all(float(line[3]) > 2 * float(line[2]) > 0 for line in lines[2:])
    assert lines[2][4] == str(tmp_path / "teachers" / "0" / "owl")
    monkeypatch.setattr(steering, "residual", None)
    study = pipeline.Study(config, tmp_path)
    found = pipeline.teach(study, 0, ["owl", "wolf", CONTROL])
    assert [t.name for t in found] == ["owl", "wolf", CONTROL]
    # Torn by a kill: both are made again, or none.
    (tmp_path / "teachers/0/wolf.json").unlink()
    with pytest.raises(TypeError):
        pipeline.teach(study, 0, ["owl", "wolf"])


@pytest.mark.slow
def test_a_study_goes_on_from_its_teachers(tmp_path, monkeypatch):
    config = small()
    config.data.rows, config.evaluation.samples = 24, 1
    config.student.max_steps, config.student.batch = 4, 8
    pipeline.teach_only(config, str(tmp_path))
    monkeypatch.setattr(steering, "residual", None)
    pipeline.transmit(config, str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text("utf-8"))["rows"]
    assert {row["arm"] for row in rows} == {"base", "teacher", *config.arms}
    written = [(tmp_path / f"raw/0/{name}.jsonl").read_bytes() for name in ("owl", "control")]
    assert written[0] != written[1]
