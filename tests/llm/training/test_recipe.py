"""Every choice of a fine-tune is checked when made; what needs no new program is known."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training.recipe import Recipe, from_config

HELD_OUT = {"held_out": 4, "evaluate_every": 2}


class TestFromConfig:
    def test_the_paper_s_student_is_the_default(self):
        assert from_config({}) == Recipe()
        r = Recipe()
        assert (r.lora.rank, r.lora.alpha, r.epochs, r.batch) == (8, 8.0, 3, 66)
        assert (r.learning_rate, r.schedule, r.warmup, r.clip) == (2e-4, "linear", 5, 1.0)
        assert dict(r.optimizer) == {"name": "adam"}

    def test_mappings_and_lists_become_what_a_recipe_holds(self):
        config = {
            "lora": {"rank": 4, "targets": ["q_proj", "v_proj"], "seed": [1, 2]},
            "parameters": ["*.bias"],
            "learning_rate": [1e-3, 1e-4],
            "seed": [3, 4],
            "tokens": [5, 6],
            "objective": "distillation",
            "optimizer": {"name": "sgd", "momentum": 0.9},
        }
        recipe = from_config(config)
        assert recipe == Recipe(
            lora=Lora(rank=4, targets=("q", "v"), seed=(1, 2)),
            parameters=("*.bias",),
            learning_rate=(1e-3, 1e-4),
            seed=(3, 4),
            tokens=(5, 6),
            objective="distillation",
            optimizer={"momentum": 0.9, "name": "sgd"},
        )
        assert isinstance(hash(recipe), int)

    @pytest.mark.parametrize("adapter", [None, {"rank": 0, "targets": ["q"]}])
    def test_the_adapter_may_be_left_out(self, adapter):
        recipe = from_config({"lora": adapter, "parameters": ["*"]})
        assert recipe.lora is None
        assert recipe.trainable.patterns == ("*",)

    def test_an_unknown_field_is_named(self):
        with pytest.raises(UserError, match=r"^config.recipe: no field 'batch_size'$"):
            from_config({"epochs": 1, "batch_size": 4})

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"lora": None}, r"lora=None: nothing to train: give"),
            ({"lora": {"rank": 0}}, r"lora=None: nothing to train"),
            ({"lora": {"rank": -1}}, r"lora.rank=-1: must be at least 1"),
            ({"lora": {"rnk": 4}}, r"lora: no field 'rnk'$"),
            ({"lora": {"targets": ["w"]}}, r"lora.targets=\['w'\]: choose from"),
            ({"epochs": 0}, r"epochs=0: must be at least 1"),
            ({"batch": 0}, r"batch=0: must be at least 1"),
            ({"micro_tokens": 0}, r"micro_tokens=0: must be at least 1"),
            ({"save_every": 0}, r"save_every=0: must be at least 1"),
            ({"log_every": -1}, r"log_every=-1: must be at least 1"),
            ({"max_steps": -1}, r"max_steps=-1: must be finite, and not negative"),
            ({"warmup": -1}, r"warmup=-1: must be finite, and not negative"),
            ({"held_out": -1}, r"held_out=-1: must be finite, and not negative"),
            ({"evaluate_every": -1}, r"evaluate_every=-1: must be finite, and"),
            ({"patience": -1}, r"patience=-1: must be finite, and not negative"),
            ({"clip": math.nan}, r"clip=nan: must be finite, and not negative"),
            ({"clip": -1.0}, r"clip=-1.0: must be finite, and not negative"),
            ({"clip": math.inf}, r"clip=inf: must be finite, and not negative"),
            ({"schedule": "step"}, r"schedule='step': choose one of linear, cosine, con"),
            ({"objective": "kl"}, r"objective='kl': choose one of cross_entropy, disti"),
            ({"remat": "all"}, r"remat='all': choose one of none, full$"),
            ({"tokens": [1, 2]}, r"tokens=\(1, 2\): a subset of tokens is for the obj"),
            ({"tokens": [1, 1], "objective": "distillation"}, r"tokens=.*: each token at"),
            ({"patience": 1}, r"patience=1: needs held_out rows and evaluate_every"),
            ({"patience": 1, "held_out": 3}, r"patience=1: needs held_out rows and"),
            ({"patience": 1, "evaluate_every": 3}, r"patience=1: needs held_out rows"),
            ({"optimizer": {"name": "adamant"}}, r"optimizer.name='adamant': optax has n"),
            ({"epochs": "3"}, r"epochs='3': must be int$"),
            ({"batch": 2.5}, r"batch=2.5: must be int$"),
            ({"epochs": True}, r"epochs=True: must be int$"),
            ({"warmup": None}, r"warmup=None: must be int$"),
            ({"clip": "1"}, r"clip='1': must be float$"),
            ({"schedule": 5}, r"schedule=5: must be str$"),
            ({"remat": 5}, r"remat=5: choose one of none, full$"),
            ({"tokens": "12"}, r"tokens='12': must be tuple\[int, ...\]$"),
            ({"parameters": 5}, r"parameters=5: must be tuple\[str, ...\]$"),
            ({"parameters": [5]}, r"parameters=\[5\]: must be tuple\[str, ...\]$"),
            ({"lora": 8}, r"lora=8: must be .*Lora \| None$"),
            ({"lora": {"rank": "8"}}, r"lora.rank='8': must be int$"),
            ({"seed": -1}, r"seed=-1: must be from 0 to below 2\^32$"),
            ({"seed": [0, 2**32]}, r"seed=\(0, 4294967296\): must be from 0 to bel"),
            ({"seed": 0.5}, r"seed=0.5: must be int \| tuple\[int, ...\]$"),
            ({"seed": [[1]]}, r"seed=\[\[1\]\]: must be int \| tuple\[int, ...\]$"),
            ({"learning_rate": math.nan}, r"learning_rate=nan: must be finite, and not ne"),
            ({"learning_rate": -1e-3}, r"learning_rate=-0.001: must be finite, and"),
            ({"learning_rate": [1, math.inf]}, r"learning_rate=\(1.0, inf\): must be fi"),
            ({"learning_rate": "1e-3"}, r"learning_rate='1e-3': must be float \| tuple\["),
            ({"learning_rate": np.zeros((3, 3))}, r"learning_rate=array.*: must be float"),
            ({"optimizer": 5}, r"optimizer=5: must be a name, or a name and arguments"),
            ({"optimizer": "adamant"}, r"optimizer.name='adamant': optax has no optimiser"),
            ({"optimizer": {"name": "sgd", "momentum": {1}}}, r"optimizer=.*: must be a "),
            ({"optimizer": {}}, r"optimizer.name='': optax has no optimiser"),
            ({"optimizer": {"name": "sgd", "nose": 1}}, r"optimizer: optax.sgd: .*'nose'"),
        ],
        ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
    )  # fmt: skip
    def test_a_bad_value_ends_in_one_line(self, config, message):
        with pytest.raises(UserError, match=rf"^config\.recipe(\.|: ){message}") as error:
            from_config(config)
        assert "\n" not in str(error.value)

    def test_numbers_are_python_s_and_one_pattern_is_a_tuple_of_it(self):
        given = {"clip": 1, "batch": np.int64(4), "learning_rate": [1, np.float32(0.5)]}
        recipe = from_config({**given, "seed": (3, np.uint32(4)), "parameters": "*.bias"})
        assert recipe.parameters == ("*.bias",)
        assert (recipe.clip, recipe.batch, recipe.learning_rate) == (1.0, 4, (1.0, 0.5))
        kinds = {type(x) for x in (recipe.clip, *recipe.learning_rate)}
        assert kinds == {float}
        assert {type(x) for x in (recipe.batch, *recipe.seed)} == {int}

    @pytest.mark.parametrize(
        "field", ["max_steps", "warmup", "clip", "held_out", "learning_rate", "seed"]
    )
    def test_nothing_of_it_is_allowed(self, field):
        assert getattr(from_config({field: 0}), field) == 0


class TestSeeds:
    def test_an_offset_moves_the_order_of_the_data_and_the_first_adapter(self):
        recipe = Recipe(seed=3, lora=Lora(seed=5)).of_seeds([0, 2])
        assert (recipe.seed, recipe.lora.seed) == ((3, 5), (5, 7))

    def test_an_a_that_is_not_trained_is_shared(self):
        recipe = Recipe(lora=Lora(seed=5, train_a=False)).of_seeds([0, 2])
        assert (recipe.seed, recipe.lora.seed) == ((0, 2), 5)

    def test_without_an_adapter_and_with_seeds_given(self):
        recipe = Recipe(lora=None, parameters=("*",)).of_seeds([1])
        assert (recipe.seed, recipe.lora) == ((1,), None)
        with pytest.raises(UserError, match=r"recipe.seed=\(1,\): one number is needed"):
            recipe.of_seeds([0])


FREE = {
    "learning_rate": (0.1, 0.2),
    "seed": (3, 4),
    "epochs": 9,
    "batch": 7,
    "max_steps": 5,
    "micro_tokens": 64,
    "save_every": 1,
    "log_every": 1,
    **HELD_OUT,
}
BOUND = {
    "lora": Lora(rank=2),
    "parameters": ("*.bias",),
    "objective": "distillation",
    "schedule": "cosine",
    "warmup": 6,
    "optimizer": {"name": "sgd"},
    "clip": 0.5,
    "remat": "full",
}


class TestCompiled:
    @pytest.mark.parametrize("field", FREE)
    def test_what_no_program_depends_on_is_left_out(self, field):
        recipe = dataclasses.replace(Recipe(), **{field: FREE[field]})
        assert recipe != Recipe()
        assert recipe.compiled() == Recipe().compiled()
        assert hash(recipe.compiled()) == hash(Recipe().compiled())

    @pytest.mark.parametrize("field", BOUND)
    def test_what_a_program_depends_on_stays(self, field):
        recipe = dataclasses.replace(Recipe(), **{field: BOUND[field]})
        assert recipe.compiled() != Recipe().compiled()
        expected = recipe.lora if field == "lora" else getattr(recipe, field)
        assert getattr(recipe.compiled(), field) == expected

    def test_the_adapter_s_seed_is_left_out_and_the_rest_of_it_stays(self):
        one = Recipe(lora=Lora(rank=3, dropout=0.1, seed=(4, 5)))
        assert one.compiled() == Recipe(lora=Lora(rank=3, dropout=0.1)).compiled()
        assert one.compiled() != Recipe(lora=Lora(rank=3)).compiled()
        assert one.trainable.lora == Lora(rank=3, dropout=0.1, seed=0)

    def test_with_patience_the_evaluations_stay(self):
        one, two = (Recipe(patience=p, **HELD_OUT).compiled() for p in (1, 2))
        assert (one.patience, one.held_out, one.evaluate_every) == (1, 4, 2)
        assert one != two

    def test_it_is_a_recipe_that_compiles_to_itself(self):
        for more in (
            FREE,
            BOUND,
            {"lora": None, "parameters": ("*",)},
            {"patience": 1, **HELD_OUT},
        ):
            once = dataclasses.replace(Recipe(), **more).compiled()
            assert once.compiled() == once


class TestOfEach:
    def test_one_number_is_for_all_and_a_tuple_for_each(self):
        recipe = Recipe(learning_rate=0.1, seed=(4, 5), lora=Lora(seed=(6, 7)))
        assert recipe.of_each("learning_rate", 2) == (0.1, 0.1)
        assert recipe.of_each("seed", 2) == (4, 5)
        assert recipe.of_each("lora.seed", 2) == (6, 7)
        assert Recipe(lora=Lora(seed=3)).of_each("lora.seed", 3) == (3, 3, 3)
        assert Recipe(lora=None, parameters=("*",)).of_each("lora.seed", 2) == (0, 0)

    @pytest.mark.parametrize("field", ["learning_rate", "seed", "lora.seed"])
    def test_another_number_of_values_is_refused(self, field):
        recipe = Recipe(learning_rate=(0.1, 0.2), seed=(1, 2), lora=Lora(seed=(1, 2)))
        with pytest.raises(UserError, match=rf"^recipe.{field}: 2 values for 3 students$"):
            recipe.of_each(field, 3)


def one_update(recipe, params, gradients):
    made = recipe.transformation()
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        return made.update(gradients, made.init(params), params)[0]


PARAMS = {"bias": jnp.full((2, 3), 2.0), "kernel": jnp.full((2, 4, 3), 2.0)}


def some_gradients():
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda p: draw.standard_normal(p.shape, np.float32), PARAMS)


class TestTransformation:
    @pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lion", "adafactor", "sign_sgd"])
    def test_names_are_optax_s_at_the_rate_one(self, name):
        gradients = some_gradients()
        change = one_update(Recipe(optimizer={"name": name}), PARAMS, gradients)
        home = getattr(optax, name)(learning_rate=1.0)
        with jax.numpy_dtype_promotion("standard"):
            expected, _ = home.update(gradients, home.init(PARAMS), PARAMS)
        jax.tree.map(np.testing.assert_array_equal, change, expected)
        assert np.any(change["kernel"])

    def test_arguments_are_passed_on_and_the_default_decays_nothing(self):
        zero = jax.tree.map(jnp.zeros_like, PARAMS)
        assert not np.any(one_update(Recipe(), PARAMS, zero)["kernel"])
        decays = Recipe(optimizer={"name": "adamw", "weight_decay": 0.25})
        np.testing.assert_allclose(one_update(decays, PARAMS, zero)["kernel"], -0.5)

    def test_muon_orthogonalises_each_layer_s_matrix_alone(self):
        recipe = Recipe(optimizer={"name": "muon", "nesterov": False})
        gradients = some_gradients()
        gradients["kernel"] *= np.float32([[[1, 1, 1], [1, 1, 9], [1, 1, 1], [5, 5, 5]]])
        change = one_update(recipe, PARAMS, gradients)
        for layer in range(2):
            found = np.linalg.svd(np.float64(change["kernel"][layer]), compute_uv=False)
            raw = np.linalg.svd(gradients["kernel"][layer], compute_uv=False)
            # Newton and Schulz's iteration makes them about equal.
            assert found.max() / found.min() < 2 < raw.max() / raw.min()
        louder = gradients | {"kernel": gradients["kernel"] * np.float32([[[1]], [[9]]])}
        other = one_update(recipe, PARAMS, louder)
        np.testing.assert_allclose(other["kernel"], change["kernel"], atol=1e-3)
        # What is not [L, in, out] is Adam's.
        assert np.abs(change["bias"]).min() == pytest.approx(1, rel=1e-2)

    def test_a_transformation_is_used_as_it_is(self):
        own = optax.scale(-3.0)
        recipe = Recipe(optimizer=own)
        assert recipe.transformation() is own
        assert recipe.compiled() == recipe
        assert hash(recipe.compiled()) == hash(Recipe(optimizer=own))

    def test_a_name_alone_is_an_optimiser(self):
        assert Recipe(optimizer="adamw") == Recipe(optimizer={"name": "adamw"})

    def test_lists_among_its_arguments_become_tuples(self, monkeypatch):
        given = []
        monkeypatch.setattr(
            optax, "listed", lambda **more: given.append(more) or optax.identity(), raising=False
        )
        recipe = Recipe(optimizer={"name": "listed", "axes": [1, [2]]})
        assert hash(recipe) == hash(Recipe(optimizer={"name": "listed", "axes": (1, (2,))}))
        assert given[0]["axes"] == (1, (2,))

    def test_a_mapping_and_pairs_say_the_same(self):
        pairs = (("name", "sgd"), ("momentum", 0.9))
        assert Recipe(optimizer=dict(pairs)).optimizer == tuple(sorted(pairs))
        assert Recipe(optimizer=dict(pairs)) == Recipe(optimizer=dict(reversed(pairs)))
        change = one_update(Recipe(optimizer=pairs), PARAMS, some_gradients())
        np.testing.assert_allclose(change["bias"], -some_gradients()["bias"])
