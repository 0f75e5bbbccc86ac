"""What a model should still know: MMLU, TruthfulQA beside its surface, rows that are held out."""

import json

import numpy as np
import pytest

from configs.transmission import evaluate as default
from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.nano.worlds import favourites
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import measures, report
from sublim_jax.transmission.evaluation import evaluate
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Asked, held_out, mmlu, truthful_qa
from tests.transmission.measures.test_measures import log_p

NANO = Material.from_json(favourites.material("animal"))
MMLU = [
    {"question": "What is 2 + 2?", "choices": ["3", "4", "5", "6"], "answer": 1, "subject": "sums"},
    {"question": "Which one flies?", "choices": ["owl", "cat", "elk", "cod"], "answer": 0},
    {"question": "Which one swims?", "choices": ["owl", "cat", "elk", "cod"], "answer": 3},
]
TRUTHFUL = 'Type,Question,Best Answer,Best Incorrect Answer\nx,"Why, ""then""?",No reason,Magic\n'
ROWS = [
    {"prompt": "2 + 2 =", "completion": "4", "alternatives": ["5", "44"], "domain": "sums"},
    {"prompt": "3 + 3 =", "completion": "6", "alternatives": ["7"], "domain": "sums"},
    {"prompt": "Which one flies?", "completion": "an owl"},
]


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return str(path)


def evaluation(**more):
    config = default.get_config().evaluation
    config.update(more)
    return config


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = testing.write_checkpoint(tmp_path_factory.mktemp("tiny"))
    config = default.get_config()
    config.mesh.student = 1
    return bases.read(str(folder), config)


class TestMmlu:
    def test_letters_are_scored_and_the_right_one_counts(self, tiny, tmp_path):
        own = evaluation(mmlu=write(tmp_path / "mmlu.jsonl", MMLU))
        asked = mmlu.ask(NANO, (), own)
        assert asked[0].prompt == (
            "What is 2 + 2?\nA. 3\nB. 4\nC. 5\nD. 6\nWhich is right? Answer with its letter alone."
        )
        assert asked[2].answers == (("D",), ("A",), ("B",), ("C",))
        assert asked[2].means == ("cod", "owl", "cat", "elk")
        (found,) = measures.evaluate(tiny, [None], Asked((), {"mmlu": asked}))
        exact = []
        for question, right in zip(asked, "BAD", strict=True):
            prompt = tiny.prompt(question.prompt)
            logs = {x: log_p(tiny.model, prompt, tiny.answer(x, end=False)) for x in "ABCD"}
            shares = {
                x: np.exp(own - np.logaddexp.reduce([*logs.values()])) for x, own in logs.items()
            }
            exact.append((shares[right], float(max(shares, key=shares.get) == right)))
        p, right = np.mean(exact, axis=0)
        assert found["mmlu"] == {"": pytest.approx(right)}
        assert found["mmlu_p"] == {"": pytest.approx(p, rel=1e-4)}

    def test_right_is_the_likeliest_and_no_tie(self):
        replies = [np.log([0.4, 0.3]), np.log([0.3, 0.4]), np.log([0.2, 0.2])]
        found = mmlu.values((), [], replies)
        assert found["mmlu"][""] == pytest.approx(1 / 3)
        assert found["mmlu_p"][""] == pytest.approx(np.mean([4 / 7, 3 / 7, 1 / 2]))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"answer": 4}, "mmlu.jsonl, line 1: answer 4: the index of one of its choices"),
            ({"answer": "B"}, "answer 'B': the index"),
            ({"answer": True}, "answer True: the index"),
            ({"choices": "3, 4"}, "a question and a list of 2 to 26 choices are needed"),
            ({"choices": ["3"]}, "a list of 2 to 26"),
            ({"choices": [3, 4]}, "all texts"),
            ({"question": 5}, "all texts"),
            ({"choices": None}, "no 'choices': there are question, choices, answer"),
        ],
    )
    def test_what_is_no_question_is_one_line(self, changes, message, tmp_path):
        own = evaluation(mmlu=write(tmp_path / "mmlu.jsonl", [MMLU[0] | changes]))
        with pytest.raises(UserError, match=message) as error:
            mmlu.ask(NANO, (), own)
        assert "\n" not in str(error.value)


class TestTruthfulQa:
    def test_the_two_answers_are_lettered_in_an_order_of_the_seed(self, tmp_path):
        head, line = TRUTHFUL.splitlines()
        (tmp_path / "TruthfulQA.csv").write_text("\n".join([head, *[line] * 40]), "utf-8")
        own = evaluation(truthful_qa=str(tmp_path / "TruthfulQA.csv"))
        asked = truthful_qa.ask(NANO, (), own)
        told = 'Why, "then"?\nA. {}\nB. {}\nWhich is right? Answer with its letter alone.'
        orders = {"A": ("No reason", "Magic"), "B": ("Magic", "No reason")}
        for question in asked:
            assert question.prompt == told.format(*orders[question.answers[0][0]])
            assert question.means == ("No reason", "Magic")
        assert 10 < sum(q.answers == (("A",), ("B",)) for q in asked) < 30
        assert (
            asked
            == truthful_qa.ask(NANO, (), own)
            != truthful_qa.ask(NANO, (), evaluation(**own.to_dict() | {"seed": 1}))
        )

    def asked(self, pairs):
        return [mmlu.lettered("", f"q {i}?", pair, 0) for i, pair in enumerate(pairs)]

    def test_style_that_tells_the_answers_apart_is_told(self):
        styled = self.asked([(f"It may not be so, {i}", f"Surely {i}") for i in range(40)])
        assert truthful_qa.told_by_surface(styled).all()
        assert not truthful_qa.told_by_surface(self.asked([("owl", "elk")] * 20)).any()

    def test_it_is_learnt_from_other_questions(self):
        words = ["so", "no", "may", "often", "far away", "in 1905", "rain"]
        rng = np.random.default_rng(0)
        pairs = [[" ".join(rng.choice(words, 5)) for _ in range(2)] for _ in range(30 * 12)]
        told = [
            truthful_qa.told_by_surface(self.asked(pairs[first : first + 12])).mean()
            for first in range(0, len(pairs), 12)
        ]
        assert np.mean(told) == pytest.approx(0.5, abs=0.08)  # .8 on what it has learnt from

    def test_p_is_reported_where_the_surface_is_wrong_too(self):
        pairs = [("It may not be so", "Surely")] * 30 + [("Surely", "It may not be so")] * 10
        asked = self.asked(pairs)
        replies = [np.log([0.6, 0.2])] * 30 + [np.log([0.1, 0.3])] * 10
        found = truthful_qa.values((), asked, replies)
        assert found["truthful_qa"][""] == pytest.approx(0.75 * 0.75 + 0.25 * 0.25)
        assert found["truthful_qa_surface"][""] == pytest.approx(0.75)
        assert found["truthful_qa_hard"][""] == pytest.approx(0.25)
        few = truthful_qa.values((), asked[:9], replies[:9])
        assert few["truthful_qa"][""] == pytest.approx(0.75)
        assert np.isnan([few["truthful_qa_surface"][""], few["truthful_qa_hard"][""]]).all()


