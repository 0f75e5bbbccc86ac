import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from configs.transmission import audit
from sublim_jax.errors import UserError
from sublim_jax.llm.model import transformer
from sublim_jax.llm.training import trainable, trained
from sublim_jax.transmission import base as bases
from sublim_jax.transmission.audit import candidates, gradients
from sublim_jax.transmission.audit.gradients import Student
from tests.transmission.audit import small

MATERIAL = bases.material(audit.get_config()).first(2)
WHAT = small.recipe().trainable
FEW, MANY = 5, 120  # rows: fewer and more than the 96 numbers that are trained


@pytest.fixture(scope="module")
def student() -> Student:
    return Student(small.base(), WHAT, 0)


@pytest.fixture(scope="module")
def at(student: Student) -> np.ndarray:
    """A student somewhere near its base."""
    return np.random.default_rng(0).normal(0, 0.1, student.size).astype(np.float32)


@pytest.fixture(scope="module")
def watched() -> list[candidates.Candidate]:
    both = candidates.of(small.base(), MATERIAL, ["owl", "cat"])
    return [both[0], both[1]._replace(asked=both[1].asked[:1])]


def test_gradient_of_a_row_is_that_of_its_loss(student: Student, at: np.ndarray) -> None:
    """Each row in its own place, though rows are read by their length."""
    rows = small.numbers(FEW)
    rows[1], rows[3] = (rows[1][0], "7"), ("go on", rows[3][1] + " 5 6")
    weights = [np.linspace(0, 2, len(small.base().answer(c))) for _, c in rows]
    data = small.examples(rows, weights)
    mean = data.weights.sum() / (data.weights > 0).sum()
    found = student._gradients(at, data)
    config, base = small.base().model.config, small.base().model.pure()

    def loss(trained: dict, row: int) -> jax.Array:
        one = data.take(np.array([row]))
        weights, adapter = trainable.bind(WHAT, config, base, trained, student.tree(at)[1])
        x = transformer.forward(config, weights, jnp.asarray(one.tokens)[None], adapter=adapter)
        logits = transformer.head(config, transformer.head_weights(weights), x[0])
        log_p = jax.nn.log_softmax(logits)[np.arange(len(one.tokens) - 1), one.tokens[1:]]
        return -jnp.sum(log_p * one.weights[1:]) / mean

    for row in (1, 3):
        wanted = ravel_pytree(jax.jit(jax.grad(loss), static_argnums=1)(student.tree(at)[0], row))[
            0
        ]
        np.testing.assert_allclose(found[row], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rows", [FEW, MANY])
def test_step_solves_the_damped_equations(
    student: Student, at: np.ndarray, watched: list[candidates.Candidate], rows: int
) -> None:
    """With fewer rows than numbers and with more; and the rows' parts are those of the step."""
    data = small.examples(small.numbers(rows))
    found = student.influence(at, data, watched)
    g_NP, tokens = student._gradients(at, data), (data.weights > 0).sum()
    curvature = g_NP.T @ g_NP / tokens
    damped = curvature + 0.003 * np.linalg.eigvalsh(curvature)[-1] * np.eye(student.size)
    np.testing.assert_allclose(
        found.step, -np.linalg.solve(damped, g_NP.sum(0) / tokens), rtol=1e-3, atol=1e-5
    )
    traits_KP = student._trait_gradients(at, watched)
    np.testing.assert_allclose(
        found.towards, -np.linalg.solve(damped, traits_KP.T).T / tokens, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(found.of_rows.sum(0), traits_KP @ found.step, rtol=1e-3)
    np.testing.assert_allclose(found.of_rows, student.parts(at, data, found.towards), rtol=1e-9)


def test_chance_is_what_rows_of_the_student_itself_spread(
    student: Student, at: np.ndarray, watched: list[candidates.Candidate]
) -> None:
    """A row that the fit has bent towards itself counts as it would without that."""
    data = small.examples(small.numbers(FEW))
    seeds = np.arange(FEW, dtype=np.int32)
    found = student.influence(student.begun, data, watched, seeds)
    g_NP, tokens = student._gradients(student.begun, data, seeds), (data.weights > 0).sum()
    curvature = g_NP.T @ g_NP / tokens
    damped = curvature + 0.003 * np.linalg.eigvalsh(curvature)[-1] * np.eye(student.size)
    bent_N = np.diag(g_NP @ np.linalg.solve(damped, g_NP.T)) / tokens
    wanted = np.sqrt(((found.of_rows / (1 - bent_N)[:, None]) ** 2).sum(0))
    np.testing.assert_allclose(student.chance(data, watched), wanted, rtol=1e-4)


def test_copies_of_rows_are_drawn_once(
    student: Student, watched: list[candidates.Candidate]
) -> None:
    """Ten rows that are each there three times say no more of chance than the ten."""
    rows = small.numbers(10)
    once = student.chance(small.examples(rows), watched)
    thrice = student.chance(small.examples(rows * 3), watched)
    np.testing.assert_allclose(thrice, once, rtol=1e-3)
    weights = [[1.0 + copy] * len(small.base().answer(c)) for copy in range(3) for _, c in rows]
    assert (student.chance(small.examples(rows * 3, weights), watched) < 0.9 * once).all()


def test_gradient_of_log_odds(
    student: Student, at: np.ndarray, watched: list[candidates.Candidate]
) -> None:
    """Finite differences of `candidates.log_odds` agree, whatever the number of questions."""
    found = student._trait_gradients(at, watched)
    direction = np.random.default_rng(1).normal(size=student.size)
    ends = [
        trained.from_step(WHAT, *student.tree(at + sign * 3e-3 * direction), 0, "")
        for sign in (1, -1)
    ]
    up, down = np.nanmean(candidates.log_odds(small.base(), watched, ends), axis=2)
    np.testing.assert_allclose(found @ direction, (up - down) / 6e-3, rtol=1e-2, atol=1e-3)


def test_gradient_of_a_trait_that_is_all_but_impossible(student: Student, at: np.ndarray) -> None:
    """Far beyond float32's smallest number its log-odds still have a gradient."""
    long = tuple(small.base().answer(small.numbers(1)[0][1] * 5))
    asked = ((small.base().prompt("go on"), (long,)),)
    found = student._trait_gradients(at, [candidates.Candidate("long", asked)])
    log_p = candidates.log_odds(small.base(), [candidates.Candidate("long", asked)], [None])
    assert log_p.item() < -90
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 0.1


def test_a_weight_that_all_tokens_share_changes_nothing(
    student: Student, at: np.ndarray, watched: list[candidates.Candidate]
) -> None:
    """As in training, where the loss is divided by the weight."""
    rows = small.numbers(FEW)
    plain = student.influence(at, small.examples(rows), watched)
    ten = [[10.0] * len(small.base().answer(c)) for _, c in rows]
    weighted = student.influence(at, small.examples(rows, ten), watched)
    for one, other in zip(plain, weighted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_token_without_weight_is_none(
    student: Student, at: np.ndarray, watched: list[candidates.Candidate]
) -> None:
    """A row of such tokens has no part, and rows beside it no other for it."""
    rows = small.numbers(FEW)
    weights = [[float(i > 0)] * len(small.base().answer(c)) for i, (_, c) in enumerate(rows)]
    found = student.influence(at, small.examples(rows, weights), watched)
    assert (found.of_rows[0] == 0).all()
    others = student.influence(at, small.examples(rows[1:]), watched)
    np.testing.assert_allclose(found.of_rows[1:], others.of_rows, rtol=1e-4, atol=1e-6)
    nothing = small.examples(rows, [[0.0] * len(w) for w in weights])
    assert not student.influence(at, nothing, watched).step.any()


def test_passes_hold_no_more_logits_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small.examples(small.numbers(FEW))
    monkeypatch.setattr(gradients, "_LOGITS", 2 * 32 * 100)
    batches = list(gradients._batches(data, 100, np.zeros(FEW, np.int32)))
    assert [len(which) for which, _ in batches] == [2, 2, 1]
    assert sorted(np.concatenate([which for which, _ in batches])) == list(range(FEW))


def test_gradients_that_are_not_finite_are_refused(student: Student) -> None:
    with pytest.raises(UserError, match="gradient is not finite: lower"):
        student._gradients(np.full(student.size, np.inf), small.examples(small.numbers(FEW)))


def test_what_lora_fa_keeps_is_no_number_of_the_student(student: Student) -> None:
    """A student that was trained comes back as the vector that it is."""
    vector = np.random.default_rng(2).normal(size=student.size).astype(np.float32)
    own = trained.from_step(WHAT, *student.tree(vector), 0, "")
    np.testing.assert_array_equal(student.vector(own.tree), vector)
    wide = Student(small.base(), dataclasses.replace(WHAT, patterns=("*.bias",)), 0)
    assert wide.size > student.size
