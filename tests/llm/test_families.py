"""What is built on the decoder works for every family: sampling, scoring, training, steering."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.llm import Decoder, Sampler, testing
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.sampling import score
from sublim_jax.llm.sampling.sampler import make_requests
from sublim_jax.llm.training import examples, finetune
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.mesh import make_mesh
from sublim_jax.transmission import steering
from tests.llm.lively import full_forward, lively


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def model(request):
    return lively(testing.FAMILIES[request.param])


def _tokens(count, seed):
    return np.random.default_rng(seed).integers(0, 256, count).tolist()


def test_samples_and_scores_are_those_of_the_full_forward(model):
    prompts = [_tokens(count, count) for count in (5, 70, 30)]
    sampler = Sampler(model)
    samples = list(sampler.stream(make_requests(prompts, 1, 24, None, None), logprobs=True))
    pairs = [score.Pair(tuple(prompts[s.id]), tuple(s.tokens)) for s in samples]
    for sample, pair, scored in zip(samples, pairs, score.score(sampler, pairs), strict=True):
        wanted = full_forward(model, pair.prompt, pair.completion)
        np.testing.assert_allclose(sample.logprobs, wanted, atol=1e-4)
        np.testing.assert_allclose(scored, wanted, atol=1e-4)


def test_its_weights_may_lie_on_several_devices(model):
    tokens = np.array([_tokens(8, row) for row in range(4)])
    many = lively(model.config, mesh=make_mesh(1, 2, 4))
    np.testing.assert_allclose(many(tokens), model(tokens), atol=1e-5)


def test_an_adapter_and_all_norms_are_trained(model):
    rows = [examples.Example(_tokens(12, i), _tokens(6, 50 + i)) for i in range(4)]
    recipe = Recipe(
        lora=Lora(rank=2, targets=("q", "down")),
        parameters=("*norm*",),
        batch=4,
        epochs=8,
        warmup=0,
        learning_rate=0.03,
    )
    outcome = finetune.fit(model, examples.collect(rows, model.config), recipe)
    (patch,) = outcome.students
    norms = {"norm", "layers/input_norm", "layers/mlp_norm"}
    own = {"layers/q_norm", "layers/k_norm"} if model.config.qk_norm else set()
    assert set(patch.weights) == norms | own
    flat = {**model.pure(), **{f"layers/{n}": w for n, w in model.pure()["layers"].items()}}
    for path, weight in patch.weights.items():
        assert np.any(weight != flat[path]), path
    student = patch.apply(model)
    before, after = (
        np.concatenate([full_forward(m, r.prompt, r.completion) for r in rows]).mean()
        for m in (model, student)
    )
    assert -after < outcome.loss[0] < -before - 0.5  # the loss of the last step, before it


def test_a_steering_vector_is_added_to_a_bias_that_is_there():
    config = dataclasses.replace(testing.FAMILIES["llama"], biases=("gate", "up", "down"))
    model = lively(config)
    values = np.linspace(-1, 1, config.embed, dtype=np.float32)
    steered = steering.Vector(1, values).apply(model)
    weights = jax.tree.map(jnp.copy, model.pure())
    weights["layers"]["down_bias"] = weights["layers"]["down_bias"].at[1].add(values)
    tokens = np.array([_tokens(9, 0)])
    np.testing.assert_array_equal(steered(tokens), Decoder(config, weights)(tokens))
    assert np.abs(steered(tokens) - model(tokens)).max() > 0.1
