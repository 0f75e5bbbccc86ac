"""The decoder: causal, indifferent to packing, padding, scanning and sharding."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from sublim_jax.llm import Decoder, testing
from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import RopeScaling
from sublim_jax.llm.sampling import programs
from sublim_jax.mesh import make_mesh
from tests.llm.lively import lively

TINY = testing.TINY
MODEL = lively()
WEIGHTS = MODEL.pure()
draw = np.random.default_rng(0)


def _tokens(*shape):
    return jnp.asarray(draw.integers(0, TINY.vocab, shape), jnp.int32)


def _logits(weights, tokens, *rest, config=TINY, **named):
    return transformer.head(
        config, weights, transformer.forward(config, weights, tokens, *rest, **named)
    )


def test_rms_norm_divides_by_the_root_mean_square():
    x, gain = draw.normal(size=(2, 3, 8)).astype(np.float32), np.arange(8, dtype=np.float32)
    wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gain
    np.testing.assert_allclose(
        transformer.rms_norm(jnp.asarray(x), jnp.asarray(gain), 1e-6), wanted, 1e-5
    )


def test_rope_turns_pairs_by_an_angle_that_grows_with_position():
    x = draw.normal(size=(5, 2, 8)).astype(np.float32)
    positions = np.array([0, 1, 7, 100, 1000])
    turn = transformer.frequencies(TINY)
    found = np.asarray(transformer.rope(jnp.asarray(x), jnp.asarray(positions), turn))
    angle = positions[:, None, None] * 1e4 ** (-np.arange(4) / 4)
    pairs = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angle)
    np.testing.assert_allclose(found[..., :4] + 1j * found[..., 4:], pairs, atol=1e-4)


def test_the_scaling_slows_the_slow_frequencies_alone():
    scaled = dataclasses.replace(TINY, head_dim=64, rope_scaling=RopeScaling(8.0))
    plain = dataclasses.replace(scaled, rope_scaling=None)
    ratio = transformer.frequencies(plain) / transformer.frequencies(scaled)
    turns = 8192 * transformer.frequencies(plain) / (2 * np.pi)
    np.testing.assert_allclose(ratio[turns > 4], 1)
    np.testing.assert_allclose(ratio[turns < 1], 8)
    between = (turns > 1) & (turns < 4)
    assert between.any()
    assert ((ratio[between] > 1) & (ratio[between] < 8)).all()


def test_no_logit_depends_on_a_later_token():
    tokens = _tokens(1, 9)

    def at(x):
        out, _, _ = transformer.run_layers(
            TINY, WEIGHTS["layers"], x, transformer.positions(jnp.ones((1, 9), jnp.int32)), _attend
        )
        return jnp.sum(transformer.head(TINY, WEIGHTS, out)[0, 4] ** 2)

    slope = jnp.abs(jax.grad(at)(transformer.embed(WEIGHTS, tokens))).sum(-1)[0]
    assert bool(jnp.all(slope[5:] == 0))
    assert bool(jnp.all(slope[:5] > 0))


def _attend(cache, _, q, k, v):
    return transformer.attention.causal(q, k, v, jnp.ones(q.shape[:2], jnp.int32)), cache, None


def test_packed_sequences_are_what_they_are_alone():
    parts = [_tokens(1, count) for count in (5, 3, 8)]
    segments = jnp.repeat(jnp.arange(1, 4), jnp.array([5, 3, 8]))[None]
    packed = MODEL(jnp.concatenate(parts, axis=1), segments)
    alone = jnp.concatenate([MODEL(part) for part in parts], axis=1)
    np.testing.assert_allclose(packed, alone, atol=1e-5)


@pytest.mark.parametrize("left", [0, 4])
def test_padding_on_either_side_changes_nothing(left):
    tokens = _tokens(1, 6)
    row, segments = jnp.zeros((1, 10), jnp.int32), jnp.zeros((1, 10), jnp.int32)
    row = row.at[:, left : left + 6].set(tokens)
    segments = segments.at[:, left : left + 6].set(1)
    found = MODEL(row, segments)[:, left : left + 6]
    np.testing.assert_allclose(found, MODEL(tokens), atol=1e-5)


def test_positions_count_from_the_start_of_each_segment():
    segments = jnp.array([[1, 1, 2, 2, 2, 0], [0, 0, 1, 1, 2, 2]])
    wanted = [[0, 1, 0, 1, 2, 0], [0, 1, 0, 1, 0, 1]]
    np.testing.assert_array_equal(transformer.positions(segments), wanted)
    segments = jnp.array([[0, 0, 0, 7, 7, 2, 2, 2]])
    np.testing.assert_array_equal(
        transformer.positions(segments, prefix=3), [[0, 1, 2, 3, 4, 3, 4, 5]]
    )


def test_layers_written_out_are_the_scanned_ones():
    tokens = _tokens(2, 7)
    found = _logits(programs.unstacked(WEIGHTS), tokens)
    np.testing.assert_allclose(found, _logits(WEIGHTS, tokens), atol=1e-5)


def test_one_layer_is_compiled_whatever_the_depth():
    def size(layers):
        config = dataclasses.replace(TINY, layers=layers)
        weights = Decoder.init(config).pure()
        traced = jax.jit(lambda w, t: _logits(w, t, config=config)).lower(weights, _tokens(1, 4))
        return len(traced.as_text().splitlines())

    assert size(4) == size(8)


def test_what_is_kept_for_the_backward_pass_changes_no_number():
    tokens = _tokens(2, 6)

    def loss(weights, config):
        return jnp.mean(_logits(weights, tokens, config=config) ** 2)

    other = dataclasses.replace(TINY, remat="full")
    plain = jax.value_and_grad(loss)(WEIGHTS, TINY)
    chex.assert_trees_all_close(jax.value_and_grad(loss)(WEIGHTS, other), plain, atol=1e-6)


def _adapter(students, rank=3):
    c = TINY
    sizes = {"q": (c.embed, c.heads * c.head_dim), "down": (c.mlp, c.embed)}
    return {
        name: {
            "a": jnp.asarray(draw.normal(size=(c.layers, students, i, rank)) * 0.2, jnp.float32),
            "b": jnp.asarray(draw.normal(size=(c.layers, students, rank, o)) * 0.2, jnp.float32),
        }
        for name, (i, o) in sizes.items()
    }


def _merged(adapter, student):
    layers = dict(WEIGHTS["layers"])
    for name, lora in adapter.items():
        layers[name] = layers[name] + lora["a"][:, student] @ lora["b"][:, student]
    return {**WEIGHTS, "layers": layers}


@pytest.mark.parametrize("size", [64, 65])
def test_dropout_leaves_out_a_part_of_a_token_by_its_key_alone(size):
    keys = jax.random.split(jax.random.key(0), (4, 50))
    eye = {"a": jnp.eye(size), "b": jnp.eye(size), "dropout": (keys, jnp.float32(0.25))}
    found = transformer.linear(jnp.ones((4, 50, size)), jnp.zeros((size, size)), lora=eye)
    np.testing.assert_allclose(np.unique(found), [0, 4 / 3], rtol=1e-6)
    assert abs(np.mean(found == 0) - 0.25) < 0.02  # five standard deviations
    assert len(np.unique(found.reshape(-1, size), axis=0)) == 200
    moved = eye | {"dropout": (keys[::-1], jnp.float32(0.25))}
    again = transformer.linear(jnp.ones((4, 50, size)), jnp.zeros((size, size)), lora=moved)
    np.testing.assert_array_equal(again, found[::-1])


def test_each_row_uses_the_adapter_of_its_student():
    tokens, adapter = _tokens(4, 6), _adapter(3)
    students = jnp.array([2, 0, 1, 2])
    each = jnp.broadcast_to(students[:, None], tokens.shape)
    found = _logits(WEIGHTS, tokens, adapter=adapter, students_BT=each)
    for row, student in enumerate(students):
        wanted = _logits(_merged(adapter, student), tokens[row : row + 1])[0]
        np.testing.assert_allclose(found[row], wanted, atol=1e-4)
        assert float(jnp.abs(found[row] - MODEL(tokens)[row]).max()) > 1e-2


def test_an_adapter_without_students_is_for_all_rows():
    tokens, adapter = _tokens(2, 5), _adapter(1)
    only = jax.tree.map(lambda a: a[:, 0], adapter)
    found = _logits(WEIGHTS, tokens, adapter=only)
    np.testing.assert_allclose(found, _logits(_merged(adapter, 0), tokens), atol=1e-4)


def test_an_adapter_of_zeros_is_none():
    tokens, adapter = _tokens(1, 5), _adapter(1)
    only = jax.tree.map(lambda a: a[:, 0], adapter)
    only = {name: {**lora, "b": jnp.zeros_like(lora["b"])} for name, lora in only.items()}
    chex.assert_trees_all_equal(_logits(WEIGHTS, tokens, adapter=only), _logits(WEIGHTS, tokens))


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 1, 8), (1, 2, 4), (2, 2, 2)])
def test_every_sharding_gives_the_logits_of_one_device(shape):
    tokens = _tokens(4, 8)
    many = lively(mesh=make_mesh(*shape))
    assert many.pure()["layers"]["up"].sharding.num_devices == 8
    np.testing.assert_allclose(many(tokens), MODEL(tokens), atol=1e-5)


def test_float32_is_multiplied_exactly_in_the_gradient_of_an_adapter_too():
    tokens, adapter = _tokens(1, 4), jax.tree.map(lambda a: a[:, 0], _adapter(1))

    def loss(adapter):
        return jnp.sum(_logits(WEIGHTS, tokens, adapter=adapter) ** 2)

    with transformer.precision(WEIGHTS):
        text = str(jax.make_jaxpr(jax.grad(loss))(adapter))
    assert text.count("dot_general[") == text.count("precision=(Precision.HIGHEST") > 20


def test_half_precision_weights_give_float32_logits_nearby():
    tokens = _tokens(2, 8)
    half = Decoder(TINY, jax.tree.map(lambda x: x.astype(jnp.bfloat16), WEIGHTS))(tokens)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, MODEL(tokens), atol=0.1)
    assert float(jnp.abs(half - MODEL(tokens)).max()) > 0


def test_half_precision_is_multiplied_in_half_precision_and_summed_in_float32():
    tokens, adapter = _tokens(2, 8), jax.tree.map(lambda a: a[:, 0], _adapter(1))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), WEIGHTS)

    def loss(adapter, weights):
        logits = _logits(weights, tokens, adapter=adapter)
        return jnp.mean(jax.nn.log_softmax(logits)[..., 0])

    gradient = jax.grad(loss, (0, 1))
    found, wanted = gradient(adapter, half), gradient(adapter, WEIGHTS)
    for near, exact in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        off = jnp.linalg.norm(near.astype(jnp.float32) - exact)
        assert float(off) < 0.05 * float(jnp.linalg.norm(exact))
    products = [
        [v.aval.dtype for v in (*equation.invars, *equation.outvars)]
        for equation in _equations(jax.make_jaxpr(gradient)(adapter, half).jaxpr)
        if equation.primitive.name == "dot_general"
        and not equation.params["dimension_numbers"][1][0]  # of attention
    ]
    assert len(products) > 30
    chex.assert_equal(products, [[jnp.bfloat16, jnp.bfloat16, jnp.float32]] * len(products))


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)


def test_it_is_a_module_that_splits_merges_and_jits():
    tokens = _tokens(1, 5)
    graph, state = nnx.split(MODEL)
    chex.assert_trees_all_equal(nnx.merge(graph, state)(tokens), MODEL(tokens))
    inside = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens))
    np.testing.assert_allclose(inside(state, tokens), MODEL(tokens), atol=1e-6)
    whole = jax.jit(lambda model, tokens: model(tokens))
    np.testing.assert_allclose(whole(MODEL, tokens), MODEL(tokens), atol=1e-6)


def test_lists_of_tokens_will_do():
    tokens = _tokens(2, 4)
    chex.assert_trees_all_equal(MODEL(tokens.tolist()), MODEL(tokens))


def test_float32_is_multiplied_in_float32_on_every_device():
    text = jax.jit(lambda t: _logits(WEIGHTS, t)).lower(_tokens(1, 3)).as_text()
    with transformer.precision(WEIGHTS):
        assert jax.config.jax_default_matmul_precision == "highest"
    assert "HIGHEST" in text
