"""Schedules are those of transformers, optimisers those of optax, by name."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax import optim
from sublim_jax.errors import UserError


def rates(schedule, steps, warmup, until=None):
    return [float(optim.rate(schedule, i, steps, warmup)) for i in range((until or steps) + 1)]


@pytest.mark.parametrize(
    ("schedule", "steps", "warmup", "wanted"),
    [
        ("linear", 6, 2, [0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0]),
        ("linear", 4, 0, [1, 0.75, 0.5, 0.25, 0, 0]),
        ("linear", 4, 1, [0, 1, 2 / 3, 1 / 3, 0, 0]),
        ("cosine", 6, 2, [0, 0.5, 1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0, 0]),
        ("cosine", 4, 0, [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0, 0]),
        ("constant", 3, 0, [1, 1, 1, 1, 1]),
        ("constant", 4, 2, [0, 0.5, 1, 1, 1, 1]),
        ("linear", 2, 4, [0, 0.25, 0.5, 0.75, 0]),  # a run shorter than its warmup
        ("linear", 2, 2, [0, 0.5, 0, 0]),
        ("linear", 1, 0, [1, 0]),
    ],
)
def test_schedules_are_those_of_transformers(schedule, steps, warmup, wanted):
    found = rates(schedule, steps, warmup, len(wanted) - 1)
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
def test_students_of_other_lengths_each_have_their_own(schedule):
    steps = np.array([3, 8, 1000], np.int32)

    @jax.jit
    def every(step):
        return optim.rate(schedule, step, steps, 2)

    for step in range(9):
        found = every(jnp.int32(step))
        alone = [optim.rate(schedule, step, int(n), 2) for n in steps]
        assert (found.shape, found.dtype) == ((3,), np.float32)
        np.testing.assert_allclose(found, alone, atol=1e-6)


def test_a_schedule_that_is_not_there_is_an_error():
    with pytest.raises(KeyError):
        optim.rate("steps", 0, 1, 0)


PARAMS = {"w": jnp.ones((2, 3))}


def one_update(made, params, gradients):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        return made.update(gradients, made.init(params), params)[0]


@pytest.mark.parametrize(
    ("optimizer", "more", "wanted"),
    [
        ({"name": "sgd", "learning_rate": 0.5}, {}, -1.0),
        ({"name": "sgd"}, {"learning_rate": 0.5}, -1.0),
        ({"name": "sgd", "learning_rate": 9.0}, {"learning_rate": 0.5}, -1.0),
        ({"name": "sign_sgd", "learning_rate": 0.5}, {}, -0.5),
        ({"name": "adamw", "weight_decay": 0.5}, {"learning_rate": 1.0}, -1.5),
        ({"name": "lion", "learning_rate": 0.25, "weight_decay": 0.0}, {}, -0.25),
    ],
)
def test_a_mapping_names_an_optax_function_and_its_arguments(optimizer, more, wanted):
    before = dict(optimizer)
    made = optim.make_optimizer(optimizer, **more)
    change = one_update(made, PARAMS, {"w": jnp.full((2, 3), 2.0)})
    np.testing.assert_allclose(change["w"], wanted, rtol=1e-5)
    assert optimizer == before


@pytest.mark.parametrize("name", ["muon", "prodigy", "schedule_free_adamw"])
def test_optax_contrib_is_searched_too(name):
    assert not hasattr(optax, name)
    made = optim.make_optimizer({"name": name}, learning_rate=0.1)
    change = one_update(made, PARAMS, {"w": jnp.full((2, 3), 2.0)})
    assert np.all(change["w"] < 0)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({}, r"^optimizer.name='': optax has no optimiser of that name$"),
        ({"name": ""}, r"^optimizer.name='': optax has no"),
        ({"name": "adamant"}, r"^optimizer.name='adamant': optax has no optimiser"),
        ({"name": "__doc__"}, r"^optimizer.name='__doc__': optax has no optimiser"),
        ({"name": "__import__"}, r"^optimizer.name='__import__': optax has no optimiser"),
        ({"name": "losses"}, r"^optimizer.name='losses': optax has no optimiser"),
        ({"name": 3}, r"^optimizer.name='3': optax has no optimiser"),
        ({"name": "apply_updates"}, r"^optimizer: optax.apply_updates: .*learning_rate"),
        ({"name": "adam", "nose": 1}, r"^optimizer: optax.adam: .*'nose'"),
        ({"name": "constant_schedule"}, r"^optimizer: optax.constant_schedule: "),
        ({"name": "GradientTransformation"}, r"^optimizer: optax.GradientTransf"),
    ],
)  # fmt: skip
def test_what_is_no_optimiser_ends_in_one_line(optimizer, message):
    with pytest.raises(UserError, match=message) as error:
        optim.make_optimizer(optimizer, learning_rate=0.1)
    assert "\n" not in str(error.value)


def test_a_function_that_makes_no_optimiser_is_refused():
    with pytest.raises(UserError, match=r"name='constant_schedule': optax has no optimiser"):
        optim.make_optimizer({"name": "constant_schedule", "value": 0.1})
