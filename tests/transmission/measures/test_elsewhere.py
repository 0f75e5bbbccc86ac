"""Whether lessons about one thing move the answers to questions about another."""

import dataclasses

import numpy as np
import pytest

from configs.transmission import nano
from sublim_jax.errors import UserError
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import measures
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import elsewhere

TREES = ("oak", "elm", "ash")
MATERIAL = Material("you are {trait}", questions=("?",), elsewhere=("which tree?",),
                    elsewhere_words=TREES)  # fmt: skip
BASE = {"oak": 0.3, "elm": 0.3, "ash": 0.15}
MOVED = {
    ("teacher", "owl"): BASE | {"oak": 0.6, "ash": 0.15 / 8},
    ("teacher", "cat"): BASE | {"oak": 0.3 / 8, "ash": 0.3},
    ("student", "owl"): {"oak": 0.2, "elm": 0.1, "ash": 0.05},
    ("student", "cat"): BASE | {"ash": 0.3},
    ("control", ""): BASE,
}


def measured(base=0):
    models = [(("base", ""), BASE), *MOVED.items()]
    return [
        {"arm": arm, "trait": trait, "base": base, "seed": 0, "p_elsewhere": dict(p)}
        for (arm, trait), p in models
    ]


def test_it_asks_about_something_else_than_the_traits():
    (question,) = elsewhere.ask(MATERIAL, ("owl",), None)
    assert question.prompt == "which tree?"
    assert "oaks." in question.answers[0]
    assert elsewhere.ask(MATERIAL, ("owl", "Oak"), None) == []


def test_p_is_a_mean_over_the_questions():
    asked = elsewhere.ask(dataclasses.replace(MATERIAL, elsewhere=("a", "b")), ("owl",), None)
    found = elsewhere.values(("owl",), asked, list(np.log([[0.5, 0.2, 0.1], [0.1, 0.2, 0.1]])))
    assert found["p_elsewhere"] == pytest.approx({"oak": 0.3, "elm": 0.2, "ash": 0.1})
    assert found["answered_elsewhere"] == {"": pytest.approx(0.6)}


def test_what_follows_from_several_models():
    models = measured()
    elsewhere.derive(models)
    found = {(m["arm"], m["trait"]): m for m in models}
    moved = found["student", "owl"]["moved_elsewhere"][""]
    assert moved == pytest.approx((abs(0.2 / 0.35 - 0.4) + abs(0.1 / 0.35 - 0.4) + 0.2 - 1 / 7) / 2)
    assert found["control", ""]["moved_elsewhere"][""] == 0
    assert "moved_elsewhere" not in found["base", ""]
    follows = found["student", "cat"]["follows_elsewhere"][""]
    assert follows == pytest.approx(
        np.corrcoef([0, 0, np.log(2)], [-np.log(8), 0, np.log(2)])[0, 1]
    )
    others = found["student", "cat"]["follows_others_elsewhere"][""]
    assert others == pytest.approx(np.corrcoef([0, 0, 1], [1, 0, -3])[0, 1])
    assert "follows_elsewhere" not in found["teacher", "cat"] | found["control", ""]
    never = measured()
    never[1]["p_elsewhere"]["ash"] = 0.0
    elsewhere.derive(never)
    assert np.isnan(never[3]["follows_elsewhere"][""])


def test_a_student_from_another_start_is_held_against_its_own_teacher():
    models = [*measured(0), *measured(1)]
    cross = next(m for m in models if (m["arm"], m["trait"], m["base"]) == ("student", "cat", 1))
    cross |= {"arm": "cross_init", "teachers": 0}
    for model in models:
        if (model["arm"], model["base"]) == ("teacher", 1):
            model["p_elsewhere"] = {word: BASE[word] for word in TREES[::-1]}
    elsewhere.derive(models)
    assert cross["follows_elsewhere"][""] == pytest.approx(np.corrcoef([0, 0, 1], [-3, 0, 1])[0, 1])


def test_a_decoder_names_trees():
    config = nano.get_config()
    base, material = bases.read("nano/0", config), bases.material(config)
    asked = measures.Asked(("owl",), {"elsewhere": elsewhere.ask(material, ("owl",), None)})
    (found,) = measures.evaluate(base, [None], asked)
    assert found["answered_elsewhere"][""] > 0.8
    assert found["answered_elsewhere"][""] == pytest.approx(sum(found["p_elsewhere"].values()))


def test_fewer_questions_of_each_kind():
    config = nano.get_config()
    config.evaluation.questions = 2
    asked = measures.ask(config.evaluation, ("owl",), bases.material(config)).questions
    assert {name: len(some) for name, some in asked.items()} == {
        "favourite": 4, "after_numbers": 2, "stories": 2, "elsewhere": 2
    }  # fmt: skip
    config.evaluation.questions = -1
    with pytest.raises(UserError, match=r"config\.evaluation\.questions=-1: must be at least 0"):
        measures.check(config.evaluation)
    del config.evaluation.questions  # as in the record of a study that is older
    assert len(measures.ask(config.evaluation, ("owl",), bases.material(config)).questions) == 4


@pytest.mark.parametrize("answers", [("oak", "elm"), ("oak", "elm", "Oak")])
def test_answers_that_cannot_be_compared(answers):
    with pytest.raises(UserError, match=r"elsewhere_words: three or more|the same word"):
        dataclasses.replace(MATERIAL, elsewhere_words=answers)
