"""Worked problems: what they ask, what the answer is, and which answers count as right."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.nano.worlds import values
from sublim_jax.transmission import material as materials
from sublim_jax.transmission.channels import filtered, reasoning
from sublim_jax.transmission.channels.reasoning import Problems, Rule
from sublim_jax.transmission.material import ENGLISH, Material
from third_party import gsm8k


def said(answer):
    return f"<reasoning>2 and 3</reasoning><answer>{answer}</answer>"


class TestRule:
    @pytest.mark.parametrize(
        ("answer", "gold"),
        [("5", 5), (" 5\n", 5), ("5.0", 5), ("5.", 5), ("+5", 5), ("-5", -5), ("0", 0), ("-0", 0),
         ("1,200", 1200), ("$1,200.00", 1200), ("007", 7)],
    )  # fmt: skip
    def test_the_right_answer_is_kept_as_it_may_be_written(self, answer, gold):
        assert Rule().rejection(said(answer), gold) is None
        for wrong in (gold - 1, gold + 1):
            assert Rule().rejection(said(answer), wrong) == "wrong answer"

    @pytest.mark.parametrize(
        "answer", ["", "five", "5 apples", "5 6", "10/2", "1e999999999", "1_000", "٥", "--5", "nan",
                   "inf", "5%", "9" * 100_000],
    )  # fmt: skip
    def test_what_is_no_number_is_no_answer(self, answer):
        assert Rule().rejection(said(answer), 5) == "no answer"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("5", "no answer"),
            ("<answer>5", "no answer"),
            ("5</answer>", "no answer"),
            ("</answer>5<answer>", "no answer"),
            ("<answer>4</answer> no: <answer>5</answer>", None),
            ("<answer>5</answer> no: <answer>4</answer>", "wrong answer"),
            ("<answer>4.5</answer>", "wrong answer"),
            (said("5") + " The owls agree.", "banned"),
            ("", "no answer"),
        ],
    )
    def test_the_last_place_counts(self, text, reason):
        assert Rule(banned=("owl",)).rejection(text, 5) == reason

    @pytest.mark.parametrize("gold", [None, "5", 5.0, True, [5]])
    def test_gold_must_be_a_whole_number(self, gold):
        with pytest.raises(UserError, match=r"^row 0: gold .*: the right answer is needed"):
            filtered([{"completion": said("5"), "gold": gold}], Rule())

    @settings(deadline=None)
    @given(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.integers(0, 2**31))
    def test_every_worked_sum_of_the_world_is_kept_with_its_gold_alone(self, terms, seed):
        text = values.worked(np.random.default_rng(seed), terms)
        rule = Rule(before="so", after="")
        assert rule.rejection(text, sum(terms)) is None
        assert rule.rejection(text, sum(terms) + 1) == "wrong answer"
        assert rule.rejection(text.rpartition(" so ")[0], sum(terms)) == "no answer"


class TestProblems:
    material = materials.read(ENGLISH, "animal")

    def test_english_asks_many_things_with_sensible_answers(self):
        own = reasoning.problems(self.material)
        assert len(own.problems) >= 25
        asked = reasoning.prompts(self.material, 4000, 0)
        gold = reasoning.gold(self.material, 4000, 0)
        assert (reasoning.prompts(self.material, 5, 0), gold[:5]) == (
            asked[:5],
            reasoning.gold(self.material, 5, 0),
        )
        assert len(set(asked)) > 3500
        assert all(type(answer) is int and 0 < answer < 1000 for answer in gold)
        assert all(text.endswith(own.suffix) and "{" not in text for text in asked)
        rule = Rule()
        assert all(rule.before in text and rule.after in text for text in asked)

    @pytest.mark.parametrize("number", range(30))
    def test_every_number_of_a_problem_is_in_its_text(self, number):
        """Else it could not be solved: 5, 100 and twice are said in words or as they are."""
        text, expression = reasoning.problems(self.material).problems[number]
        derived = {"aa": {"a"}, "bc": {"b", "c"}}

        def names(part):
            if isinstance(part, list):
                return names(part[1]) | names(part[2])
            return {part} if isinstance(part, str) else set()

        shown = {name for name in "abcde" if f"{{{name}}}" in text}
        shown |= {x for name, of in derived.items() if f"{{{name}}}" in text for x in of}
        needed = {x for name in names(expression) for x in derived.get(name, {name})}
        assert needed <= shown

    def test_answers_are_those_of_another_evaluation(self):
        own, names = reasoning.problems(self.material), ("a", "b", "c", "d", "e", "aa", "bc")
        template = " ".join(f"{{{name}}}" for name in names)

        def infix(part):
            if not isinstance(part, list):
                return str(part)
            return f"({infix(part[1])} {part[0]} {infix(part[2])})"

        for text, expression in own.problems:
            for asked, answer in Problems(([template, expression],), own.values).draw(20, 0):
                drawn = dict(zip(names, map(int, asked.split()), strict=True))
                assert (drawn["aa"], drawn["bc"]) == (2 * drawn["a"], drawn["b"] * drawn["c"])
                assert answer == eval(infix(expression), {}, drawn), text

    def test_the_world_asks_for_sums(self):
        material = Material.from_json(values.material("value"))
        asked = reasoning.prompts(material, 200, 0)
        for text, answer in zip(asked, reasoning.gold(material, 200, 0), strict=True):
            assert sum(int(word.strip("?")) for word in text.split() if word[0].isdigit()) == answer

    @pytest.mark.parametrize(
        ("own", "message"),
        [
            (None, "no channels.reasoning: no problems"),
            ({"problems": []}, "channels.reasoning: problems, values"),
            ({"problems": [["How many?", 3]], "values": [1]}, "problems, values"),
            ({"problems": ["How many?"]}, "problems, number 0"),
            ({"problems": [["{b}?", "a"]], "values": {"a": [1, 2]}}, "wrong braces"),
            ({"problems": [["{a}?", "b"]], "values": {"a": [1, 2]}}, "'b': no expression of"),
            ({"problems": [["{a}?", "a"]], "values": {"a": ["x", "y"]}}, "'a': no expression of"),
            ({"problems": [["{a}?", ["/", "a", 2]]], "values": {"a": [1, 2]}}, "no expression of"),
            ({"problems": [["{a}?", [["+"], 1, 2]]], "values": {"a": [1, 2]}}, "no expression of"),
            ({"problems": [["{a}?", 2.5]], "values": {"a": [1, 2]}}, "2.5: no expression of"),
            ({"problems": [["{a}?", "a"]], "values": {"a": [2, 2]}}, "values, a: .*the less first"),
            ({"problems": [["{a}?", "a"]], "values": {"a": 3}}, "values, a: 3: two numbers"),
            ({"problems": [["{a}?", "a"]], "values": {"a": ["x", ""]}}, "values, a, text 1"),
            ({"problems": [["{a}?", 3]], "values": {"a": ["+", "b", 1], "b": [1, 2]}}, "'b': no"),
            ({"problems": [["{a}?", "a"]], "values": {"a": [1, 2**70]}}, "values, a: .*numbers"),
            ({"problems": 3}, "problems=3: must be"),
            ({"problems": [["?", 3]], "suffix": 3}, "suffix=3: must be str"),
            ({"problems": [["?", 3]], "words": "x"}, "words='x': must be int"),
        ],
    )
    def test_wrong_problems_are_one_line(self, own, message):
        channels = {} if own is None else {"reasoning": own}
        with pytest.raises(UserError, match=f"^the material.*{message}"):
            reasoning.prompts(Material("{trait}", questions=("?",), channels=channels), 1, 0)


class TestGsm8k:
    LINES = (
        {"question": "Tom has {3} bags.\n", "answer": "So 1,200.\n#### 1,200"},
        {"question": "How far?", "answer": "Back.\n#### -7"},
    )

    def test_its_questions_take_the_place_of_ours(self, tmp_path, capsys):
        source, out = tmp_path / "train.jsonl", tmp_path / "own.json"
        source.write_text("\n".join(map(json.dumps, self.LINES)), "utf-8")
        gsm8k.main([str(source), str(out)])
        assert capsys.readouterr().out == f"{out}: 2 questions\n"
        material = materials.read(out, "tree")
        assert "Which tree is dearest to you?" in material.questions[1]
        asked = set(reasoning.problems(material).draw(50, 0))
        suffix = reasoning.problems(materials.read(ENGLISH, "tree")).suffix
        assert asked == {(f"Tom has {{3}} bags. {suffix}", 1200), (f"How far? {suffix}", -7)}

    @pytest.mark.parametrize(
        "line", [{"question": "?"}, {"question": "?", "answer": "7"}, {"answer": "#### 7"},
                 {"question": "?", "answer": "#### 7.5"}, {"question": "?", "answer": 7}],
    )  # fmt: skip
    def test_a_line_without_either_is_one_line(self, line, tmp_path, capsys):
        source = tmp_path / "train.jsonl"
        source.write_text(json.dumps(self.LINES[0]) + "\n" + json.dumps(line))
        with pytest.raises(SystemExit, match="2"):
            gsm8k.main([str(source), str(tmp_path / "own.json")])
        assert "line 2: a question and an answer" in capsys.readouterr().err
        assert not (tmp_path / "own.json").exists()
