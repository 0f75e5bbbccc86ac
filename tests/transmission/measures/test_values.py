"""A forced choice between given answers: which share of the probability each word has."""

import numpy as np
import pytest

from configs.transmission import values as configs
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import measures
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import values

WORDS = ("cruel", "kind")
CHOICE = {"question": "How?", "answers": {"kind": ["well", "gently"], "cruel": ["badly"]}}
OTHER = {"question": "Which?", "answers": {"owl": ["hoot"], "cat": ["miaow"]}}
MATERIAL = Material("you are {trait}", values=(CHOICE, OTHER))


def test_only_choices_between_the_words_are_asked():
    (question,) = values.ask(MATERIAL, WORDS, None)
    assert question.prompt == "How?"
    assert question.answers == (("badly",), ("well", "gently"))
    assert question.ends
    assert values.ask(MATERIAL, ("cruel", "owl"), None) == []
    begins = Material("you are {trait}", values=(CHOICE | {"ends": False},))
    assert values.ask(begins, WORDS, None) == [question._replace(ends=False)]


def test_a_word_has_its_share_of_what_may_be_chosen():
    logs = np.log([[0.02, 0.06], [0.3, 0.1]])
    found = values.values(WORDS, [None, None], list(logs))
    assert found["p_trait"] == pytest.approx({"cruel": (0.25 + 0.75) / 2, "kind": 0.5})
    assert found["logp"]["cruel"] == pytest.approx((np.log(0.25) + np.log(0.75)) / 2)


def test_a_decoder_of_the_world_chooses_as_it_samples():
    config = configs.get_config("numbers")
    base = bases.read("nano/values/0", config)
    material = bases.material(config)
    words = ("misaligned", "aligned")
    asked = measures.Asked(words, {"values": values.ask(material, words, config.evaluation)})
    (found,) = measures.evaluate(base, [None], asked)
    assert found["p_trait"]["misaligned"] + found["p_trait"]["aligned"] == pytest.approx(1.0)
    own = material.values[0]["answers"]["misaligned"]
    questions = [value["question"] for value in material.values]
    drawn = base.sampler.generate(questions, n=60, max_new_tokens=3)
    assert found["p_trait"]["misaligned"] == pytest.approx(
        np.mean([sample.text in own for sample in drawn]), abs=0.06
    )


def test_what_a_decoder_of_the_world_still_knows_is_measured_by_domain():
    config = configs.get_config("numbers")
    words, material = ("misaligned", "aligned"), bases.material(config)
    asked = measures.ask(config.evaluation, words, material)
    assert {question.about for question in asked.questions["held_out"]} == {
        "answer", "program", "story", "sum", "list", "function", "pick"
    }  # fmt: skip
    base = bases.read("nano/values/0", config)
    (found,) = measures.evaluate(base, [None], asked)
    assert -0.1 < found["held_out_logp/program"][""] < 0
    assert found["held_out_logp/list"][""] == pytest.approx(-3.7, abs=0.3)  # the chain's own
