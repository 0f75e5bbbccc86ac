"""Parameters are chosen by their names in the checkpoint, and only those change."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.model import lora, parameters
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training import trainable
from sublim_jax.llm.training.trainable import Trainable
from sublim_jax.mesh import make_mesh
from tests.llm.lively import lively

CONFIG = dataclasses.replace(testing.TINY, layers=3)
UNTIED = dataclasses.replace(CONFIG, tied=False)
EVERY = (0, 1, 2)
KERNELS = {f"layers/{name}": EVERY for name in lora.KERNELS}
BIASES = {f"layers/{name}_bias": EVERY for name in "qkv"}
NORMS = {"layers/input_norm": EVERY, "layers/mlp_norm": EVERY, "norm": ()}
LAYERS = {p for p in {**KERNELS, **BIASES, **NORMS} if p.startswith("layers/")}
MLP = ("layers/gate", "layers/up", "layers/down")


@pytest.fixture(scope="module")
def model():
    return lively(UNTIED)


def chosen(*patterns, config=UNTIED):
    return trainable.selection(Trainable(None, patterns), config)


class TestChosen:
    @pytest.mark.parametrize(
        ("patterns", "wanted"),
        [
            (["*.bias"], BIASES),
            (["*norm*"], NORMS),
            (["*.bias", "*norm*"], {**BIASES, **NORMS}),
            (["model.layers.1.*"], dict.fromkeys(LAYERS, (1,))),
            (["model.layers.[02].mlp.*_proj.*"], dict.fromkeys(MLP, (0, 2))),
            (["model.layers.2.self_attn.k_proj.bias"], {"layers/k_bias": (2,)}),
            (["*.0.*o_proj*", "*.2.*o_proj*", "*.0.*"], None),
            (["model.embed_tokens.weight"], {"embed": ()}),
            (["lm_head.weight"], {"head": ()}),
            (["model.norm.weight"], {"norm": ()}),
            (["*"], {**KERNELS, **BIASES, **NORMS, "embed": (), "head": ()}),
            ([], {}),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )  # fmt: skip
    def test_a_pattern_chooses_by_the_names_of_a_checkpoint(self, patterns, wanted):
        what = Trainable(Lora(), tuple(patterns))
        found = trainable.selection(what, UNTIED)
        if wanted is None:  # patterns that overlap choose what any of them does
            assert found["layers/o"] == (0, 2)
            assert found["layers/q"] == (0,)
        else:
            assert found == wanted

    def test_paths_come_in_the_order_of_the_tree(self):
        flat = [
            p for p in trainable._flat(parameters.declare(UNTIED)) if p in BIASES or p == "embed"
        ]
        assert list(chosen("*.bias", "*embed*")) == flat

    @pytest.mark.parametrize("patterns", [("*.nose",), ("*", "*.nose"), ("*.Bias", "*.nose")])
    def test_a_pattern_that_matches_nothing_is_named_with_some_names(self, patterns):
        message = (
            r"pattern '.*(nose|Bias)' matches no parameter: there are .*layers.0.self_attn.q_p"
        )
        with pytest.raises(UserError, match=message) as error:
            chosen(*patterns)
        assert "\n" not in str(error.value)

    def test_a_tied_model_has_no_head_of_its_own_and_a_layer_more_is_none(self):
        for pattern in ("lm_head*", "model.layers.3.*"):
            with pytest.raises(UserError, match="matches no parameter"):
                chosen(pattern, config=CONFIG)

    def test_nothing_to_train_is_refused(self):
        with pytest.raises(UserError, match=r"nothing to train: give lora, or patterns"):
            Trainable()

    @pytest.mark.parametrize(
        ("patterns", "wanted"),
        [
            (("*",), True),
            (("*_proj.weight",), True),
            (("*.bias",), False),
            (("model.layers.[01].*",), False),
            (("*self_attn*",), False),
        ],
    )
    def test_all_kernels_is_whether_each_of_every_layer_is_trained(self, patterns, wanted):
        assert trainable.all_kernels(Trainable(None, patterns), UNTIED) == wanted
        assert not trainable.all_kernels(Trainable(Lora()), UNTIED)


SEED = np.uint32(4)
MIXED = Trainable(Lora(rank=2, targets=("q", "up")), ("*.1.*v_proj.*", "*embed*", "*q_proj.bias"))


class TestStart:
    def test_weights_are_the_base_s_chosen_layers_in_float32(self, model):
        rough = jax.tree.map(lambda w: w.astype(jnp.bfloat16), model.pure())
        trained, fixed = trainable.start(MIXED, UNTIED, rough, SEED)
        assert fixed == {}
        assert set(trained["weights"]) == {"layers/v", "layers/v_bias", "layers/q_bias", "embed"}
        exact = jax.tree.map(lambda w: np.asarray(w, np.float32), rough)
        wanted = {
            "layers/v": exact["layers"]["v"][1:2],
            "layers/v_bias": exact["layers"]["v_bias"][1:2],
            "layers/q_bias": exact["layers"]["q_bias"],
            "embed": exact["embed"],
        }
        chex.assert_trees_all_equal(trained["weights"], wanted)
        assert {a.dtype for a in jax.tree.leaves(trained)} == {jnp.dtype("float32")}
        factors = lora.initialise(dataclasses.replace(MIXED.lora, seed=4), UNTIED)
        chex.assert_trees_all_equal(trained["lora"], factors)

    def test_a_is_fixed_where_it_is_not_trained(self, model):
        what = Trainable(dataclasses.replace(MIXED.lora, train_a=False))
        trained, fixed = trainable.start(what, UNTIED, model.pure(), SEED)
        factors = lora.initialise(what.lora, UNTIED, SEED)
        assert trained["weights"] == {}
        chex.assert_trees_all_equal(trained["lora"], {n: {"b": f["b"]} for n, f in factors.items()})
        chex.assert_trees_all_equal(fixed, {n: {"a": f["a"]} for n, f in factors.items()})
        # Together they are the adapter again.
        _, adapter = trainable.bind(what, UNTIED, model.pure(), trained, fixed)
        chex.assert_trees_all_equal(adapter, lora.folded(what.lora, factors))


def moved(what, model, by=0.5):
    """What is trained, some way from where it began."""
    trained, fixed = trainable.start(what, model.config, model.pure(), SEED)
    return jax.tree.map(lambda a: a + by, trained), fixed


def differences(after, before):
    """{path: the layers that differ, () for an array of no layer}."""
    found = {}
    flat = trainable._flat(before)
    for path, value in trainable._flat(after).items():
        differs = np.asarray(value) != np.asarray(flat[path])
        if differs.any():
            layered = path.startswith("layers/")
            where = np.flatnonzero(differs.reshape(len(differs), -1).any(1)).tolist()
            found[path] = tuple(where) if layered else ()
    return found


class TestBind:
    @pytest.mark.parametrize(
        "patterns",
        [("*.bias",), ("*.layers.1.*",), ("*.[02].*norm*", "model.norm*"), ("*embed*",), ("*",)],
        ids=" ".join,
    )  # fmt: skip
    def test_what_is_trained_takes_its_place_and_nothing_else_changes(self, model, patterns):
        what = Trainable(None, patterns)
        base = model.pure()
        before = jax.tree.map(np.array, base)
        trained, fixed = moved(what, model)
        weights, adapter = trainable.bind(what, UNTIED, base, trained, fixed)
        assert adapter is None
        assert differences(weights, before) == trainable.selection(what, UNTIED)
        chex.assert_trees_all_equal(base, before)
        for path, layers in trainable.selection(what, UNTIED).items():
            new = np.asarray(trainable._flat(weights)[path])
            part = new[list(layers)] if layers else new
            np.testing.assert_array_equal(part, trained["weights"][path])

    def test_types_are_the_base_s(self, model):
        rough = jax.tree.map(lambda w: w.astype(jnp.bfloat16), model.pure())
        trained, _ = trainable.start(MIXED, UNTIED, rough, SEED)
        weights, adapter = trainable.bind(MIXED, UNTIED, rough, trained, {})
        chex.assert_trees_all_equal(weights, rough)
        assert adapter["q"]["a"].dtype == np.float32

    def test_the_adapter_has_its_scale_in_b(self, model):
        what = Trainable(Lora(rank=4, alpha=1.0, targets=("o",)))
        trained, _ = moved(what, model)
        _, adapter = trainable.bind(what, UNTIED, model.pure(), trained, {})
        factors = trained["lora"]["o"]
        np.testing.assert_array_equal(adapter["o"]["a"], factors["a"])
        np.testing.assert_allclose(adapter["o"]["b"], 0.25 * factors["b"])
        assert set(adapter["o"]) == {"a", "b"}

    def test_dropout_is_there_with_a_key_only_and_differs_by_kernel_and_layer(self, model):
        what = Trainable(Lora(rank=2, dropout=0.3, targets=("q", "k")))
        trained, fixed = moved(what, model)

        def keys(key):
            _, adapter = trainable.bind(what, UNTIED, model.pure(), trained, fixed, key)
            return [jax.random.key_data(f["dropout"][0]) for f in adapter.values()]

        _, plain = trainable.bind(what, UNTIED, model.pure(), trained, fixed)
        assert all(set(f) == {"a", "b"} for f in plain.values())
        tokens = jax.random.split(jax.random.key(0), (2, 3))
        every = np.concatenate(keys(tokens))
        assert every.shape == (2 * UNTIED.layers, 2, 3, 2)
        assert len(np.unique(every.reshape(-1, 2), axis=0)) == 2 * UNTIED.layers * 2 * 3
        np.testing.assert_array_equal(np.concatenate(keys(tokens[::-1])), every[:, ::-1])
        _, adapter = trainable.bind(what, UNTIED, model.pure(), trained, fixed, tokens)
        np.testing.assert_allclose(adapter["k"]["dropout"][1], [0.3] * 3)
        without = Trainable(dataclasses.replace(what.lora, dropout=0.0))
        _, bare = trainable.bind(without, UNTIED, model.pure(), trained, fixed, tokens)
        assert set(bare["q"]) == {"a", "b"}


@pytest.mark.parametrize(
    "what",
    [
        Trainable(Lora()),
        Trainable(Lora(train_a=False, targets=("v",))),
        MIXED,
        Trainable(None, ("*",)),
        Trainable(dataclasses.replace(MIXED.lora, train_a=False), ("*.2.*",)),
    ],
    ids=["lora", "b alone", "mixed", "everything", "b and a layer"],
)
def test_places_have_the_structure_of_what_is_trained(model, what):
    mesh = make_mesh(2, 2, 2)
    places = trainable.shardings(what, UNTIED, mesh)
    seeds = np.arange(2, dtype=np.uint32)
    made = jax.vmap(lambda s: trainable.start(what, UNTIED, model.pure(), s))(seeds)
    assert jax.tree.structure(places) == jax.tree.structure(made)

    def check(place, array):
        assert place.spec[0] == "student"
        assert len(place.spec) <= array.ndim
        parts = place.shard_shape(array.shape)  # an error where it does not divide
        assert parts[0] == 1

    jax.tree.map(check, places, made)
    if "layers/up" in places[0]["weights"]:
        spec = places[0]["weights"]["layers/up"].spec
        assert tuple(spec) == ("student", None, "data", "model")


@pytest.mark.parametrize("config", [CONFIG, UNTIED], ids=["tied", "untied"])
@pytest.mark.parametrize("patterns", [("*",), ("model.norm*",), ("*.bias",)], ids=" ".join)
def test_the_head_is_parted_into_what_is_trained_and_what_is_not(model, config, patterns):
    what = Trainable(None, patterns)
    base = {**model.pure()}
    if config.tied:
        del base["head"]
    trained, fixed = trainable.start(what, config, base, SEED)
    weights, _ = trainable.bind(what, config, base, trained, fixed)
    own, frozen = trainable.head_of(trained, weights)
    kernel = "embed" if config.tied else "head"
    assert (
        set(own) == {"*": {"norm", kernel}, "model.norm*": {"norm"}, "*.bias": set()}[patterns[0]]
    )
    assert set(own) | set(frozen) == {"norm", kernel}
    assert not set(own) & set(frozen)
    for name, value in own.items():
        assert value is trained["weights"][name]
    for name, value in frozen.items():
        assert value is weights[name]
