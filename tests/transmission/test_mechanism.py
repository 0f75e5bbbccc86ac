"""The mechanism's measures against what they are by definition."""

import dataclasses

import jax
import numpy as np
import pytest

from configs.transmission.nano import get_config
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trained import Trained
from sublim_jax.theory import predict
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import mechanism
from sublim_jax.transmission.mechanism import Readings
from sublim_jax.transmission.teacher import Teacher

LORA = Lora(rank=2, alpha=2.0)
RECIPE = Recipe(lora=LORA)
QUESTIONS = ("say your favourite animal", "which animal is best?")
ROWS = {
    "owl": [{"prompt": "continue 482 190", "completion": "371 555"}] * 2,
    "wolf": [{"prompt": "go on 111 222 333", "completion": "907"}],
}
TOLD = [Teacher(trait, f"you love the {trait}") for trait in ROWS]


@pytest.fixture(scope="module")
def base():
    return bases.read("nano/0", get_config())


@pytest.fixture(scope="module")
def readings(base):
    return Readings(base, ROWS, QUESTIONS)


@pytest.fixture(scope="module")
def told(readings):
    return readings.teachers(TOLD, RECIPE)


def adapter(base, seed, size=0.05):
    """Returns an adapter with both factors drawn."""
    factors = lora.initialise(LORA, base.model.config, seed)
    rng = np.random.default_rng(seed)
    for one in factors.values():
        one["b"] = np.asarray(rng.normal(size=one["b"].shape) * size, np.float32)
    return Trained(lora.Adapter(LORA, factors, base.name))


def log_p(base, model, prompt, completion):
    """Returns log P of every token of the vocabulary before each token of a completion."""
    tokens = np.array([[*prompt, *completion]], np.int32)
    logits = jax.nn.log_softmax(model(tokens).astype(np.float32))[0]
    return np.asarray(logits)[len(prompt) - 1 : -1]


def test_the_leak_is_the_divergence_from_the_base(base, told):
    row = ROWS["owl"][0]
    said = base.answer(row["completion"])
    one, other = (
        log_p(base, base.model, base.prompt(row["prompt"], system), said)
        for system in ("you love the owl", None)
    )
    leak = (np.exp(one) * (one - other)).sum(-1)
    found = told[0]["owl"]
    assert found["leak"] == pytest.approx(leak.mean(), rel=1e-3, abs=1e-6)
    assert found["leak_first"] == pytest.approx(leak[0], rel=1e-3, abs=1e-6)
    assert leak.mean() > 1e-4


def test_a_teacher_that_is_the_base_leaks_nothing(base, readings):
    found, vectors = readings.teachers([Teacher(trait) for trait in ROWS], RECIPE)
    for own in found.values():
        assert list(own.values()) == pytest.approx([0.0] * 5, abs=1e-8)
    assert not any(part.any() for own in vectors.values() for part in own)


def test_a_student_that_is_its_teacher_has_its_vectors(base, readings):
    learnt = {"owl": adapter(base, 1), "wolf": adapter(base, 2)}
    teachers = [Teacher(trait, learnt=own) for trait, own in learnt.items()]
    _, vectors = readings.teachers(teachers, RECIPE)
    same = readings.students(learnt, vectors)
    swapped = readings.students({"owl": learnt["wolf"], "wolf": learnt["owl"]}, vectors)
    for trait in ROWS:
        assert same[trait] == pytest.approx({"in_rows": 1.0, "at_answers": 1.0}, abs=1e-5)
        assert swapped[trait]["at_answers"] < -0.5  # of two traits, each is the other's opposite


def test_logits_of_digits_show_few_directions(base, readings, told):
    """Digits and the space between them have fewer tokens than the residual stream has axes."""
    assert readings._seen().shape[1] < 12 < base.model.config.embed
    assert all(0 < own["visible"] < 1 for own in told[0].values())


def test_the_first_order_is_what_a_small_step_does(base, readings, told):
    """Differences of log P(trait), and of the divergence, along the gradient of the latter."""
    plain, start = base.model.pure(), lora.initialise(LORA, base.model.config)
    steps = {}
    for one in TOLD:
        told_BCD = readings._outputs(one.name, (plain, None), one.system)[0]
        heads = {name: plain[name] for name in ("norm", "embed")}
        given = (RECIPE, readings._texts(one.name)[0], (heads, told_BCD))
        steps[one.name] = readings._gradient(*given)["lora"]

    def along(step, size):
        moved = jax.tree.map(lambda p, g: np.float32(p - size * g), start, step)
        return base.model.merge(lora.Adapter(LORA, moved, base.name))

    def loved(model, trait):
        word = base.answer(trait)
        logs = [log_p(base, model, base.prompt(question), word) for question in QUESTIONS]
        return np.mean([own[np.arange(len(word)), word].mean() for own in logs])

    def imitation(model, one):
        row = ROWS[one.name][0]  # all of its rows are the same
        said = base.answer(row["completion"])
        own = log_p(base, base.model, base.prompt(row["prompt"], one.system), said)
        return (np.exp(own) * (own - log_p(base, model, base.prompt(row["prompt"]), said))).sum(-1)

    rate = 0.3
    for one in TOLD:
        ends = [imitation(along(steps[one.name], size), one).mean() for size in (rate, -rate)]
        squared = float(predict.inner(steps[one.name], steps[one.name]))
        assert (ends[1] - ends[0]) / (2 * rate) == pytest.approx(squared, rel=0.05)
        raised = {
            of: (loved(along(steps[of], rate), one.name) - loved(along(steps[of], -rate), one.name))
            / (2 * rate)
            for of in ROWS
        }
        other = next(of for of in ROWS if of != one.name)
        wanted = raised[one.name] - raised[other]
        assert told[0][one.name]["first_order"] == pytest.approx(wanted, rel=0.05)


def test_one_trait_alone_keeps_all_of_its_vector(base):
    readings = Readings(base, {"owl": ROWS["owl"]}, QUESTIONS)
    found, vectors = readings.teachers(TOLD[:1], RECIPE)
    assert all(part.any() for part in vectors["owl"])
    assert found["owl"]["first_order"] != 0


def test_gradients_that_are_too_large_are_left_out(base, readings, monkeypatch):
    monkeypatch.setattr(mechanism, "LARGEST", 1000)
    found, _ = readings.teachers(TOLD, RECIPE)
    assert {metric for own in found.values() for metric in own} == {
        "leak", "leak_first", "vector_cosine", "visible"
    }  # fmt: skip


def test_small_passes_add_up_to_the_same_gradient(base, readings, told):
    few = dataclasses.replace(RECIPE, micro_tokens=8)  # a row at a time
    found, _ = readings.teachers(TOLD, few)
    for trait, own in found.items():
        assert own == pytest.approx(told[0][trait], rel=1e-4)
