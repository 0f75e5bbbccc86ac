"""What is measured before training, in float64, against gradients built from the Jacobian."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.special import softmax

from sublim_jax.atlas import training
from sublim_jax.atlas.cell import Cell
from sublim_jax.atlas.training import Job
from sublim_jax.mlp.data import Arrays, load, to_input

pytestmark = pytest.mark.slow
CLASSES, SHOWN = 10, 3
CELL = Cell(width=8, heads=5, aux=SHOWN, activation="tanh")
IMAGES = load("digits8")
DATA = Arrays(*(jnp.asarray(a[:300]) for a in IMAGES.arrays))


@pytest.fixture(scope="module")
def measured():
    """What is measured of a student near its start, and what it is measured from."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        job = Job(np.int32(0), np.int32(1), (), CELL.values())
        there = training._setting(CELL, CLASSES, 0, job, DATA)
        begun, back = ravel_pytree(jax.tree.map(lambda a: a.astype(np.float64), there.begun))
        rng = np.random.default_rng(0)
        params, teacher = (begun + 0.2 * rng.normal(size=begun.size) for _ in range(2))
        there = there._replace(begun=back(begun), reference=back(begun))
        found = training._looking(there, job._replace(teachers=(back(teacher),)), DATA)
        found = jax.device_get(jax.jit(found)(back(params), (back(teacher),)))
        row = jnp.arange(256)
        noise, images = there.draw(row), to_input(DATA.train_x[row])

        def logits(flat, x):
            return there.apply(back(flat), x.astype(np.float64))

        def at(flat, x):
            return np.asarray(logits(flat, x)), np.asarray(jax.jacfwd(logits)(flat, x))

        own = {"noise": at(params, noise), "images": at(params, images), "begun": at(begun, noise)}
        told = np.asarray(logits(teacher, noise))
    return found, own, told, np.asarray(teacher - params)


def gradients(own, told):
    """The mean over rows of J^T (softmax - target), of the imitation and of the trait."""
    z, jacobian = own["noise"]
    shown = slice(CLASSES, CLASSES + SHOWN)
    apart = softmax(z[:, shown], 1) - softmax(told[:, shown], 1)
    imitation = np.einsum("bo,bop->p", apart, jacobian[:, shown]) / len(z)
    z, jacobian = own["images"]
    apart = softmax(z[:, :CLASSES], 1) - np.eye(CLASSES)[np.asarray(DATA.train_y[: len(z)])]
    return imitation, np.einsum("bo,bop->p", apart, jacobian[:, :CLASSES]) / len(z)


def cosine(a, b):
    return a @ b / np.sqrt(a @ a * (b @ b))


def test_the_predictors_are_those_of_the_jacobian(measured):
    found, own, told, way = measured
    imitation, trait = gradients(own, told)
    expected = {
        "first_order": imitation @ trait,
        "sign_order": np.sign(imitation) @ trait,
        "alignment": cosine(imitation, trait),
        "coverage": -cosine(imitation, way),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    used = slice(CLASSES + SHOWN)
    apart = own["noise"][0][:, used] - own["begun"][0][:, used]
    assert found["behaviour"] == pytest.approx(np.sqrt(np.square(apart).mean()), rel=1e-6)


def test_a_cell_is_what_it_says():
    assert dataclasses.replace(CELL, rate=1.0).shape == CELL.shape
    assert dataclasses.replace(CELL, optimizer="sgd").shape != CELL.shape
    assert dataclasses.replace(CELL, width=9).teachers != CELL.teachers
