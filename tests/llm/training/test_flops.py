"""Operations are counted as one would by hand, and as the compiler counts them."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from sublim_jax.llm.model import parameters, transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import examples, flops

TINY = Config(vocab=10, embed=6, mlp=5, layers=3, heads=4, kv_heads=2, head_dim=2, tied=False)
# Wide enough that what is not a product of matrices is little.
WIDE = Config(vocab=512, embed=128, mlp=384, layers=2, heads=8, kv_heads=4, head_dim=16)


def products(config, tokens, seen, targets):
    """Multiplications of a forward pass: (in kernels, in the head, in attention), by hand."""
    c = config
    q, kv = c.heads * c.head_dim, c.kv_heads * c.head_dim
    of_layer = c.embed * q + 2 * c.embed * kv + q * c.embed + 3 * c.embed * c.mlp
    scores = mixture = q * seen  # of one token: a product of two vectors for each key it sees
    return (
        c.layers * of_layer * tokens,
        c.vocab * c.embed * targets,
        c.layers * (scores + mixture) * tokens,
    )


def test_a_tiny_model_is_counted_by_hand():
    # A layer: q 6x8, k and v 6x4 each, o 8x6, gate, up and down 6x5 each; a head of 10x6.
    layers, head = 3 * (48 + 48 + 48 + 90), 60
    attention = 3 * 2 * 8 * 5  # five keys are seen by 8 numbers of the queries, and mixed
    assert products(TINY, 1, 5, 1) == (layers, head, attention)
    assert flops.needed(TINY, 1, 5, 1, kernels=True) == 6 * (702 + 60 + 240)
    assert flops.needed(TINY, 1, 5, 1, kernels=False) == 4 * (702 + 60) + 6 * 240


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("tokens", "seen", "targets"), [(1, 1, 0), (7, 2.5, 3), (100, 50, 20)])
def test_a_pass_and_its_gradients_are_twice_to_thrice_the_products(tied, tokens, seen, targets):
    """Two operations a product; one pass back through frozen kernels, two through trained ones."""
    config = dataclasses.replace(TINY, tied=tied)
    kernels, head, attention = products(config, tokens, seen, targets)
    adapter = 2 * (2 * (kernels + head) + 3 * attention)
    everything = 2 * 3 * (kernels + head + attention)
    assert flops.needed(config, tokens, seen, targets, kernels=False) == adapter
    assert flops.needed(config, tokens, seen, targets, kernels=True) == everything


def counted(f, *args):
    """What XLA says that the compiled function costs."""
    return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


@pytest.fixture(scope="module")
def shapes():
    abstract = parameters.abstract(WIDE, np.dtype("float32"))
    layers = abstract["layers"]

    def one(a):
        return jax.ShapeDtypeStruct(a.shape[1:], a.dtype)

    # Written out: XLA counts the body of a loop once.
    unstacked = tuple(jax.tree.map(one, layers) for _ in range(WIDE.layers))
    return {**abstract, "layers": unstacked}, jax.ShapeDtypeStruct((2, 128), np.int32)


def forward(weights, tokens):
    return transformer.head(WIDE, weights, transformer.forward(WIDE, weights, tokens))


def test_a_forward_pass_is_what_xla_counts(shapes):
    found = counted(forward, *shapes)
    # The masked half of attention is computed here: each token is given all 128.
    expected = flops.needed(WIDE, 256, 128, 256, kernels=True) / 3
    assert found == pytest.approx(expected, rel=0.03)
    assert found > expected  # norms, softmax and the like


@pytest.mark.parametrize("kernels", [True, False])
def test_its_gradients_are_what_xla_counts(shapes, kernels):
    """With respect to every kernel of the layers, or to the embeddings, which leaves those out."""
    weights, tokens = shapes
    config = dataclasses.replace(WIDE, tied=False)  # a head apart, frozen in both
    weights = {**weights, "head": weights["embed"]}
    name = "layers" if kernels else "embed"

    def loss(part, rest, tokens):
        whole = {**rest, name: part}
        x = transformer.forward(config, whole, tokens)
        return (transformer.head(config, whole, x) ** 2).sum()

    found = counted(jax.value_and_grad(loss), weights[name], weights, tokens)
    head = 2 * products(config, 256, 128, 256)[1]
    expected = flops.needed(config, 256, 128, 256, kernels) - (head if kernels else 0)
    assert found == pytest.approx(expected, rel=0.05)


def test_a_token_of_a_data_set_costs_its_share():
    """Rows of 3 + 2 and 1 + 1 tokens: 4 and 1 are read, 2 and 1 predicted, 10 and 1 pairs seen."""
    data = [
        examples.collect([examples.Example([1, 2, 3], [4, 5])], TINY),
        examples.collect([examples.Example([1], [2])], TINY),
    ]
    for kernels in (True, False):
        found = flops.per_token(TINY, data, kernels)
        assert found == pytest.approx(flops.needed(TINY, 5, 11 / 5, 3, kernels) / 5)
    alone = flops.per_token(TINY, data[:1], True)
    assert alone == pytest.approx(flops.needed(TINY, 4, 10 / 4, 2, True) / 4)
    shared = flops.per_token(TINY, data[:1], True, prefix=2)  # two tokens, which see 3 and 4
    assert shared == pytest.approx(flops.needed(TINY, 2, 7 / 2, 2, True) / 4)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
        ("Tesla T4", None),
    ],
)
def test_the_peak_is_that_of_the_longest_name_that_matches(kind, wanted):
    assert flops.peak(types.SimpleNamespace(device_kind=kind)) == wanted


def test_this_machine_s_cpu_has_no_known_peak():
    assert flops.peak(jax.devices()[0]) is None
