"""Shapes, names, shardings and first values all come from the one declaration."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.llm import testing
from sublim_jax.llm.model import parameters
from sublim_jax.mesh import make_mesh

TINY = testing.TINY


def test_the_half_billion_has_as_many_parameters_as_released():
    assert parameters.count(testing.HALF_BILLION) == 494_032_768


def test_an_untied_head_is_one_array_more():
    tied, untied = (
        parameters.declare(TINY),
        parameters.declare(dataclasses.replace(TINY, tied=False)),
    )
    assert set(untied) - set(tied) == {"head"}
    assert untied["head"].hf_names == ["lm_head.weight"]
    assert untied["head"].shape == (TINY.vocab, TINY.embed)


def test_biases_and_norms_are_those_that_the_config_names():
    config = dataclasses.replace(TINY, biases=("o", "gate"), qk_norm=True)
    layers = parameters.declare(config)["layers"]
    assert {n for n in layers if n.endswith("bias")} == {"o_bias", "gate_bias"}
    assert layers["o_bias"].hf_names[1] == "model.layers.1.self_attn.o_proj.bias"
    assert (layers["o_bias"].shape, layers["gate_bias"].shape) == ((2, 32), (2, 80))
    assert layers["q_norm"].hf_names[0] == "model.layers.0.self_attn.q_norm.weight"
    assert layers["q_norm"].shape == layers["k_norm"].shape == (2, 8)


def test_a_kernel_names_the_tensor_of_every_layer_and_its_shape_there():
    up = parameters.declare(TINY)["layers"]["up"]
    assert up.shape == (2, 32, 80)
    assert up.hf_names == [f"model.layers.{i}.mlp.up_proj.weight" for i in range(2)]
    assert up.hf_shape == (80, 32)


def test_weights_are_cut_over_data_and_model_and_never_within_a_head():
    mesh = make_mesh(1, 2, 4)
    spec = jax.tree.map(lambda s: s.spec, parameters.shardings(TINY, mesh))
    layers = spec["layers"]
    assert tuple(spec["embed"]) == ("model", "data")
    assert tuple(layers["up"]) == (None, "data", "model")
    assert tuple(layers["down"]) == (None, "model", "data")
    assert tuple(layers["q"]) == (None, "data", "model")
    assert tuple(layers["k"]) == (None, "data", None)  # 2 heads are not cut in 4
    assert tuple(layers["k_bias"]) == (None, None)
    assert tuple(layers["input_norm"]) == (None, None)


def test_the_abstract_tree_is_that_of_the_weights():
    mesh = make_mesh(1, 2, 4)
    abstract = parameters.abstract(TINY, jnp.dtype("bfloat16"), mesh)
    weights = parameters.initialise(TINY, 0, jnp.dtype("bfloat16"), mesh)
    for wanted, array in zip(jax.tree.leaves(abstract), jax.tree.leaves(weights), strict=True):
        assert (wanted.shape, wanted.dtype) == (array.shape, array.dtype)
        assert array.sharding.is_equivalent_to(wanted.sharding, array.ndim)


@pytest.mark.parametrize("shape", [(1, 1, 8), pytest.param((2, 2, 2), marks=pytest.mark.slow)])
def test_first_values_do_not_depend_on_the_mesh(shape):
    one = parameters.initialise(TINY, 3, jnp.dtype("float32"))
    many = parameters.initialise(TINY, 3, jnp.dtype("float32"), make_mesh(*shape))
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, one), jax.tree.map(np.asarray, many))


def test_first_values_are_the_released_models_distribution():
    weights = parameters.initialise(TINY, 0, jnp.dtype("float32"))
    layers = weights["layers"]
    assert float(jnp.std(layers["gate"])) == pytest.approx(0.02, rel=0.05)
    assert float(jnp.abs(jnp.mean(weights["embed"]))) < 1e-3
    assert bool(jnp.all(layers["mlp_norm"] == 1))
    assert bool(jnp.all(layers["q_bias"] == 0))
    gate, up = layers["gate"].ravel(), layers["up"].ravel()
    assert abs(float(jnp.corrcoef(gate, up)[0, 1])) < 0.05
    assert bool(
        jnp.any(layers["gate"] != parameters.initialise(TINY, 1, gate.dtype)["layers"]["gate"])
    )
