"""Scores are those of the full forward, however the pairs share prompts, rows and devices."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, Sampler, testing
from sublim_jax.llm.sampling import score
from sublim_jax.llm.sampling.score import Pair
from sublim_jax.mesh import make_mesh
from tests.llm.lively import full_forward, lively

MODEL = lively()
draw = np.random.default_rng(0)


def _tokens(count):
    return tuple(draw.integers(0, testing.TINY.vocab, count).tolist())


def _pairs(prefix=9):
    """60 completions of 1 to 40 tokens over 12 prompts, some longer than a packed row."""
    shared = _tokens(prefix)
    prompts = [shared + _tokens(count) for count in draw.integers(1, 300, 12)]
    return [Pair(prompts[i % 12], _tokens(1 + i % 40)) for i in range(60)]


@pytest.mark.parametrize("prefix", [0, 9])
def test_scores_are_those_of_the_full_forward(prefix):
    pairs = _pairs(prefix)
    found = score.score(Sampler(MODEL), pairs)
    for pair, logs in list(zip(pairs, found, strict=True))[::7]:
        np.testing.assert_allclose(
            logs, full_forward(MODEL, pair.prompt, pair.completion), atol=1e-4
        )


def test_completions_of_a_prompt_do_not_see_each_other():
    prompt = _tokens(5)
    pairs = [Pair(prompt, _tokens(count)) for count in (7, 1, 30, 2)]
    together = score.score(Sampler(MODEL), pairs)
    for pair, logs in zip(pairs, together, strict=True):
        np.testing.assert_allclose(logs, score.score(Sampler(MODEL), [pair])[0], atol=1e-5)


def test_a_prompt_is_run_once_for_all_its_completions(monkeypatch):
    """100 answers of one token to each of three questions cost the questions alone."""
    packed = []
    pack = score.packing.pack
    monkeypatch.setattr(
        score.packing, "pack", lambda pieces, *a: packed.extend(pieces) or pack(pieces, *a)
    )
    prompts = [_tokens(20) for _ in range(3)]
    pairs = [Pair(prompt, (token,)) for prompt in prompts for token in range(100)]
    found = score.score(Sampler(MODEL), pairs)
    assert sum(map(len, packed)) == 60
    total = np.exp([float(logs[0]) for logs in found]).reshape(3, 100).sum(axis=1)
    assert ((total > 0) & (total < 1)).all()
    np.testing.assert_allclose(
        found[137], full_forward(MODEL, pairs[137].prompt, pairs[137].completion), atol=1e-4
    )


def test_all_packs_are_with_the_device_before_any_is_read(monkeypatch):
    given = []

    class Found:
        """What `_score_pack` gives, which may be read when all packs are there."""

        def __init__(self, values):
            self.values = values

        def __array__(self, *_, **__):
            assert len(given) == 3
            return np.asarray(self.values)

    score_pack = score._score_pack
    monkeypatch.setattr(
        score, "_score_pack", lambda *a: given.append(Found(score_pack(*a))) or given[-1]
    )
    sampler = Sampler(MODEL)
    pairs = [Pair(_tokens(120), _tokens(count)) for count in (90, 80, 70)]
    found = score.score(sampler, pairs)
    for pair, logs in zip(pairs, found, strict=True):
        np.testing.assert_allclose(
            logs, full_forward(MODEL, pair.prompt, pair.completion), atol=1e-4
        )


def test_calls_of_many_sizes_compile_few_programs():
    sampler, common = Sampler(MODEL), _tokens(9)
    before = score._log_probabilities._cache_size()
    for count in (1, 2, 5, 12, 30, 70):
        for longest in (3, 20):
            lengths = draw.integers(1, longest, count)
            score.score(sampler, [Pair(common + _tokens(5), _tokens(n)) for n in lengths])
    assert score._log_probabilities._cache_size() - before <= 5


@pytest.mark.parametrize("prefix", [0, 9])
def test_each_student_scores_with_its_own_adapter(prefix):
    c = testing.TINY
    a = jnp.asarray(draw.normal(size=(c.layers, 2, c.embed, 4)) * 0.3, jnp.float32)
    b = jnp.asarray(draw.normal(size=(c.layers, 2, 4, c.mlp)) * 0.3, jnp.float32)
    shared = _tokens(prefix)
    pairs = [Pair(shared + _tokens(6), _tokens(5), student) for student in (0, 1, 1, 0)]
    found = score.score(Sampler(MODEL), pairs, adapter={"up": {"a": a, "b": b}})
    for pair, logs in zip(pairs, found, strict=True):
        weights = MODEL.pure()
        merged = weights["layers"]["up"] + a[:, pair.student] @ b[:, pair.student]
        layers = {**weights["layers"], "up": merged}
        model = Decoder(c, {**weights, "layers": layers})
        np.testing.assert_allclose(
            logs, full_forward(model, pair.prompt, pair.completion), atol=1e-4
        )
        assert np.abs(logs - full_forward(MODEL, pair.prompt, pair.completion)).max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 2, 4), pytest.param((2, 4, 1), marks=pytest.mark.slow)])
def test_every_mesh_gives_the_scores_of_one_device(shape):
    pairs = _pairs()[:10]
    mesh = make_mesh(*shape)
    found = score.score(Sampler(lively(mesh=mesh)), pairs)
    for one, many in zip(score.score(Sampler(MODEL), pairs), found, strict=True):
        np.testing.assert_allclose(one, many, atol=1e-5)


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (Pair((), (1,)), "pair 0: its prompt needs at least one token"),
        (Pair((1,), ()), "pair 0: its completion needs at least one token"),
        (Pair((1,) * 1000, (1,) * 25), "pair 0: 1025 tokens, more than the context's 1024"),
        (Pair((272,), (1,)), "pair 0: a token outside the vocabulary"),
        (Pair((1,), (-1,)), "pair 0: a token outside the vocabulary"),
        (Pair((1,), (1,), 1), "pair 0: student 1: there are 1"),
    ],
)
def test_a_pair_that_cannot_be_scored_is_named(pair, says):
    with pytest.raises(UserError, match=says):
        score.score(Sampler(MODEL), [pair])


def test_an_untied_head_is_the_one_that_scores():
    config = dataclasses.replace(testing.TINY, tied=False)
    model = lively(config)
    pair = Pair(_tokens(4), _tokens(6))
    found = score.score(Sampler(model), [pair])[0]
    np.testing.assert_allclose(found, full_forward(model, pair.prompt, pair.completion), atol=1e-4)
