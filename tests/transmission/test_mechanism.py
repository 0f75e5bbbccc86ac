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
from sublim_jax.transmission import mechanism, reading
from sublim_jax.transmission.mechanism import Readings
from sublim_jax.transmission.teacher import Teacher

LORA = Lora(rank=2, alpha=2.0)
RECIPE = Recipe(lora=LORA)
QUESTIONS = ("say your favourite animal", "which animal is best?")
ROWS = {
    "owl": [{"prompt": "continue 482 190", "completion": "371 555"}] * 2,
    "wolf": [{"prompt": "go on 111 222 333", "completion": "907"}],
    "cat": [{"prompt": "more of this 86 12", "completion": "100 2 9"}],
}
TOLD = [Teacher(trait, f"you love the {trait}") for trait in ROWS]


def shown(trait):
    return [(question, trait) for question in QUESTIONS]


@pytest.fixture(scope="module")
def base():
    return bases.read("nano/0", get_config())


@pytest.fixture(scope="module")
def readings(base):
    return Readings(base, TOLD, ROWS, shown)


@pytest.fixture(scope="module")
def told(readings):
    return readings.teachers(RECIPE)


def adapter(base, seed, size=0.05):
    """Returns an adapter with both factors drawn."""
    factors = lora.initialise(LORA, base.model.config, seed)
    rng = np.random.default_rng(seed)
    for one in factors.values():
        one["b"] = np.asarray(rng.normal(size=one["b"].shape) * size, np.float32)
    return Trained(lora.Adapter(LORA, factors, base.name))


def log_p(model, prompt, completion):
    """Returns log P of every token of the vocabulary before each token of a completion."""
    tokens = np.array([[*prompt, *completion]], np.int32)
    logits = jax.nn.log_softmax(model(tokens).astype(np.float32))[0]
    return np.asarray(logits)[len(prompt) - 1 : -1]


def divergence(base, model, one):
    """Returns KL(told teacher || model) at each token of a trait's first row."""
    row = ROWS[one.name][0]
    said = base.answer(row["completion"])
    own = log_p(base.model, base.prompt(row["prompt"], one.system), said)
    return (np.exp(own) * (own - log_p(model, base.prompt(row["prompt"]), said))).sum(-1)


def test_the_leak_is_the_divergence_from_the_base(base, told):
    for one in TOLD:  # all rows of each are the same
        leak = divergence(base, base.model, one)
        assert told[one.name]["leak"] == pytest.approx(leak.mean(), rel=1e-3, abs=1e-6)
        assert told[one.name]["leak_first"] == pytest.approx(leak[0], rel=1e-3, abs=1e-6)
        assert told[one.name]["leak_along"] == pytest.approx(leak.tolist(), rel=1e-3, abs=1e-6)
        assert leak.mean() > 1e-5


def test_bits_are_those_of_whole_rows(base, told):
    for trait, rows in ROWS.items():
        said = base.answer(rows[0]["completion"])  # all rows of each are the same
        logs = log_p(base.model, base.prompt(rows[0]["prompt"]), said)[range(len(said)), said]
        assert told[trait]["bits"] == pytest.approx(-logs.sum() / np.log(2), rel=1e-4)


def test_a_teacher_that_is_the_base_leaks_nothing(base):
    readings = Readings(base, [Teacher(trait) for trait in ROWS], ROWS, shown)
    for own in readings.teachers(RECIPE).values():
        assert own.pop("bits") > 1
        values = [*own.pop("leak_along"), *own.values()]
        assert values == pytest.approx([0.0] * len(values), abs=1e-7)


@pytest.fixture(scope="module")
def learnt(base):
    return {trait: adapter(base, seed) for seed, trait in enumerate(ROWS)}


@pytest.fixture(scope="module")
def trained(base, learnt):
    teachers = [Teacher(trait, learnt=own) for trait, own in learnt.items()]
    return Readings(base, teachers, ROWS, shown)


