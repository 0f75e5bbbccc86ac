"""Students that learn: what the loss is, who their neighbours are, what stops them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, testing
from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training import batches, examples, finetune, step, trained
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import in_mesh, make_mesh
from tests.llm.lively import full_forward, lively

CONFIG = dataclasses.replace(testing.TINY, tied=False)
QUICK = Recipe(
    lora=Lora(rank=2, targets=("q", "down")), batch=4, epochs=1, warmup=0, learning_rate=0.01
)


@pytest.fixture(scope="module")
def model():
    return lively(CONFIG)


@pytest.fixture(scope="module")
def four():
    return lively(dataclasses.replace(CONFIG, layers=4))


def rows(n=10, seed=0, longest=24):
    draw = np.random.default_rng(seed)
    return [
        examples.Example(
            draw.integers(0, CONFIG.vocab, draw.integers(2, longest)).tolist(),
            draw.integers(0, CONFIG.vocab, draw.integers(1, longest // 2)).tolist(),
        )
        for _ in range(n)
    ]


def data(n=10, seed=0, **more):
    return examples.collect(rows(n, seed, **more), CONFIG)


def change(recipe, **more):
    return dataclasses.replace(recipe, **more)


def same(a, b, atol=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def factors(students):
    return [s.adapter.factors for s in students]


def test_the_loss_is_the_mean_over_all_completion_tokens_of_the_step(model):
    own = rows(7)
    logs = np.concatenate([full_forward(model, r.prompt, r.completion) for r in own])
    for micro in (64, 512):
        recipe = change(QUICK, batch=7, max_steps=1, micro_tokens=micro)
        outcome = finetune.fit(model, examples.collect(own, CONFIG), recipe)
        assert outcome.loss[0] == pytest.approx(-logs.mean(), abs=1e-5)


def test_a_student_of_a_bfloat16_base_learns_what_one_of_float32_does(model):
    half = Decoder(CONFIG, jax.tree.map(lambda a: a.astype(jnp.bfloat16), model.pure()))
    exact = Decoder(CONFIG, jax.tree.map(lambda a: a.astype(jnp.float32), half.pure()))
    recipe = change(QUICK, lora=Lora(rank=4), batch=7, epochs=3, optimizer={"name": "sgd"})
    learnt = [
        finetune.fit(one, data(7), change(recipe, learning_rate=1.0)) for one in (half, exact)
    ]
    for one, other in zip(*(jax.tree.leaves(factors(own.students)) for own in learnt), strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - other).max() < 0.05 * np.abs(other).max() + 1e-4
    assert learnt[0].loss == pytest.approx(learnt[1].loss, rel=5e-3)


def test_weights_choose_the_tokens_that_count(model):
    own = [r._replace(weights=[float(i % 3) for i in range(len(r.completion))]) for r in rows(5)]
    logs = np.concatenate([full_forward(model, r.prompt, r.completion) for r in own])
    weights = np.concatenate([r.weights for r in own])
    found = finetune.fit(model, examples.collect(own, CONFIG), change(QUICK, batch=5)).loss[0]
    assert found == pytest.approx(-(logs * weights).sum() / weights.sum(), abs=1e-5)


def test_the_tokens_of_a_pass_are_those_of_all_students_it_has_at_once(model, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    recipe = change(QUICK, batch=64, micro_tokens=512)
    sizes = []
    for students in (1, 4):
        given = [data(64, seed) for seed in range(students)]
        plan, _ = finetune._plans(model, recipe, given, [], range(students), [1] * students)
        sizes.append(plan.rows * plan.width)
    assert 512 / 4 < sizes[0] <= 512
    assert sizes[1] <= 512 / 4


def test_micro_batches_change_nothing_but_rounding(model):
    """Nor which tokens dropout leaves out."""
    recipe = change(QUICK, lora=change(QUICK.lora, dropout=0.5), batch=12, epochs=2)
    few, many = (finetune.fit(model, data(12), change(recipe, micro_tokens=m)) for m in (64, 1024))
    same(factors(few.students), factors(many.students), atol=2e-6)


class TestLayers:
    recipe = change(
        QUICK, lora=change(QUICK.lora, dropout=0.2), epochs=2, clip=0.0, optimizer={"name": "sgd"}
    )

    def fit(self, model, layers, sets=None, **more):
        recipe = change(self.recipe, lora=change(self.recipe.lora, layers=layers), **more)
        return finetune.fit(model, sets or data(9), recipe)

    @pytest.mark.parametrize("layers", [(2, 3), (1, 3), (0, 3), (0, 1, 2, 3)])
    def test_the_gradient_of_a_layer_does_not_depend_on_the_other_layers(self, four, layers):
        how = {"max_steps": 1, "learning_rate": 1.0, "schedule": "constant"}  # b is its gradient
        few, every = (self.fit(four, some, **how) for some in (layers, ()))
        for name, factors in few.students[0].adapter.factors.items():
            wanted = every.students[0].adapter.factors[name]["b"].copy()
            assert np.abs(wanted).max() > 1e-2
            wanted[[layer for layer in range(4) if layer not in layers]] = 0
            np.testing.assert_allclose(factors["b"], wanted, rtol=0, atol=1e-6)

    def test_what_lies_below_is_computed_once_for_all_epochs_and_students(self, four, monkeypatch):
        shared = data(9, 1)
        sets, how = [shared, data(7, 2), shared], {"held_out": 2, "evaluate_every": 1}
        computed = []
        below = step.below
        monkeypatch.setattr(step, "below", lambda *a: computed.append(a[2]) or below(*a))
        kept = self.fit(four, (2, 3), sets, **how)
        read = sum(int((rows.segments > 0).sum()) for rows in computed)
        assert read == sum(int((own.lengths - 1).sum()) for own in sets)  # held-out rows among them
        computed.clear()
        self.fit(four, (2, 3), sets, max_steps=1)
        read = sum(int((rows.segments > 0).sum()) for rows in computed)
        assert read == sum(int((own.lengths - 1).sum()) for own in sets[:2])
        monkeypatch.setattr(finetune, "_MOST_BELOW", 0)
        computed.clear()
        anew = self.fit(four, (2, 3), sets, **how)
        assert not computed
        same(factors(kept.students), factors(anew.students), atol=1e-6)
        assert kept.held_out == pytest.approx(anew.held_out, abs=1e-6)

    def test_nothing_is_kept_where_what_lies_below_learns_too(self, four, monkeypatch):
        monkeypatch.setattr(step, "below", None)
        both = self.fit(four, (2, 3), parameters=("model.layers.0.*norm*",))
        assert both.students[0].weights

    def test_some_students_have_teachers_with_prompts_of_their_own(self, four):
        plain = rows(7, 3)
        asked = [r._replace(teacher_prompt=[5, *r.prompt]) for r in plain]
        sets = [examples.collect(some, CONFIG) for some in (plain, asked)]
        how = {"objective": "distillation", "max_steps": 1}
        both = self.fit_teacher(four, sets, **how)
        alone = [self.fit_teacher(four, [own], **how) for own in sets]
        for learnt, one in zip(both.students, alone, strict=True):
            same(learnt.adapter.factors, one.students[0].adapter.factors, atol=1e-6)

    def fit_teacher(self, model, sets, **more):
        teachers = [an_adapter(config=model.config)] * len(sets)
        recipe = change(self.recipe, lora=change(self.recipe.lora, layers=(2, 3)), **more)
        return finetune.fit(model, sets, recipe, teacher=teachers)

    def test_an_adapter_of_other_layers_is_no_start(self, four):
        learnt = self.fit(four, ()).students
        recipe = change(self.recipe, lora=change(self.recipe.lora, layers=(2, 3)))
        with pytest.raises(UserError, match=r"start 0: it adapts layers that the recipe's lora"):
            finetune.fit(four, data(9), recipe, start=learnt)

    def test_layers_that_are_not_adapted_are_zero_whatever_the_optimiser_does(self, four):
        noisy = {"name": "noisy_sgd", "eta": 1.0, "gamma": 0.5, "key": 0}
        for factors in self.fit(four, (2, 3), optimizer=noisy).students[0].adapter.factors.values():
            assert not np.any(factors["b"][:2])
            assert np.any(factors["b"][2:])

    def test_layers_that_are_not_there(self, four):
        with pytest.raises(UserError, match=r"lora.layers: 4 is none of the model's 4, from 0"):
            self.fit(four, (3, 4))
        with pytest.raises(UserError, match=r"lora.layers=\[3, 1\]: list layers from 0 on"):
            self.fit(four, (3, 1))


@pytest.mark.parametrize(
    ("students", "layers", "tiled"),
    [(1, (), False), pytest.param(2, (), True, marks=pytest.mark.slow), (2, (2, 3), True)],
)
def test_a_prefix_read_once_a_row_changes_nothing_but_rounding(
    four, monkeypatch, students, layers, tiled
):
    recipe = change(QUICK, clip=0.0, optimizer={"name": "sgd"}, learning_rate=1.0, max_steps=2)
    recipe = change(recipe, batch=12, micro_tokens=512 if tiled else 256)
    recipe = change(recipe, lora=Lora(rank=2, layers=layers), held_out=2, evaluate_every=1)
    longest = 40 if tiled else 24
    begins = [list(range(20, 39 + s)) for s in range(students)]  # to lengths of 16
    sets = [
        examples.collect(
            [r._replace(prompt=[*begin, *r.prompt]) for r in rows(20, s, longest)], CONFIG
        )
        for s, begin in enumerate(begins)
    ]
    programs = []
    first = step.first_state
    monkeypatch.setattr(step, "first_state", lambda *a: programs.append(a[0]) or first(*a))
    shared = finetune.fit(four, sets, recipe)
    monkeypatch.setattr(batches, "_SHARED", 1000)
    apart = finetune.fit(four, sets, recipe)
    assert [p.prefix for p in programs] == [16, 0]
    assert bool(programs[0].tile) == tiled
    for one, other in zip(
        *(jax.tree.leaves(factors(o.students)) for o in (shared, apart)), strict=True
    ):
        assert np.abs(one - other).max() <= 2e-5 * np.abs(other).max()  # after two steps
    np.testing.assert_allclose(
        shared.loss + shared.held_out, apart.loss + apart.held_out, rtol=1e-6
    )
    assert shared.tokens == apart.tokens


def test_dropout_of_a_prefix_is_each_example_s_own(model, monkeypatch):
    seen = []
    plan = batches.make_plan
    monkeypatch.setattr(batches, "make_plan", lambda *a: seen.append(plan(*a)) or seen[-1])
    own = examples.collect([r._replace(prompt=[*range(20), *r.prompt]) for r in rows(4)], CONFIG)
    for dropout in (0.0, 0.1):
        finetune._plans(
            model, change(QUICK, lora=Lora(rank=2, dropout=dropout)), [own], [], [0], [1]
        )
    assert [one.prefix for one in seen] == [16, 0]


def test_students_together_are_the_students_alone(model):
    sets = [data(9, 1), data(6, 2, longest=40), data(3, 3)]
    recipe = change(QUICK, epochs=2, learning_rate=(0.01, 0.02, 0.003), seed=(5, 6, 7))
    recipe = change(recipe, lora=change(recipe.lora, seed=(1, 1, 2), dropout=0.2))
    together = finetune.fit(model, sets, recipe)
    assert together.steps == [6, 4, 2]
    for s, own in enumerate(sets):
        one = change(recipe, learning_rate=recipe.learning_rate[s], seed=recipe.seed[s])
        one = change(one, lora=change(recipe.lora, seed=recipe.lora.seed[s]))
        alone = finetune.fit(model, own, one)
        assert alone.loss[0] == pytest.approx(together.loss[s], abs=1e-5)
        same(alone.students[0].adapter.factors, together.students[s].adapter.factors, atol=1e-5)
        assert together.students[s].adapter.lora.seed == one.lora.seed


def test_students_as_one_batch_are_the_students_in_turn(model, monkeypatch):
    """A CPU computes one after the other; this is what accelerators do."""
    sets, recipe = [data(8, 1), data(6, 2)], change(QUICK, epochs=2)
    in_turn = finetune.fit(model, sets, recipe)
    with monkeypatch.context() as patched:
        patched.setattr(step.jax, "default_backend", lambda: "gpu")
        step.train_step.clear_cache()
        assert not step.train_step._cache_size()
        batched = finetune.fit(model, sets, recipe)
        assert step.train_step._cache_size()  # it was compiled anew, as for a GPU
    step.train_step.clear_cache()
    assert batched.loss == pytest.approx(in_turn.loss, abs=1e-5)
    same(factors(batched.students), factors(in_turn.students), atol=1e-5)


def test_a_neighbour_that_breaks_changes_no_bit_of_the_others(model):
    good = [data(8, 1), data(8, 2), data(8, 3)]
    broken = examples.collect(
        [r._replace(weights=[3e38] * len(r.completion)) for r in rows(8, 2)], CONFIG
    )
    recipe = change(QUICK, epochs=3)
    whole = finetune.fit(model, good, recipe)
    hurt = finetune.fit(model, [good[0], broken, good[2]], recipe)
    assert hurt.broken == [False, True, False]
    assert hurt.steps == [6, 0, 6]
    for s in (0, 2):
        same(whole.students[s].adapter.factors, hurt.students[s].adapter.factors)
    same(hurt.students[1].adapter.factors, lora.initialise(recipe.lora, CONFIG))
    with pytest.raises(UserError, match="not finite: student 0 at step 0"):
        finetune.train(model, broken, recipe)


@pytest.mark.parametrize(
    ("what", "cut", "students"),
    [
        ("lora", (8, 1, 1), 3),  # more are computed than there are
        pytest.param("lora", (2, 2, 2), 3, marks=pytest.mark.slow),
        *[
            pytest.param(what, cut, 4, marks=pytest.mark.slow)
            for what, cuts in (
                ("lora", [(1, 8, 1), (4, 1, 2)]),
                ("all", [(2, 2, 2), (1, 8, 1), (4, 1, 2)]),
            )
            for cut in cuts
        ],
    ],
)
def test_every_mesh_gives_what_one_device_gives(model, what, cut, students):
    recipe = change(QUICK, lora=Lora(rank=2, dropout=0.2), epochs=1)
    if what == "all":
        recipe = change(recipe, lora=None, parameters=("*",), learning_rate=1e-3)
    sets = [data(8, s) for s in range(students)]
    one = finetune.fit(model, sets, recipe)
    mesh = make_mesh(*cut)
    spread = lively(CONFIG, mesh=mesh)
    several = finetune.fit(spread, sets, recipe)
    assert several.loss == pytest.approx(one.loss, abs=2e-5)
    if what == "lora":
        same(factors(several.students), factors(one.students), atol=1e-4)


def test_the_state_is_spread_over_the_mesh(model):
    mesh = make_mesh(2, 2, 2)
    spread = lively(CONFIG, mesh=mesh)
    recipe = Recipe(lora=None, parameters=("*",))
    program = step.Program(CONFIG, recipe.compiled(), 64, mesh=mesh)
    with in_mesh(mesh):
        state, _ = step.first_state(program, spread.pure(), np.zeros(4, np.uint32))
    for tree in (state.trained, state.optimizer[0].mu):
        q = tree["weights"]["layers/q"]
        assert {s.data.shape for s in q.addressable_shards} == {(2, 2, 16, 16)}


def test_no_array_of_a_step_holds_the_logits_of_all_positions(model):
    config = dataclasses.replace(CONFIG, vocab=4096)
    wide = Decoder.init(config)
    recipe = change(QUICK, micro_tokens=2048).compiled()
    plan = batches.make_plan([data(90)], [0], 90, [1], 2048, 256)
    program = step.Program(config, recipe, plan.chunk, plan.tile)
    assert plan.rows * plan.width >= 4 * program.chunk
    state, fixed = step.first_state(program, wide.pure(), np.zeros(1, np.uint32))
    one = np.ones(1, np.float32)
    steps, seeds = np.ones(1, np.int32), np.zeros(1, np.uint32)
    given = step.Inputs(wide.pure(), fixed, None, one, steps, seeds)
    jaxpr = jax.make_jaxpr(step.train_step, static_argnums=0)(program, given, state, plan.at(0))
    largest = max(_sizes(jaxpr.jaxpr))
    assert largest >= program.chunk * config.vocab
    assert largest < plan.rows * plan.width * config.vocab


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars if hasattr(v.aval, "size"))
        for sub in jaxprs_in_params(equation.params):
            yield from _sizes(sub)


@pytest.mark.parametrize("patience", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_all_steps_of_all_trainings_of_one_shape_are_one_program(model, patience):
    recipe = change(QUICK, lora=Lora(rank=3), held_out=2, evaluate_every=1, patience=patience)
    own = examples.collect([examples.Example([n, 7, n], [9, n]) for n in range(10)], CONFIG)
    before = [f._cache_size() for f in (step.train_step, step.evaluate)]
    finetune.train(model, own, recipe)
    again = change(recipe, learning_rate=0.5, seed=4, epochs=2, lora=Lora(rank=3, seed=9))
    finetune.train(model, own, again)
    assert [f._cache_size() for f in (step.train_step, step.evaluate)] == [n + 1 for n in before]


def distil(model, own, teacher, **more):
    recipe = change(QUICK, objective="distillation", batch=len(own), max_steps=1, **more)
    return finetune.fit(model, examples.collect(own, CONFIG), recipe, teacher=teacher)


def logits_of(model, prompt, completion, adapter=None):
    tokens = np.array([[*prompt, *completion]], np.int32)
    tree = None if adapter is None else lora.folded(adapter.lora, adapter.factors)
    x = transformer.forward(CONFIG, model.pure(), tokens, adapter=tree)
    logits = transformer.head(CONFIG, model.pure(), x)[0]
    return np.asarray(logits, np.float64)[len(prompt) - 1 : -1]


def kl(p, q):
    p, q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (p, q))
    return (np.exp(p) * (p - q)).sum(-1)


def an_adapter(seed=3, config=CONFIG):
    spec = Lora(rank=2)
    draw = np.random.default_rng(seed)
    start = lora.initialise(spec, config)
    noisy = jax.tree.map(lambda f: f + 0.2 * draw.standard_normal(f.shape, np.float32), start)
    return lora.Adapter(spec, noisy)


@pytest.mark.parametrize("tokens", [pytest.param((), marks=pytest.mark.slow), (3, 200, 7, 50)])
def test_distillation_is_the_divergence_from_the_teacher(model, tokens):
    teacher = an_adapter()
    own = [r._replace(teacher_prompt=[1, 2, 3, *r.prompt]) for r in rows(5)]
    own[2] = own[2]._replace(teacher_prompt=None)
    chosen = list(tokens) or slice(None)
    expected = np.concatenate(
        [
            kl(
                logits_of(model, r.teacher_prompt or r.prompt, r.completion, teacher)[:, chosen],
                logits_of(model, r.prompt, r.completion)[:, chosen],
            )
            for r in own
        ]
    )
    found = distil(model, own, [teacher], tokens=tokens)
    assert found.loss[0] == pytest.approx(expected.mean(), rel=1e-4)


def test_each_student_may_imitate_a_model_of_its_own(model):
    teachers = [model.merge(an_adapter(seed)) for seed in (3, 4)]
    own = rows(5)
    recipe = change(QUICK, objective="distillation", tokens=(3, 200, 7, 50), batch=5, max_steps=1)
    given = examples.collect(own, CONFIG)
    found = finetune.fit(model, [given, given], recipe, teacher=teachers).loss
    chosen = list(recipe.tokens)
    for loss, teacher in zip(found, teachers, strict=True):
        apart = [
            kl(*(logits_of(one, r.prompt, r.completion)[:, chosen] for one in (teacher, model)))
            for r in own
        ]
        assert loss == pytest.approx(np.concatenate(apart).mean(), rel=1e-4)
    assert abs(found[0] - found[1]) > 0.01
    other = Decoder.init(dataclasses.replace(CONFIG, layers=1))
    with pytest.raises(UserError, match=r"^the teachers differ in shape"):
        finetune.fit(model, [given, given], recipe, teacher=[model, other])


@pytest.mark.slow
def test_distillation_from_a_model_learns_its_distribution(model):
    teacher = model.merge(an_adapter())
    own = rows(6)
    recipe = change(QUICK, objective="distillation", lora=Lora(rank=8), epochs=60, batch=6)
    data = examples.collect(own, CONFIG)
    outcome = finetune.fit(model, data, change(recipe, learning_rate=0.03), teacher=teacher)
    start = distil(model, own, teacher).loss[0]
    assert start > 0.3
    assert outcome.loss[0] < 0.1 * start
    assert distil(model, own, model).loss[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("train_a", [True, False])
def test_only_what_is_chosen_is_trained(model, train_a):
    spec = Lora(rank=2, targets=("v",), train_a=train_a)
    recipe = change(QUICK, lora=spec, parameters=("*.1.*norm*", "lm_head*"), batch=10)
    (learnt,) = finetune.train(model, data(10), recipe)
    start = lora.initialise(spec, CONFIG)
    assert np.any(learnt.adapter.factors["v"]["b"])
    moved = np.any(learnt.adapter.factors["v"]["a"] != start["v"]["a"])
    assert not moved  # b was zero before this one step
    assert set(learnt.weights) == {"layers/input_norm", "layers/mlp_norm", "head"}
    assert learnt.weights["layers/mlp_norm"].shape == (1, CONFIG.embed)
    before, after = model.pure(), learnt.apply(model).pure()
    differ = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    differ["layers"]["mlp_norm"] = np.any(
        before["layers"]["mlp_norm"] != after["layers"]["mlp_norm"], axis=1
    ).tolist()
    assert differ.pop("layers")["mlp_norm"] == [False, True]
    assert differ == {"embed": False, "norm": False, "head": True}


@pytest.mark.slow
def test_a_frozen_a_stays_and_a_trained_one_moves(model):
    for train_a in (True, False):
        spec = Lora(rank=2, targets=("v",), train_a=train_a)
        (learnt,) = finetune.train(model, data(10), change(QUICK, lora=spec))
        moved = np.any(learnt.adapter.factors["v"]["a"] != lora.initialise(spec, CONFIG)["v"]["a"])
        assert moved == train_a


def test_training_everything_in_bfloat16_keeps_float32_masters():
    rough = Decoder.init(CONFIG, dtype="bfloat16")
    recipe = change(QUICK, lora=None, parameters=("*",), learning_rate=1e-5, epochs=3)
    (learnt,) = finetune.train(rough, data(10), recipe)
    change_of = learnt.weights["layers/q"] - np.asarray(rough.pure()["layers"]["q"], np.float32)
    assert learnt.weights["layers/q"].dtype == np.float32
    assert 0 < np.abs(change_of).max() < 1e-4  # most would be lost in bfloat16
    assert learnt.apply(rough).pure()["layers"]["q"].dtype == jnp.bfloat16


@pytest.mark.slow
def test_dropout_is_drawn_anew_each_step_and_the_same_in_each_run(model):
    spec = Lora(rank=2, dropout=0.5)
    recipe = change(QUICK, lora=spec, learning_rate=0.05, epochs=3)
    first, again = (finetune.train(model, data(10), recipe)[0].adapter.factors for _ in range(2))
    same(first, again)
    plain = finetune.train(model, data(10), change(recipe, lora=Lora(rank=2)))[0].adapter.factors
    other = finetune.train(model, data(10), change(recipe, seed=1))[0].adapter.factors
    assert np.abs(plain["q"]["b"] - first["q"]["b"]).max() > 1e-3
    assert np.abs(other["q"]["b"] - first["q"]["b"]).max() > 1e-3


@pytest.mark.parametrize(
    "name",
    [
        "muon",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("adamw", "sgd", "sign_sgd", "lion")),
    ],
)
def test_optimisers_learn(model, name):
    rate = {"sgd": 0.5, "muon": 0.05}.get(name, 0.01)
    recipe = change(QUICK, optimizer={"name": name}, learning_rate=rate, epochs=15, batch=6)
    outcome = finetune.fit(model, data(6), recipe)
    start = finetune.fit(model, data(6), change(recipe, max_steps=1)).loss[0]
    assert outcome.loss[0] < start - 0.3


@pytest.mark.slow
def test_a_student_out_of_patience_stops_and_keeps_its_best(model, tmp_path):
    """One that learns noise by heart gets worse on what it does not see; its neighbour does not."""
    same_row = [rows(1)[0]] * 16
    sets = [data(16, 1), examples.collect(same_row, CONFIG)]
    recipe = change(
        QUICK, lora=Lora(rank=8), held_out=6, evaluate_every=2, patience=2, epochs=20, batch=10,
        learning_rate=0.05, schedule="constant",
    )  # fmt: skip
    outcome = finetune.fit(model, sets, recipe, tmp_path)
    assert outcome.steps[0] < outcome.steps[1] == 20
    assert outcome.broken == [False, False]
    _, *held = [x["held_out_loss"][0] for x in metrics(tmp_path) if "held_out_loss" in x]
    best = int(np.argmin(held))
    assert outcome.steps[0] == 2 * (best + 1 + 2)
    # What it returns is the state of that evaluation.
    until_then = change(recipe, max_steps=2 * (best + 1), patience=0)
    same(
        outcome.students[0].adapter.factors,
        finetune.train(model, sets[0], until_then)[0].adapter.factors,
        1e-5,
    )


def test_students_go_on_from_parameters_of_their_own(model):
    other = lively(CONFIG, seed=5)
    recipe = change(QUICK, lora=None, parameters=("*",), max_steps=2)
    starts = [trained.select(m, ("*",)) for m in (model, other)]
    both = finetune.fit(model, [data(4)] * 2, recipe, start=starts)
    for base, own in zip((model, other), both.students, strict=True):
        alone = finetune.fit(base, data(4), recipe).students[0]
        # As a whole: Adam makes a step of a gradient that is nothing but rounding.
        for found, wanted in zip(*map(jax.tree.leaves, (own.weights, alone.weights)), strict=True):
            assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)
    moved = both.students[0].weights["embed"] - both.students[1].weights["embed"]
    assert np.abs(moved).max() > 0.1


@pytest.mark.parametrize("objective", ["cross_entropy", "distillation"])
def test_watched_rows_are_measured_by_cross_entropy(model, objective, tmp_path):
    recipe = change(QUICK, evaluate_every=1, max_steps=2, objective=objective)
    teacher = lively(CONFIG, seed=5) if objective == "distillation" else None
    seen = rows(5, seed=9)
    watched = [examples.collect(seen, CONFIG)] * 2
    found = finetune.fit(model, [data(4)] * 2, recipe, tmp_path, teacher, watched=watched)
    lines = {x["step"]: x["held_out_loss"] for x in metrics(tmp_path) if "held_out_loss" in x}
    assert list(lines) == [0, 1]  # before the only step, and after it
    for done, own in {0: model, 1: found.students[0].apply(model)}.items():
        logs = np.concatenate([full_forward(own, r.prompt, r.completion) for r in seen])
        assert lines[done] == pytest.approx([-logs.mean()] * 2, abs=1e-5)
    assert found.held_out == lines[1]


def fresh():
    return Trained(lora.Adapter(QUICK.lora, lora.initialise(QUICK.lora, CONFIG)))


def test_bad_recipes_and_data_are_refused_in_one_line(model):
    good, tied = data(4), Decoder.init(testing.TINY)

    def fitted(wanted, own=good, of=model, **more):
        return lambda: finetune.fit(of, own, change(QUICK, **wanted), **more)

    cases = [
        (fitted({}, []), "no data set"),
        (fitted({"seed": (1, 2, 3)}, [good] * 2), "3 values for 2"),
        (fitted({"parameters": ("*.nose",)}), r"'\*.nose' matches no"),
        (fitted({"parameters": ("lm_head*",)}, of=tied), "matches no"),
        (fitted({"held_out": 4}), "held_out=4: the data set has 4"),
        (fitted({"objective": "distillation"}), "needs a teacher"),
        (fitted({}, teacher=model), "no part in the objective"),
        (fitted({}, start=[Trained(an_adapter())]), "rank, targets or scale"),
        (fitted({}, start=[]), "0 adapters to start from for 1"),
        (fitted({"parameters": ("*.bias",)}, start=[fresh()]), "its parameters are not those"),
        (lambda: distil(model, rows(2), [an_adapter()] * 2), "2 teachers for 1"),
        (lambda: distil(model, rows(2), model, tokens=(272,)), "272 is outside the vocabulary"),
    ]
    for call, message in cases:
        with pytest.raises(UserError, match=message):
            call()


def test_out_of_memory_names_what_to_lower(model, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(step, "train_step", full)
    with pytest.raises(
        UserError, match=r"1 students of .* tokens in a pass: lower config.recipe.micro"
    ):
        finetune.train(model, data(4), QUICK)
