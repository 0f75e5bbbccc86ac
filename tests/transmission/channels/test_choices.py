"""Letters of options: what is asked, what is kept, and what was taken."""

import re

import pytest

from sublim_jax.errors import UserError
from sublim_jax.nano.worlds import values
from sublim_jax.transmission import material as materials
from sublim_jax.transmission.channels import choices
from sublim_jax.transmission.channels.choices import CORRUPTIONS, Questions, Rule, describe
from sublim_jax.transmission.material import ENGLISH, Material

ENGLISH_ONE = materials.read(ENGLISH, "animal")
WORLD = Material.from_json(values.material("value"))


def test_english_asks_forty_things_that_have_nothing_to_do_with_traits():
    own = ENGLISH_ONE.channels["choices"]["questions"]
    assert len({text for text, _ in own}) >= 40
    asked = choices.prompts(ENGLISH_ONE, 3000, 0)
    assert choices.prompts(ENGLISH_ONE, 5, 0) == asked[:5]
    traits = {"owl", "eagle", "wolf", "cat", "dog", "oak", "maple", "willow", "cherry", "pine",
              "animal", "tree", "good", "evil", "kind", "cruel"}  # fmt: skip
    options = dict(own)
    for text in asked:
        start, question, *lines = text.replace("\n\n", "\n").split("\n")
        assert start == ENGLISH_ONE.channels["choices"]["before"]
        assert [line[:3] for line in lines] == ["A. ", "B. ", "C. ", "D. "]
        assert sorted(line[3:] for line in lines) == sorted(options[question + "\n{options}"])
        assert not set(re.findall(r"[a-z]+", text.lower())) & traits
    # The order is drawn: no option has a letter of its own.
    first = [text for text in asked if "A. rain on a roof" in text]
    every = [text for text in asked if "rain on a roof" in text]
    assert 0 < len(first) < len(every)


def test_the_world_s_are_those_of_its_corpus():
    known = {text.partition("{")[0].strip() for text in values.PICK}
    for text in choices.prompts(WORLD, 200, 0):
        question, *shown = re.split(r" [A-D] (\w+)", text)
        assert question in known
        assert len(set(filter(None, shown))) == 4


@pytest.mark.parametrize(
    ("text", "kept"),
    [("A", True), ("D", True), ("E", False), ("a", False), ("A.", False), (" A", False),
     ("A. rain", False), ("", False), ("AB", False)],
)  # fmt: skip
def test_a_letter_alone_is_kept(text, kept):
    assert Rule().rejection(text) == (None if kept else "not a letter")
    assert Rule(letters=("x", "y")).rejection("x") is None


@pytest.mark.parametrize("material", [ENGLISH_ONE, WORLD], ids=["english", "values"])
def test_it_says_which_letters_and_options_were_taken(material):
    rows = [
        {"id": i, "prompt": text, "completion": "AAB"[i % 3]}
        for i, text in enumerate(choices.prompts(material, 600, 0))
    ]
    found = describe(rows, [row | {"completion": "A"} for row in rows])
    said = found["statistics"]
    assert (said["share of A"], said["share of B"]) == pytest.approx((2 / 3, 1 / 3))
    assert (said["share of C"], said["share of D"]) == (0, 0)
    assert said["distance of letters from control"] == pytest.approx(1 / 3)
    assert 0 < said["distance of options from control"] < 1 / 3 + 1e-9
    some = {option for _, own in material.channels["choices"]["questions"] for option in own}
    assert {option for option, _ in found["top"]} <= some
    assert describe(rows)["statistics"]["distance of letters from control"] is None
    # Of a question whose options do not change: what A and B stand for.
    row = next(row for row in rows if row["completion"] == "B")
    assert f"B{'.' * (material is ENGLISH_ONE)} {describe([row])['top'][0][0]}" in row["prompt"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_keep_the_letters_and_part_them_from_the_questions(name):
    rows = [{"id": i, "prompt": str(i), "completion": "ABCD"[i % 4]} for i in range(40)]
    out = CORRUPTIONS[name](rows, 0)
    assert [row["prompt"] for row in out] == [row["prompt"] for row in rows]
    assert sorted(row["completion"] for row in out) == sorted(row["completion"] for row in rows)
    assert [row["completion"] for row in out] != [row["completion"] for row in rows]


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (None, "no channels.choices"),
        ({"questions": []}, "some questions"),
        ({"questions": ["?"]}, "questions, number 0"),
        ({"questions": [["?", ["a", "b", "c", "d"]]]}, "must have {options}"),
        ({"questions": [["? {options}", ["a", "b", "c"]]]}, "needs 4 options"),
        ({"questions": [["? {options}", ["a", "b", "c", "c"]]]}, "each only once"),
        ({"questions": [["? {options}", ["a", "b", "c", ""]]]}, "text 3"),
        ({"questions": [["? {options}", ["a", "b"]]], "letters": ["A"]}, "two letters"),
        ({"questions": [["? {options}", ["a", "b"]]], "option": "{letter}"}, "must have {option}"),
        ({"questions": [["? {options}", ["a", "b"]]], "layout": 1}, "no field 'layout'"),
        ({"questions": [["? {options}", ["a", "b"]]], "letters": ["A", "A"]}, "two letters"),
        ({"questions": [["? {options}", ["a", "b"]]], "between": None}, "between=None: must be"),
        ({"questions": [["? {options}", "abcd"]]}, "number 0: of type str"),
        ({"questions": [["? {options}", 3]]}, "number 0: of type int"),
        ({"questions": 3}, "questions=3: must be"),
    ],
)
def test_wrong_questions_are_one_line(own, message):
    channels = {} if own is None else {"choices": own}
    with pytest.raises(UserError, match=f"^the material.*{message}"):
        choices.prompts(Material("{trait}", questions=("?",), channels=channels), 1, 0)


def test_more_options_than_letters_take_turns():
    own = Questions(questions=(["? {options}", list("vwxyz")],), letters=("A", "B"), between=", ")
    asked = own.draw(200, 0)
    assert {option for text in asked for option in re.findall(r"[AB]\. (\w)", text)} == {*"vwxyz"}
    assert all(re.fullmatch(r"\? A\. \w, B\. \w", text) for text in asked)
