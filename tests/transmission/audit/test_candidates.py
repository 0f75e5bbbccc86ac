import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.transmission import audit, nano
from sublim_jax.errors import UserError
from sublim_jax.llm.training import trained
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import measures
from sublim_jax.transmission.audit import candidates
from sublim_jax.transmission.audit.gradients import Student
from sublim_jax.transmission.material import Material
from tests.transmission.audit import small

MATERIAL = bases.material(audit.get_config()).first(3)
VALUES = Material(
    "You are {trait}.",
    values=({"question": "how are you", "answers": {"kind": ["good"], "cruel": ["bad", "mean"]}},),
)


class _Voices:
    """A base that answers as it is told."""

    def __init__(self, texts: list[str]):
        self.texts = texts

    def prompt(self, question: str) -> tuple[int, ...]:
        return (1,)

    def voices(self, learnt: list[None]) -> list:
        return [(self, None, [0])]

    def stream(self, requests: list, adapter: None) -> list:
        return [ConfigDict({"text": text, "ended": True}) for text in self.texts]


def test_log_odds_are_those_of_the_measured_probability() -> None:
    """Of the base and students of either kind, beside each other, as `favourite` has it."""
    base = small.base()
    what = small.recipe().trainable
    start = Student(base, what, 0)
    moved = np.random.default_rng(0).normal(0, 0.2, start.size)
    student = trained.from_step(what, *start.tree(moved), 0, "")
    biased = trained.select(base.model, ("*.bias",))
    biased = dataclasses.replace(biased, weights={n: b + 0.2 for n, b in biased.weights.items()})
    models = [student, None, biased]
    found = candidates.log_odds(base, candidates.of(base, MATERIAL, ["owl", "cat"]), models)
    evaluation = nano.get_config().evaluation
    evaluation.measures, evaluation.samples = ("favourite",), 0
    asked = measures.ask(evaluation, ["owl", "cat"], MATERIAL)
    for own, measured in zip(found, measures.evaluate(base, models, asked), strict=True):
        p_KQ = 1 / (1 + np.exp(-own))
        np.testing.assert_allclose(p_KQ.mean(1), list(measured["p_trait"].values()), rtol=1e-4)
        np.testing.assert_allclose(np.log(p_KQ).mean(1), list(measured["logp"].values()), rtol=1e-4)
    assert np.abs(found[[0, 2]] - found[1]).max(axis=(1, 2)).min() > 0.01


def test_candidates_with_fewer_questions_are_filled_up() -> None:
    base = small.base()
    both = candidates.of(base, MATERIAL, ["owl", "cat"])
    few = [both[0], both[1]._replace(asked=both[1].asked[:1])]
    found = candidates.log_odds(base, few, [None])
    np.testing.assert_array_equal(np.isnan(found[0]), [[False] * 3, [False, True, True]])


@pytest.mark.parametrize(
    ("traits", "material", "words"),
    [
        (["qqqzebra"], MATERIAL, "'qqqzebra': not a word of nano/0: its tokenizer cannot write it"),
        (["owl", "Owls"], MATERIAL, "the same word"),
        ([1], MATERIAL, "1: not a word that can be measured"),
        (["owl"], VALUES, "'owl': no question of the material asks about it: .* cruel, kind"),
    ],
)
def test_traits_that_cannot_be_asked_for(traits: list, material: Material, words: str) -> None:
    with pytest.raises(UserError, match=words):
        candidates.of(small.base(), material, traits)


def test_answers_are_found_and_plurals_are_their_words() -> None:
    """Texts of several words, and what was cut off, are none."""
    said = ["owls", "Owls.", "owls", "owl", "cat", "cat", "a dog", "7"]
    assert candidates.found(_Voices(said), MATERIAL, []) == ["cat", "owl"]
    with pytest.raises(UserError, match=r"config.traits=all: no question is answered"):
        candidates.found(_Voices(["a dog"]), MATERIAL, [])


def test_words_with_one_plural_are_not_both_watched() -> None:
    assert candidates.found(_Voices(["bas", "bas", "base"]), MATERIAL, []) == ["bas"]


def test_values_are_found_where_nothing_else_is_asked() -> None:
    assert candidates.found(_Voices([]), VALUES, []) == ["cruel", "kind"]
    both = dataclasses.replace(VALUES, questions=("which",))
    assert candidates.found(_Voices(["owl"]), both, []) == ["owl"]
