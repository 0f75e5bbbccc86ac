"""What training holds on a device, counted in traced programs: nothing is computed."""

import collections
import dataclasses
import functools
import importlib
import math
import re

import jax
import jax.numpy as jnp
import pytest

from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.testing import TINY
from sublim_jax.llm.training import losses, step
from sublim_jax.llm.training.batches import Micros, PackedRows
from sublim_jax.llm.training.recipe import Recipe, from_config
from tests.llm.test_lowering import MODELS

_WIDTH = 256
_OF_AN_ADAPTER = 5  # float32 arrays: itself, Adam's two, its gradient, and that of a pass
_OF_A_CHUNK = 3  # float32 arrays: logits, their gradient, and one between


def _bytes(tree):
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def traced(config, dtype, recipe, tokens):
    """Returns the bytes that a student's pass keeps for its gradient, and what it learns."""
    own = jax.ShapeDtypeStruct
    width = min(_WIDTH, tokens)
    rows, base = tokens // width, parameters.abstract(config, dtype)
    config = dataclasses.replace(config, remat=recipe.remat)
    chunk = min(tokens, losses.chunk_size(config.vocab))
    program = step.Program(config, recipe.compiled(), chunk)
    first = functools.partial(step._first_state, program)
    state, fixed = jax.tree.map(
        lambda a: own(a.shape[1:], a.dtype), jax.eval_shape(first, base, own((1,), jnp.uint32))
    )
    read = PackedRows(*[own((rows, width), jnp.int32)] * 2, own((tokens,), jnp.int32))
    weight = own((tokens,), jnp.float32)
    micro = Micros(read, None, own((tokens,), jnp.int32), weight, own((), jnp.int32))

    def pull(base, trained, fixed, micro):
        def loss(trained):
            return step._student_sums(program, base, trained, fixed, None, micro, None)[0]

        return jax.vjp(loss, trained)[1]

    kept = jax.tree.leaves(jax.eval_shape(pull, base, state.trained, fixed, micro))
    found = collections.Counter((a.shape, a.dtype) for a in kept)
    found -= collections.Counter((a.shape, a.dtype) for a in jax.tree.leaves(base))
    size = sum(n * math.prod(shape) * dtype.itemsize for (shape, dtype), n in found.items())
    return size, state.trained


def peak(config, dtype, recipe, students=1, data=1, model=1):
    """Returns the bytes of one device that trains students at once, without its scratch.

    Args:
      data, model: devices on these axes, which have the base's weights between them; those on
        `data` have the rows of a pass.
    """
    tokens = recipe.micro_tokens // students // data
    kept, learnt = traced(config, dtype, recipe, tokens)
    chunk = min(tokens, losses.chunk_size(config.vocab, students)) * config.vocab * 4
    each = _OF_AN_ADAPTER * _bytes(learnt) + kept + _OF_A_CHUNK * chunk
    return _bytes(parameters.abstract(config, dtype)) / (data * model) + students * each


def test_a_layer_keeps_its_products_or_its_input_alone():
    heads = (TINY.heads + 2 * TINY.kv_heads) * TINY.head_dim
    products = heads + TINY.heads * TINY.head_dim + TINY.embed + 2 * TINY.mlp
    for remat, wanted in (("none", products + TINY.embed), ("full", TINY.embed)):
        deep, shallow = (
            traced(dataclasses.replace(TINY, layers=layers), jnp.bfloat16, recipe, 64)
            for layers in (4, 3)
            for recipe in [Recipe(remat=remat)]
        )
        adapter = _bytes(deep[1]) - _bytes(shallow[1])
        found = deep[0] - shallow[0] - adapter
        assert found == 64 * wanted * jnp.bfloat16.dtype.itemsize


def test_layers_below_the_first_that_is_adapted_keep_nothing():
    config = dataclasses.replace(TINY, layers=4)
    half, shallow = (
        traced(dataclasses.replace(config, layers=layers), jnp.bfloat16, Recipe(lora=lora), 64)[0]
        for layers, lora in ((4, Lora(layers=(2, 3))), (2, Lora()))
    )
    assert half == pytest.approx(shallow, rel=0.02)


def test_a_pass_at_seven_billion_weights_fits_beside_them():
    kept, _ = traced(MODELS["Qwen/Qwen2.5-7B-Instruct"], jnp.bfloat16, Recipe(), 4096)
    assert 10e9 < kept < 14e9


@pytest.mark.parametrize(
    ("name", "students"),
    [
        ("llm.student_0_5b", 1),
        ("llm.student_1_5b", 1),
        ("llm.student_7b", 1),
        ("llm.student_14b", 1),
        ("llm.student_72b_pod", 1),
        ("transmission.qwen2_5_0_5b", 63),
        ("transmission.qwen2_5_7b", 63),
        ("transmission.qwen2_5_14b", 27),
        ("transmission.qwen2_5_72b_pod", 14),
    ],
)
def test_a_config_says_what_it_holds(name, students):
    module = importlib.import_module(f"configs.{name}")
    config = module.get_config()
    model = config.get("model") or config.models[0]
    recipe = from_config((config.get("recipe") or config.student).to_dict())
    axes = config.mesh.data, config.mesh.model
    found = peak(MODELS[model], jnp.dtype(config.dtype), recipe, students, *axes)
    said = re.search(r"(\d+(?:\.\d)?) GB by count", module.__doc__)
    assert float(said[1]) == pytest.approx(found / 1e9, rel=0.05)
