"""Adapters begin as they should, merge and stack, and are refused on another base."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, Sampler, testing
from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.lora import KERNELS, Adapter, Lora
from sublim_jax.llm.sampling.sampler import make_requests
from sublim_jax.mesh import make_mesh
from tests.llm.lively import lively

CONFIG = testing.TINY
INPUT = {"down": CONFIG.mlp}  # of a kernel; the others read the embedding or as many heads
TENSOR = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def model():
    return lively(CONFIG)


def an_adapter(seed=0, config=CONFIG, **spec):
    """An adapter that changes the logits by about as much as they vary."""
    own, draw = Lora(**spec), np.random.default_rng(seed)
    factors = jax.tree.map(
        lambda f: np.asarray(f) + 0.3 * draw.standard_normal(f.shape, np.float32),
        lora.initialise(own, config),
    )
    return Adapter(own, factors, "somebody/base")


def some_tokens(rows=2, width=12, seed=0):
    drawn = np.random.default_rng(seed).integers(0, CONFIG.vocab, (rows, width))
    return drawn.astype(np.int32)


@jax.jit
def _forward(weights, tokens, adapter, students):
    x = transformer.forward(CONFIG, weights, tokens, adapter=adapter, students_BT=students)
    return transformer.head(CONFIG, weights, x)


def logits(model, tokens, adapter=None, students=None):
    return np.asarray(_forward(model.pure(), tokens, adapter, students))


def alone(model, tokens, adapter):
    return logits(model, tokens, lora.folded(adapter.lora, adapter.factors))


def close(found, expected, tolerance=1e-5):
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


class TestFirstValues:
    @pytest.mark.parametrize("name", KERNELS)
    def test_a_is_uniform_within_one_over_the_root_of_its_inputs_and_b_zero(self, name):
        d_in = INPUT.get(name, CONFIG.embed)
        pair = lora.initialise(Lora(rank=16), CONFIG)[name]
        a, bound = np.asarray(pair["a"]), 1 / math.sqrt(d_in)
        assert a.shape == (CONFIG.layers, d_in, 16)
        assert a.dtype == pair["b"].dtype == np.float32
        assert 0.98 * bound < a.max() <= bound
        assert -0.98 * bound > a.min() >= -bound
        assert a.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert abs(a.mean()) < 0.1 * bound
        assert not np.any(pair["b"])
        assert pair["b"].shape[:2] == (CONFIG.layers, 16)

    def test_they_depend_on_the_seed_and_the_kernel_alone(self):
        every = lora.initialise(Lora(rank=4, seed=7), CONFIG)
        other = Lora(rank=4, alpha=1.0, targets=("down", "q"), rslora=True, dropout=0.5, seed=7)
        few = lora.initialise(other, CONFIG)
        assert set(few) == {"q", "down"}
        same(few, {name: every[name] for name in few})
        assert np.any(every["q"]["a"] != lora.initialise(Lora(rank=4, seed=8), CONFIG)["q"]["a"])
        # q and o have the same shape here, k and v too: a name is a stream of its own.
        for one, two in (("q", "o"), ("k", "v"), ("gate", "up")):
            assert every[one]["a"].shape == every[two]["a"].shape
            assert not np.any(every[one]["a"] == every[two]["a"])
        layers = np.asarray(every["q"]["a"])
        assert not np.any(layers[0] == layers[1])

    def test_a_traced_seed_gives_what_the_number_gives(self):
        spec = Lora(rank=2, targets=("q", "down"))
        seeds = np.array([0, 5, 2**32 - 1], np.uint32)
        together = jax.jit(jax.vmap(lambda seed: lora.initialise(spec, CONFIG, seed)))(seeds)
        for i, seed in enumerate(seeds.tolist()):
            one = jax.tree.map(lambda f, i=i: f[i], together)
            same(one, lora.initialise(dataclasses.replace(spec, seed=seed), CONFIG))


@pytest.mark.parametrize(("rslora", "scale"), [(False, 0.75), (True, 3.0)])
def test_the_scale_is_alpha_over_the_rank_or_over_its_root(model, rslora, scale):
    adapter = an_adapter(rank=16, alpha=12.0, targets=("v",), rslora=rslora)
    assert adapter.lora.scale == scale
    folded = lora.folded(adapter.lora, adapter.factors)
    same(folded["v"]["a"], adapter.factors["v"]["a"])
    np.testing.assert_allclose(folded["v"]["b"], adapter.factors["v"]["b"] * scale, rtol=1e-6)
    merged = model.merge(adapter).pure()["layers"]["v"]
    change = np.matmul(*(adapter.factors["v"][f].astype(np.float64) for f in "ab"))
    expected = np.asarray(model.pure()["layers"]["v"]) + scale * change
    close(np.asarray(merged), expected, 1e-6)


class TestMerging:
    def test_a_merged_model_computes_what_the_adapter_adds(self, model):
        adapter, tokens = an_adapter(rank=3, alpha=2.0), some_tokens()
        merged = model.merge(adapter)
        expected = alone(model, tokens, adapter)
        close(logits(merged, tokens), expected)
        assert np.abs(expected - logits(model, tokens)).max() > 0.1 * np.abs(expected).max()

    def test_only_the_adapted_kernels_change_and_the_model_given_does_not(self, model):
        before = jax.tree.map(np.array, model.pure())
        merged = model.merge(an_adapter(targets=("k", "up"))).pure()
        changed = {
            name for name, w in merged["layers"].items() if np.any(w != before["layers"][name])
        }
        assert changed == {"k", "up"}
        same({**merged, "layers": None}, {**before, "layers": None})
        same(model.pure(), before)

    def test_bfloat16_kernels_are_added_to_in_float32_and_keep_their_type(self):
        rough = lively(CONFIG)
        weights = jax.tree.map(lambda w: w.astype(jnp.bfloat16), rough.pure())
        adapter = an_adapter(rank=2, targets=("o",))
        found = Decoder(CONFIG, weights).merge(adapter).pure()["layers"]["o"]
        change = adapter.lora.scale * np.matmul(
            adapter.factors["o"]["a"], adapter.factors["o"]["b"]
        )
        expected = np.asarray(weights["layers"]["o"], np.float32) + change
        assert found.dtype == jnp.bfloat16
        # Half a unit of the last of 8 bits: the sum was rounded once.
        error = np.abs(np.asarray(found, np.float32) - expected)
        assert (error <= 2.0**-8 * (1 + 1e-3) * np.abs(expected)).all()

    def test_the_kernels_stay_where_they_lay_on_a_mesh(self, model):
        adapter = an_adapter()
        spread = lively(CONFIG, mesh=make_mesh(1, 2, 2))
        merged = spread.merge(adapter)
        assert merged.mesh is spread.mesh
        places = [jax.tree.map(lambda w: w.sharding, m.pure()) for m in (merged, spread)]
        assert places[0] == places[1]
        assert len(merged.pure()["layers"]["q"].addressable_shards[0].data[0]) == CONFIG.embed // 2
        expected = model.merge(adapter).pure()["layers"]
        for name in KERNELS:
            close(np.asarray(merged.pure()["layers"][name]), expected[name], 1e-6)

    def test_an_adapter_of_another_base_is_refused(self, model):
        wide = dataclasses.replace(CONFIG, mlp=96)
        with pytest.raises(UserError, match=r"^the adapter: made for another base: b of gate is "):
            model.merge(an_adapter(config=wide, targets=("gate",)))
        deep = dataclasses.replace(CONFIG, layers=3)
        with pytest.raises(
            UserError, match=r"a of q is \[3, 32, 8\], this model wants \[2, 32, 8\]"
        ):
            model.merge(an_adapter(config=deep, targets=("q",)))


class TestStack:
    """Adapters of other ranks, scales and kernels, together."""

    adapters = (
        an_adapter(1, rank=2, alpha=1.0, targets=("q", "down")),
        an_adapter(2, rank=5, targets=("v", "q", "o")),
        an_adapter(3, rank=1, rslora=True, alpha=0.5, targets=("gate",)),
    )

    def test_its_shape_holds_the_widest_and_every_kernel(self):
        tree = lora.stack(self.adapters)
        assert set(tree) == {"q", "v", "o", "gate", "down"}
        assert tree["q"]["a"].shape == (CONFIG.layers, 3, CONFIG.embed, 5)
        assert tree["down"]["b"].shape == (CONFIG.layers, 3, 5, CONFIG.embed)
        assert not np.any(tree["down"]["a"][:, 1:])
        assert not np.any(tree["q"]["b"][:, 0, 2:])

    def test_each_row_is_that_of_its_adapter_alone(self, model):
        tokens = some_tokens(4)
        students = np.array([2, 0, 1, 0], np.int32)
        tree = lora.stack(self.adapters)
        found = logits(model, tokens, tree, np.repeat(students[:, None], tokens.shape[1], 1))
        for i, student in enumerate(students):
            close(found[i], alone(model, tokens, self.adapters[student])[i])
        assert np.abs(found - logits(model, tokens)).max((1, 2)).min() > 0.05

    @pytest.mark.slow
    def test_the_sampler_writes_with_each_what_it_writes_with_it_alone(self, model):
        prompts = [row.tolist() for row in some_tokens(3, 6)]
        sampler = Sampler(model)

        def drawn(adapters, students):
            requests = make_requests(prompts, 1, 8, students)
            found = sampler.stream(requests, 1.0, adapter=lora.stack(adapters), logprobs=True)
            return sorted(found, key=lambda sample: sample.id)

        together = drawn(self.adapters, [0, 1, 0])
        texts = set()
        for student, adapter in enumerate(self.adapters[:2]):
            every = drawn([adapter], [0, 0, 0])
            one = every[student]
            assert together[student].tokens == one.tokens
            np.testing.assert_allclose(together[student].logprobs, one.logprobs, atol=1e-4)
            texts.add(str(every[0].tokens))
        assert len(texts) == 2  # each adapter writes its own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, r"lora.rank=0: must be at least 1"),
        ({"dropout": 1.0}, r"lora.dropout=1.0: must be from 0 to below 1"),
        ({"dropout": -0.1}, r"lora.dropout=-0.1: must be"),
        ({"dropout": math.nan}, r"lora.dropout=nan: must be"),
        ({"alpha": math.nan}, r"^lora.alpha=nan: must be finite$"),
        ({"alpha": math.inf}, r"^lora.alpha=inf: must be finite$"),
        ({"alpha": 10**400}, r"^lora.alpha=10+: must be float$"),
        ({"rank": "8"}, r"^lora.rank='8': must be int$"),
        ({"rank": True}, r"^lora.rank=True: must be int$"),
        ({"dropout": None}, r"^lora.dropout=None: must be float$"),
        ({"train_a": "no"}, r"^lora.train_a='no': must be bool$"),
        ({"seed": 1.5}, r"^lora.seed=1.5: must be int \| tuple\[int, ...\]$"),
        ({"seed": -1}, r"^lora.seed=-1: must be from 0 to below 2\^32$"),
        ({"seed": (0, 2**32)}, r"^lora.seed=\(0, 4294967296\): must be from 0 to below 2\^32$"),
        ({"seed": 2**99}, r"^lora.seed=\d+: must be from 0 to below 2\^32$"),
        ({"seed": np.zeros((3, 3))}, r"^lora.seed=array.*: must be int"),
        ({"targets": 5}, r"^lora.targets=5: must be tuple\[str, ...\]$"),
        ({"targets": (5,)}, r"^lora.targets=\(5,\): must be tuple\[str, ...\]$"),
        ({"targets": ()}, r"lora.targets=\[\]: choose from q, k, v, o, gate, up, down, each"),
        ({"targets": ("q", "w")}, r"lora.targets=\['q', 'w'\]: choose from"),
        ({"targets": ("q", "q_proj")}, r"lora.targets=\['q', 'q'\]: choose from .* at most once"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        Lora(**arguments)
    assert "\n" not in str(error.value)


def test_lists_become_tuples_and_numpy_s_numbers_python_s():
    given = {"rank": np.int64(4), "alpha": np.float32(2), "targets": "q", "seed": [1, np.uint32(2)]}
    made = Lora(**given)
    assert made == Lora(rank=4, alpha=2.0, targets=("q",), seed=(1, 2))
    assert hash(made) == hash(Lora(rank=4, alpha=2, targets=("q",), seed=(1, 2)))
    assert (type(made.rank), type(made.alpha), type(made.seed[1])) == (int, float, int)
    assert Lora(seed=2**32 - 1).seed == 2**32 - 1


def test_peft_s_names_of_kernels_are_understood():
    assert Lora(targets=["q_proj", "down"]).targets == ("q", "down")
    assert hash(Lora(targets=["q_proj"])) == hash(Lora(targets=("q",)))
