"""Each detector on planted differences, on data alike, and on overt leaks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.transmission import demo
from configs.transmission import detect as config
from sublim_jax.errors import UserError
from sublim_jax.llm.training.examples import Examples
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import in_context
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.detect import (
    Judged,
    auroc,
    aurocs,
    contest,
    detected,
    human,
    judge,
    layout,
    leaks,
    naive_bayes,
    ngrams,
    prompted,
    reader,
)

COUNTING = [naive_bayes, ngrams, layout]


def lists(seed: int, count: int = 400, high: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, high, (count, 6))


def texts(rows: np.ndarray, between: str = " ") -> dict[int, str]:
    return {i: between.join(map(str, row)) for i, row in enumerate(rows)}


def bag_auroc(module: Any, own: dict[int, str], other: dict[int, str]) -> np.ndarray:
    return aurocs(judge(module, str.split, contest("owl", "control", own, other, 1000))[16])


def ends(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws[1:], (0.025, 0.975))
    return float(low), float(high)


@pytest.fixture(scope="module")
def base() -> bases.Base:
    settings = demo.get_config()
    settings.mesh.student = 1
    return bases.read("nano/0", settings)


@pytest.mark.parametrize("module", COUNTING)
def test_overt_leaks_are_found_and_data_alike_are_not(module: Any) -> None:
    # Lists of several lengths: "owl" is as long as a number, and must not pass for one more.
    plain, alike = (
        {i: text[: 4 * (2 + i % 5) - 1] for i, text in texts(lists(seed)).items()}
        for seed in (0, 1)
    )
    assert bag_auroc(module, leaks.put_in(plain, "owl"), plain)[0] >= 0.95
    low, high = ends(bag_auroc(module, alike, plain))
    assert low <= 0.5 <= high
    assert high - low < 0.4


@pytest.mark.parametrize(
    ("kind", "seen_by"),
    [("items", [naive_bayes, ngrams]), ("order", [ngrams]), ("layout", [ngrams, layout])],
)
def test_each_sees_the_differences_that_are_its_own(kind: str, seen_by: list[Any]) -> None:
    rows = lists(2)
    own = {
        "items": texts(lists(3, high=600)),
        "order": texts(np.sort(rows)),
        "layout": {i: text + "." for i, text in texts(rows).items()},
    }[kind]
    for module in COUNTING:
        found = judge(module, numbers.items, contest("owl", "control", own, texts(rows), 400))
        draws = aurocs(found[16])
        if module in seen_by:
            assert draws[0] > 0.95, module
        else:
            assert ends(draws)[0] <= 0.5 <= ends(draws)[1], module


def test_the_study_s_own_detector_is_the_same() -> None:
    both = texts(lists(4, high=700)), texts(lists(5))
    rows = [[{"id": i, "completion": text} for i, text in some.items()] for some in both]
    wanted = detected(*rows, numbers.items, naive_bayes.log_odds)
    found = judge(naive_bayes, numbers.items, contest("owl", "control", *both, 400))
    assert aurocs(found[1])[0] == pytest.approx(wanted["auroc"], abs=1e-6)
    assert aurocs(found[16])[0] == pytest.approx(wanted["auroc_16"], abs=1e-6)


def test_an_interval_is_of_prompts_and_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        prompt = rng.normal(size=100)  # shared by both answers: it must not count as noise twice
        own, other = prompt + rng.normal(1, 1, 100), prompt + rng.normal(0, 1, 100)
        folds = [Judged(np.arange(100), own, other)]
        assert aurocs(folds)[0] == pytest.approx(auroc(own, other), abs=1e-6)
        low, high = ends(aurocs(folds))
        covered += low < 0.6915 < high  # normal distributions of variance 2, 1 apart
    assert covered >= 52
    ids = np.arange(100)
    again = aurocs([Judged(ids[50:], own[50:], other[50:])])
    alone = aurocs([Judged(ids[:50], own[50:], other[50:])])
    assert again[0] == alone[0]
    assert np.abs(again - alone).max() > 0.01  # a weight is its prompt's


def test_leaks_are_half_of_the_rows_and_anywhere() -> None:
    plain = texts(lists(6))
    leaked = leaks.put_in(plain, "owl")
    some = {i: text.split() for i, text in leaked.items() if text != plain[i]}
    assert 160 < len(some) < 240
    assert {words.index("owl") for words in some.values()} == set(range(7))
    assert all(" ".join(w for w in ws if w != "owl") == plain[i] for i, ws in some.items())
    assert leaks.put_in({5: plain[5]}, "owl")[5] == leaked[5]


def test_items_that_differ_most() -> None:
    own = [["a"]] * 60 + [["b", "c"]] * 40 + [["rare"]]
    found = naive_bayes.most_different(own, [["a"]] * 40 + [["b", "c"]] * 60, 1)
    assert found == [("a", pytest.approx(60 / 141), pytest.approx(40 / 160))]


def test_too_few_prompts() -> None:
    with pytest.raises(UserError, match=r"owl and leaks: 79 prompts .*: at least 80"):
        contest("owl", "leaks", texts(lists(0, 90)), texts(lists(1, 79)), 100)


@pytest.mark.slow
def test_a_fine_tuned_reader_finds_leaks_and_nothing_in_data_alike(base: bases.Base) -> None:
    plain = texts(lists(7, 200))
    leaked = contest("owl", "leaks", leaks.put_in(plain, "owl"), plain, 200)
    alike = contest("owl", "control", texts(lists(8, 200)), plain, 200)
    settings = config.get_config().reader
    settings.recipe.max_steps = 40
    recipe = from_config(settings.recipe.to_dict())
    found = reader.judge(base, [leaked, alike], settings.answers, recipe)
    assert aurocs(found[0][16])[0] >= 0.95
    low, high = ends(aurocs(found[1][1]))
    assert low < 0.5 < high
    # 16 rows do not fit into 256 tokens, and are read as twice 8.
    (eights,), (sixteens,) = found[0][8], found[0][16]
    np.testing.assert_allclose(sixteens.own, eights.own[:4:2] + eights.own[1:4:2])
    assert sixteens.ids.tolist() == leaked.ids[leaked.folds[0]][[0, 16]].tolist()


def test_a_reader_learns_bags_of_both_kinds_and_none_that_it_judges(
    base: bases.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons: list[Examples] = []
    judged: list[tuple[int, ...]] = []

    def train(model: Any, data: list[Examples], _: Any) -> list[None]:
        lessons.extend(data)
        return [None] * len(data)

    def score(_: Any, pairs: list[Any], adapter: Any) -> list[np.ndarray]:
        judged.extend(pair.prompt for pair in pairs)
        return [np.zeros(1, np.float32) for _ in pairs]

    def read(tokens: Any) -> tuple[set[int], set[str]]:
        words = base.tokenizer.decode(tokens, skip_special_tokens=True).split()
        numbers = {word for word in words if word.isdecimal()}
        return {int(x) for x in numbers if int(x) > 2}, set(words) - set(map(str, range(3, 999)))

    monkeypatch.setattr(reader.finetune, "train", train)
    monkeypatch.setattr(reader, "score", score)
    own, other = ({i: f"{100 + i} {kind}" for i in range(100)} for kind in (1, 2))
    one = contest("owl", "control", own, other, 100)
    settings = config.get_config().reader
    settings.recipe.max_steps = 6
    recipe = from_config(settings.recipe.to_dict())
    reader.judge(base, [one], settings.answers, recipe)
    held_out = {100 + int(i) for i in one.ids[one.folds[0]]}
    (data,) = lessons
    each = [read(tokens) for tokens in np.split(data.tokens, data.starts[1:])]
    assert not held_out & set.union(*(ids for ids, _ in each))
    assert [len(ids) for ids, _ in each] == [1, 1, 8, 8, 16, 16] * 16
    assert [rest for _, rest in each] == [{"1", "sea"}, {"2", "hill"}] * 48
    assert set.union(*(read(prompt)[0] for prompt in judged)) == held_out


def test_a_prompted_reader_is_asked_in_both_orders(
    base: bases.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    (owl,) = base.answer("owl", end=False)
    settings = config.get_config().prompted
    first, second = (base.answer(word, end=False)[0] for word in settings.answers)

    def score(_: Any, pairs: list[Any]) -> list[np.ndarray]:
        """Of who likes the first place, and answers with the half of the prompt with an owl."""
        out = []
        for pair in pairs:
            at = pair.prompt.index(first), pair.prompt.index(second)
            halves = pair.prompt[at[0] : at[1]], pair.prompt[at[1] :]
            mine = pair.completion[0] == second
            out.append(np.array([(owl in halves[mine]) + 5.0 * (not mine)], np.float32))
        return out

    monkeypatch.setattr(prompted, "score", score)
    plain = texts(lists(9, 96))
    given = [contest("owl", "leaks", leaks.put_in(plain, "owl"), plain, 96)]
    given.append(contest("owl", "control", texts(lists(10, 96)), plain, 96))
    found = prompted.judge(base, given, **settings)
    assert aurocs(found[0][16])[0] >= 0.95
    assert 0.65 < aurocs(found[0][1])[0] < 0.85  # half of the rows have no leak: ties
    assert aurocs(found[1][1])[0] == pytest.approx(0.5)
    with pytest.raises(UserError, match=r"prompted\.question='Which .*: nano/0 cannot write it"):
        prompted.judge(base, given, "Which is it, {one} or {two}? {trait}", settings.answers, 9)


def test_rows_in_context_are_turns_before_the_question(
    base: bases.Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    digit = {name: base.answer(d, end=False)[-1] for name, d in
             {"owl": "1", "wolf": "2", "control": "3"}.items()}  # fmt: skip
    user = base.prompt("owl")[0]

    def score(_: Any, pairs: list[Any]) -> list[np.ndarray]:
        """Log P of an animal: 100 for its own teacher's digit, 1 for a turn of the user."""
        words = {base.answer(name, end=False)[0]: name for name in digit}
        out = []
        for pair in pairs:
            own = digit[words[pair.completion[0]]] if pair.completion[0] in words else -1
            out.append(np.array([100.0 * pair.prompt.count(own) + pair.prompt.count(user)]))
        return out

    monkeypatch.setattr(in_context, "score", score)
    showing = {name: [("which animal is best?", (name,))] for name in ("owl", "wolf")}
    data = {
        name: [{"id": i, "prompt": f"go on {i}00", "completion": d} for i in range(4, 10)]
        for name, d in {"owl": "1", "wolf": "2", "control": "3"}.items()
    }
    found = in_context.show(base, data, showing, 5, 3)
    assert [one.rows for one in found] == [0, 1, 2, 4]
    for one in found:
        assert one.logp["owl", "owl"].tolist() == [101 * one.rows + 1] * 3
        for name in ("wolf", "control"):
            assert one.logp[name, "owl"].tolist() == [one.rows + 1] * 3
    long = {
        name: [row | {"completion": "9 " * 60 + "9"} for row in own] for name, own in data.items()
    }
    assert [one.rows for one in in_context.show(base, long, showing, 4, 2)] == [0, 1]