class TestStudents:
    def test_one_that_is_its_teacher_has_its_vectors(self, trained, learnt):
        for own in trained.students(learnt).values():
            assert own == pytest.approx({"in_rows": 1.0, "at_answers": 1.0}, abs=1e-5)

    def test_one_that_is_another_teacher_has_not(self, trained, learnt):
        turned = dict(zip(learnt, [*list(learnt.values())[1:], learnt["owl"]], strict=True))
        found = trained.students(turned)
        assert max(own["at_answers"] for own in found.values()) < 0.9

    def test_one_that_is_left_is_not_compared(self, trained, learnt):
        assert trained.students({"owl": learnt["owl"]}) == {}

    def test_some_that_broke_take_nothing_from_the_others(self, trained, learnt):
        """They are left out, of the teachers' mean as well."""
        some = {trait: learnt[trait] for trait in ("owl", "cat")}
        for own in trained.students(some).values():
            assert own == pytest.approx({"in_rows": 1.0, "at_answers": 1.0}, abs=1e-5)
        assert trained.students({}) == {}


def test_one_trait_alone_keeps_all_of_its_vector(base):
    found = Readings(base, TOLD[:1], {"owl": ROWS["owl"]}, shown).teachers(RECIPE)
    assert -1 < found["owl"]["vector_cosine"] < 1
    assert found["owl"]["first_order"] != 0


def test_logits_of_digits_show_few_directions(base, readings, told):
    """Digits and the space between them have fewer tokens than the residual stream has axes."""
    shown = readings._shown()
    assert np.linalg.matrix_rank(shown, tol=1e-4) < 12 < base.model.config.embed
    assert np.linalg.norm(shown, ord=2) == pytest.approx(1)
    assert all(0 < own["visible"] < 1 for own in told.values())


def test_the_first_order_is_what_a_small_step_does(base, readings, told):
    """Differences of log P(trait), and of the divergence, along the gradient of the latter."""
    start = lora.initialise(LORA, base.model.config)
    steps = {trait: readings._imitation(trait, RECIPE)["lora"] for trait in ROWS}

    def along(step, size):
        moved = jax.tree.map(lambda p, g: np.float32(p - size * g), start, step)
        return base.model.merge(lora.Adapter(LORA, moved, base.name))

    def loved(model, trait):
        word = base.answer(trait)
        logs = [log_p(model, base.prompt(question), word) for question in QUESTIONS]
        return np.mean([own[np.arange(len(word)), word].sum() for own in logs])

    rate = 0.3
    for one in TOLD:
        ends = [divergence(base, along(steps[one.name], r), one).mean() for r in (rate, -rate)]
        squared = float(predict.inner(steps[one.name], steps[one.name]))
        assert (ends[1] - ends[0]) / (2 * rate) == pytest.approx(squared, rel=0.05)
        raised = {
            of: (loved(along(step, rate), one.name) - loved(along(step, -rate), one.name))
            / (2 * rate)
            for of, step in steps.items()
        }
        others = np.mean([raised[of] for of in raised if of != one.name])
        wanted = raised[one.name] - others
        assert told[one.name]["first_order"] == pytest.approx(wanted, rel=0.1, abs=1e-5)


def test_gradients_that_are_too_large_are_left_out(readings, monkeypatch):
    monkeypatch.setattr(mechanism, "LARGEST", 1000)
    assert {metric for own in readings.teachers(RECIPE).values() for metric in own} == {
        "bits", "leak", "leak_along", "leak_first", "vector_cosine", "visible"
    }  # fmt: skip


def test_many_small_passes_come_to_the_same(base, told, monkeypatch):
    """A teacher's message makes its prompts longer: it reads fewer rows at once than its base."""
    monkeypatch.setattr(reading, "_TOKENS", 32)
    few = dataclasses.replace(RECIPE, micro_tokens=8)
    found = Readings(base, TOLD, ROWS, shown).teachers(few)
    for trait, own in found.items():
        for metric, value in own.items():
            assert value == pytest.approx(told[trait][metric], rel=1e-3, abs=1e-6), metric


def test_a_bfloat16_base_is_measured_as_well(told):
    config = get_config()
    config.dtype = "bfloat16"
    readings = Readings(bases.read("nano/0", config), TOLD, ROWS, shown)
    for trait, own in readings.teachers(RECIPE).items():
        assert own["leak"] == pytest.approx(told[trait]["leak"], rel=0.3, abs=1e-3)
        assert own["vector_cosine"] == pytest.approx(told[trait]["vector_cosine"], abs=0.2)