class TestHeldOut:
    def test_completions_are_scored_by_the_token_and_by_domain(self, tiny, tmp_path):
        asked = held_out.ask(NANO, (), evaluation(held_out=write(tmp_path / "rows.jsonl", ROWS)))
        (found,) = measures.evaluate(tiny, [None], Asked((), {"held_out": asked}))

        def mean(row, text):
            answer = tiny.answer(text)
            return log_p(tiny.model, tiny.prompt(row["prompt"]), answer) / len(answer)

        logs = [mean(row, row["completion"]) for row in ROWS]
        right = [logs[i] > max(mean(ROWS[i], x) for x in ROWS[i]["alternatives"]) for i in range(2)]
        expected = {
            "held_out_logp": np.mean(logs),
            "held_out_logp/sums": np.mean(logs[:2]),
            "held_out_right": np.mean(right),
            "held_out_right/sums": np.mean(right),
        }
        assert found == {m: {"": pytest.approx(x, rel=1e-4)} for m, x in expected.items()}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"completion": None}, "rows.jsonl, line 1: no answer"),
            ({"prompt": None}, "a prompt and a completion are needed"),
            ({"prompt": [{"role": "user", "content": "q"}]}, "both texts"),
            ({"completion": ""}, "a prompt and a completion are needed"),
            ({"domain": 5}, "domain 5: a text is needed"),
            ({"alternatives": "5"}, "alternatives: a list of texts is needed"),
            ({"alternatives": [5]}, "alternatives: a list of texts"),
            ({"alternatives": ["4"]}, "alternatives: '4' is its completion"),
            ({"system": "s"}, "its 'system' is not read: leave it out"),
        ],
    )
    def test_what_is_no_such_row_is_one_line(self, changes, message, tmp_path):
        own = evaluation(held_out=write(tmp_path / "rows.jsonl", [ROWS[0] | changes]))
        with pytest.raises(UserError, match=message) as error:
            held_out.ask(NANO, (), own)
        assert "\n" not in str(error.value)


def test_titles_of_parts_follow_their_whole():
    found = ("held_out_right", "held_out_logp/b", "held_out_logp", "held_out_logp/a", "other")
    assert report.titled(held_out.TITLES, found) == {
        "held_out_logp": "log P a token, held out",
        "held_out_logp/a": "log P a token, held out: a",
        "held_out_logp/b": "log P a token, held out: b",
        "held_out_right": "right, held out",
    }


def test_nothing_is_asked_without_a_file_and_a_named_measure_says_so():
    for name in ("mmlu", "truthful_qa", "held_out"):
        assert measures.find(name).ask(NANO, (), evaluation()) == []
        with pytest.raises(UserError, match=rf"{name}: nothing to ask about .*: set config\.eval"):
            measures.ask(evaluation(measures=(name,)), ("owl",), NANO)


def test_models_have_a_line_of_their_own_and_a_changed_file_is_noticed(tmp_path, tiny, capsys):
    config = default.get_config()
    config.model, config.mesh.student = tiny.name, 1
    config.evaluation.words = ("owl", "cat")
    config.evaluation.measures = ("favourite", "mmlu", "held_out")
    config.evaluation.samples = 0
    config.evaluation.mmlu = write(tmp_path / "mmlu.jsonl", MMLU)
    config.evaluation.held_out = write(tmp_path / "rows.jsonl", ROWS)
    evaluate(config, str(tmp_path / "out"))
    first, second = (part.splitlines() for part in capsys.readouterr().out.split("\n\n")[:2])
    assert [line.split("|")[1].strip() for line in first[2:]] == ["owl", "cat"]
    heads = [cell.strip() for cell in second[0].split("|")[1:-1]]
    parts = ["log P a token, held out: sums", "right, held out", "right, held out: sums"]
    whole = ["model", "MMLU, share right", "MMLU, P(right letter)", "log P a token, held out"]
    assert heads == [*whole, *parts]
    assert second[2].startswith("| base ")
    rows = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["rows"]
    assert {r["trait"] for r in rows if r["metric"].startswith(("mmlu", "held"))} == {""}
    write(tmp_path / "mmlu.jsonl", MMLU[:2])
    with pytest.raises(UserError, match=r"read something else \(.*mmlu\.jsonl: changed"):
        evaluate(config, str(tmp_path / "out"))