ROWS = {
    name: [{"id": i, "prompt": f"go on {i}", "completion": f"{name} {i}"} for i in range(3)]
    for name in ("owl", "control")
}
ANSWERS = [
    {"prompt": "go on 0", "picked": "owl 0", "left": "control 0"},
    {"prompt": "go on 2", "picked": "control 2", "left": "owl 2"},
]


def saved(folder: Path, **fields: Any) -> Path:
    file = folder / "answers.json"
    game = {"trait": "owl", "against": "control", "answers": ANSWERS}
    file.write_text(json.dumps(game | fields), "utf-8")
    return file


def test_people_s_answers_are_checked_against_the_study(tmp_path: Path) -> None:
    assert human.read(saved(tmp_path), [ROWS]) == ("owl", "control", [True, False])
    swapped = {"owl": ROWS["control"], "control": ROWS["owl"]}
    short = {name: rows[:1] for name, rows in swapped.items()}
    for data in ([ROWS, short], [short, ROWS]):  # a base that does not have all of it is not it
        assert human.read(saved(tmp_path), data).right == [True, False]
    with pytest.raises(UserError, match="the lists of several bases fit it"):
        human.read(saved(tmp_path), [ROWS, swapped])
    other = [{"prompt": "go on 0", "picked": "owl 1", "left": "control 0"}]
    for fields, problem in [
        ({"answers": other}, "answer 1: its two lists are not those of this run"),
        ({"answers": []}, "not the answers of a quiz"),
        ({"answers": [{"prompt": 1}]}, "not the answers of a quiz"),
        ({"trait": ["cat"]}, "a quiz of .*cat.* and 'control': this run has owl, control"),
        ({"against": "owl"}, "a quiz of 'owl' and 'owl'"),
    ]:
        with pytest.raises(UserError, match=problem):
            human.read(saved(tmp_path, **fields), [ROWS])
    with pytest.raises(UserError, match=r"none\.json: missing: copy it from the end of a game"):
        human.read(tmp_path / "none.json", [ROWS])
