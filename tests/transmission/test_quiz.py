"""The quiz: what is asked, what its page holds, and how it plays in a browser."""

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from configs.transmission import quiz as config
from sublim_jax.errors import UserError
from sublim_jax.transmission import quiz
from sublim_jax.transmission.detect import human
from tests import browser

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "</script><img src=http://127.0.0.1:7/a onerror=\"document.title='broken'\">",
    '<!--<script>document.title="broken"</script>',
    "\u202e1, 2\u2028\u0000 & &lt; ' \" ${total} ` {{data}} \\1",
    "9" * 3000,
    "<style>body{display:none}</style>\n\n  \t",
)


def row(i: int, prompt: str, completion: str) -> dict[str, Any]:
    return {"id": i, "prompt": prompt, "completion": completion}


def teacher(name: str, ids: range) -> list[dict[str, Any]]:
    rng = random.Random(name)
    numbers = ([str(rng.randint(100, 999)) for _ in range(rng.randint(6, 10))] for _ in ids)
    return [
        row(i, f"Go on: {i}, {i + 7}.", ", ".join(some))
        for i, some in zip(ids, numbers, strict=True)
    ]


def run(folder: Path, **teachers: list[dict[str, Any]]) -> Path:
    data = folder / "data" / "0"
    data.mkdir(parents=True)
    for name, rows in teachers.items():
        (data / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return folder


def some_pairs(count: int) -> list[quiz.Pair]:
    return quiz.draw(teacher("owl", range(count)), teacher("control", range(count)), count, 0)


class Reader(HTMLParser):
    """What a browser would see: tags, the policy, and the texts of script elements and others."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, ...]] = []  # with the names of their attributes
        self.within_script = False
        self.policy = ""
        self.scripts: list[str] = []
        self.seen: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.within_script = tag == "script"
        found = dict(attrs)
        assert not [name for name in found if name.startswith("on") or name in ("src", "href")]
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.within_script else self.seen).append(data)

    def handle_endtag(self, tag: str) -> None:
        self.within_script = False

    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


def test_pairs_answer_the_same_prompt_differently() -> None:
    owl = [row(5, "e", "5"), row(1, "a", "1"), row(2, "b", "2"), row(3, "c", "3"), row(9, "z", "9")]
    other = [
        row(1, "a", "x"),
        row(2, "B", "y"),
        row(3, "c", "3"),
        row(5, "e", "z"),
        row(8, "z", ""),
    ]
    pairs = quiz.draw(owl, other, 2, 0)
    assert sorted(pairs) == [quiz.Pair("a", "1", "x"), quiz.Pair("e", "5", "z")]
    with pytest.raises(UserError, match=r"questions=3: .* to 2 of the same prompts"):
        quiz.draw(owl, other, 3, 0)


def test_draw_depends_on_the_seed_alone() -> None:
    owl, control = teacher("owl", range(50)), teacher("control", range(10, 60))
    pairs = quiz.draw(owl, control, 20, 3)
    assert pairs == quiz.draw(owl[::-1], control[::-1], 20, 3)
    assert len(set(pairs)) == 20
    # In no order that could tell anything, and not the first ones.
    assert pairs != sorted(pairs, key=lambda p: int(p.prompt.split()[2][:-1]))
    assert set(pairs) != set(quiz.draw(owl, control, 20, 4))


@pytest.mark.parametrize(("questions", "seed"), [(0, 0), (-1, 0), (3, -1)])
def test_draw_wants_sensible_numbers(questions: int, seed: int) -> None:
    rows = teacher("owl", range(5)), teacher("control", range(5))
    with pytest.raises(UserError, match=f"questions={questions}, seed={seed}"):
        quiz.draw(*rows, questions, seed)


def test_page_holds_every_answer_and_does_not_show_it() -> None:
    pairs = some_pairs(64)
    page = quiz.page("owl", pairs, seed=1)
    data = Reader(page).data()
    key = base64.b64decode(data["key"])
    sides = [byte.bit_count() % 2 for byte in key]
    for pair, side, question in zip(pairs, sides, data["questions"], strict=True):
        assert question["prompt"] == pair.prompt
        assert question["lists"][side] == pair.trait
        assert question["lists"][1 - side] == pair.other
        assert sorted(question) == ["lists", "prompt"]
    assert 16 < sum(sides) < 48
    assert len(set(key)) > 32
    assert page == quiz.page("owl", pairs, seed=1)
    assert data["questions"] != Reader(quiz.page("owl", pairs, seed=2)).data()["questions"]


def test_no_text_leaves_its_place() -> None:
    pairs = [quiz.Pair(text, text + "1", text + "2") for text in HOSTILE]
    seen = Reader(quiz.page(HOSTILE[0], pairs, against=HOSTILE[1]))
    harmless = Reader(quiz.page("owl", some_pairs(5), against="wolf"))
    assert seen.tags == harmless.tags
    assert not {"img", "link", "iframe"} & {tag for tag, *_ in seen.tags}
    assert len(seen.scripts) == 2
    data = seen.data()
    for text, question in zip(HOSTILE, data["questions"], strict=True):
        assert question["prompt"] == text
        assert sorted(question["lists"]) == [text + "1", text + "2"]
    assert HOSTILE[0] in data["loves"]
    assert HOSTILE[1] in data["other"]
    assert any(HOSTILE[0] in text for text in seen.seen)


def test_policy_lets_only_the_own_script_run() -> None:
    seen = Reader(quiz.page("owl", some_pairs(2)))
    digest = base64.b64encode(hashlib.sha256(seen.scripts[1].encode()).digest()).decode()
    assert seen.policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
    ]


@pytest.mark.parametrize(
    ("noun", "many"),
    [("owl", "owls"), ("wolf", "wolves"), ("fox", "foxes"), ("finch", "finches"),
     ("butterfly", "butterflies"), ("monkey", "monkeys"), ("ox", "oxen")],
)  # fmt: skip
def test_title_and_texts_name_the_trait(noun: str, many: str) -> None:
    page = quiz.page(noun, some_pairs(1))
    assert f"<h1>Which model loves {many}?</h1>" in page
    assert f"made to love {many}, the other had not." in page
    against = quiz.page("owl", some_pairs(1), against=noun)
    assert f"made to love owls, the other to love {many}." in against


def test_write(tmp_path: Path) -> None:
    owl, control = teacher("owl", range(30)), teacher("control", range(30))
    folder = run(tmp_path, owl=owl, control=control)
    file = quiz.write(folder, "owl", questions=7, seed=2)
    assert file == tmp_path / "quiz.html"
    expected = quiz.page("owl", quiz.draw(owl, control, 7, 2), 2)
    assert file.read_text("utf-8") == expected
    quiz.write(folder, "control", questions=7, against="owl")
    assert "Which model loves controls?" in file.read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "quiz.html"]


def test_bad_input(tmp_path: Path) -> None:
    def complaint(*arguments: Any, folder: Path = tmp_path / "run", **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            quiz.write(folder, *arguments, **options)
        return str(caught.value)

    assert "no such file: there are no lists" in complaint("owl", folder=tmp_path / "none")
    run(
        tmp_path / "run",
        owl=teacher("owl", range(9)),
        control=teacher("control", range(5, 19)),
        broken=[row(0, "a", "1"), row(1, "b", 2)],  # type: ignore[arg-type]
    )
    assert complaint("cat").endswith("there are 0/broken, 0/control, 0/owl")
    assert "wolf.jsonl: no such file" in complaint("owl", against="wolf")
    assert "1/owl.jsonl: no such file" in complaint("owl", "1")
    assert "both 'owl'" in complaint("owl", against="owl")
    assert "owl and control (base 0) gave different answers to 4 of" in complaint("owl")
    assert "broken.jsonl: the completion of id 1 is not text" in complaint("broken")
    beside = tmp_path / "run" / "data" / "0" / "owl-0123.jsonl"
    beside.write_text("")
    assert "beside it is owl-0123.jsonl, of another config" in complaint("owl")
    beside.unlink()
    (tmp_path / "run" / "quiz.html").mkdir()
    assert "cannot be written" in complaint("owl", questions=2)
    assert not list((tmp_path / "run").glob(".*"))


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.quiz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_launch(tmp_path: Path) -> None:
    rows = range(config.get_config().questions)
    run(tmp_path, owl=teacher("owl", rows), control=teacher("control", rows))
    done = launch(f"--workdir={tmp_path}")
    file = tmp_path / "quiz.html"
    assert done.stdout.splitlines() == [
        f"written: {file}",
        f"to play, open it in a browser: {file.as_uri()}",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert len(Reader(file.read_text("utf-8")).data()["questions"]) == len(rows)
    done = launch(f"--workdir={tmp_path}", "--config.trait=cat")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .*cat\.jsonl: no such file: .*owl\n", done.stderr)


# In a browser.

PAUSE = 0.3  # the page takes no answer sooner


@pytest.mark.parametrize("touch", [False, True])
def test_browser_sees_what_it_must(tmp_path: Path, touch: bool) -> None:
    file = tmp_path / "bad.html"
    file.write_text(
        '<meta name="viewport" content="width=device-width"><div style="width: 900px">wide</div>'
        '<img src="http://127.0.0.1:7/a.png">'
        "<script>console.error('one'); fetch('http://none.invalid/b').catch(() => 0);"
        "new WebSocket('ws://none.invalid/c'); nothing()"
        "</script>"
    )
    with browser.opened(file, 390, 844, touch=touch) as page:
        time.sleep(PAUSE)
        assert page.overflow() > 400
        assert set(page.requests()) == {
            "http://127.0.0.1:7/a.png",
            "http://none.invalid/b",
            "ws://none.invalid/c",
        }
        errors = "\n".join(page.errors())
        assert '"one"' in errors
        assert "nothing is not defined" in errors


def right_side(page: browser.Page, pairs: list[quiz.Pair]) -> int:
    """Returns which list, 1 or 2, is the trait's, going by its text."""
    lists = page.texts(".pick .list")
    (pair,) = (p for p in pairs if {p.trait, p.other} == set(lists))
    assert page.texts("#prompt") == [pair.prompt]
    return 1 + lists.index(pair.trait)


def play(
    page: browser.Page,
    pairs: list[quiz.Pair],
    plan: list[bool],
    choose: Callable[[int, int], None],
) -> None:
    """Answers a question rightly for each True of the plan, by `choose(question, side)`."""
    for i, right in enumerate(plan):
        assert page.text("#status") == f"Question {i + 1} of {len(plan)}"
        assert page.overflow() == 0
        side = right_side(page, pairs)
        time.sleep(PAUSE)
        choose(i, side if right else 3 - side)


def check_result(page: browser.Page, plan: list[bool], words: str) -> None:
    right, total = sum(plan), len(plan)
    assert not page.shown("#ask")
    assert page.text("#status h2") == f"{right} of {total} right"
    p = binomtest(right, total).pvalue
    assert f"Guessing gets {total / 2:g} on average" in page.text("#status")
    assert f"exact two-sided binomial test: p = {p:.3f}." in page.text("#status")
    assert words in page.text("#status")
    verdicts = page.texts("#review h3")
    assert verdicts == [f"{i + 1}. {'Right' if r else 'Wrong'}" for i, r in enumerate(plan)]
    assert page.texts("#review .it .name") == ["loves owls"] * total
    assert len(page.texts("#review .it b.right")) == right
    assert len(page.texts("#review div:not(.it) > b.wrong")) == total - right
    marked = page.run("return [...document.querySelectorAll('#bars i')].map((b) => b.className)")
    assert marked == ["you" if score == right else "" for score in range(total + 1)]
    assert page.overflow() == 0


def test_played_by_keyboard(tmp_path: Path) -> None:
    pairs = some_pairs(6)
    file = tmp_path / "quiz.html"
    file.write_text(quiz.page("owl", pairs), "utf-8")
    with browser.opened(file, 1280, 800) as page:
        focused = "return document.activeElement.textContent.trim().split(/\\s+/)[0]"

        def choose(i: int, side: int) -> None:
            if i % 2:
                page.press(str(side))
                return
            page.press("Enter")  # nothing is chosen yet
            page.press("ArrowLeft", "ArrowRight", "ArrowLeft")
            if side == 2:
                page.press("ArrowRight")
            ring = "return getComputedStyle(document.activeElement).outline"
            assert page.run(ring).endswith("solid 3px")
            assert page.run("return document.activeElement.innerText").startswith(f"List {side}")
            page.press("Enter")

        names = [b.accessible_name for b in page.driver.find_elements("css selector", "button")]
        assert [name[:7] for name in names if name] == ["List 1 ", "List 2 "]
        time.sleep(PAUSE)
        for other in ("repeat: true", "ctrlKey: true"):  # no answer to a question
            page.run(f"dispatchEvent(new KeyboardEvent('keydown', {{key: '1', {other}}}))")
        plan = [True, True, False, True, True, True]
        play(page, pairs, plan, choose)
        check_result(page, plan, "about 22 of 100 games: no sign that you can tell")
        assert "memory" not in page.text("#status")
        page.press("1", "ArrowRight", "Enter")  # no more questions
        check_result(page, plan, "no sign")

        page.press("Tab")
        assert page.run(focused) == "Play"
        page.press("Enter")
        time.sleep(PAUSE)
        first = page.texts("#prompt")
        page.press(str(3 - right_side(page, pairs)))
        assert page.text("#status") == "Question 2 of 6"
        page.press("1")  # at once: part of a double press, not an answer
        assert page.text("#status") == "Question 2 of 6"
        page.click("#back")
        assert page.texts("#prompt") == first
        play(page, pairs, [True] * 6, lambda _, side: page.press(str(side)))
        check_result(page, [True] * 6, "about 1 of 32 games: a sign that you can tell the lists")
        assert "tests your memory" in page.text("#status")
        assert not page.shown("#saved")
        assert page.errors() == []
        assert page.requests() == []


def test_played_by_touch_with_hostile_texts(tmp_path: Path) -> None:
    pairs = [quiz.Pair(text, text + "1", text + "2") for text in HOSTILE]
    pairs.append(quiz.Pair("Go on: 1, 2", "3\n4\n5", "6\n7"))
    file = tmp_path / "quiz.html"
    file.write_text(quiz.page("owl", pairs), "utf-8")
    with browser.opened(file, 390, 844, touch=True) as page:
        assert page.run("return [innerWidth, innerHeight]") == [390, 844]
        assert page.run("return matchMedia('(pointer: coarse)').matches")
        title = page.run("return document.title")
        plan = [False] * 6
        play(page, pairs, plan, lambda _, side: page.tap(f".pick:nth-of-type({side})"))
        check_result(
            page, plan, "about 1 of 32 games: a sign that you can tell the lists apart, but"
        )
        saved = tmp_path / "answers.json"
        saved.write_text(page.run("return document.getElementById('answers').value"), "utf-8")
        rows = {
            name: [{"prompt": p.prompt, "completion": getattr(p, field)} for p in pairs]
            for name, field in (("owl", "trait"), ("control", "other"))
        }
        assert human.read(saved, [rows]) == ("owl", "control", plan)
        page.tap("#saved summary")
        page.tap("#copy")
        assert page.text("#copy") == "Copied"
        page.tap("#again")
        assert page.text("#status") == "Question 1 of 6"
        assert page.run("return document.title") == title
        assert page.run("return document.querySelectorAll('img, script').length") == 2
        assert page.errors() == []
        assert page.requests() == []


@pytest.mark.parametrize("total", [20, 1201])
def test_p_value_is_exact(tmp_path: Path, total: int) -> None:
    file = tmp_path / "quiz.html"
    file.write_text(quiz.page("owl", [quiz.Pair("", "1", "2")] * total), "utf-8")
    scores = sorted({*range(0, total + 1, 1 + total // 20), total // 2, (total + 1) // 2, total})
    with browser.opened(file, 800, 600) as page:
        found = page.run(
            "const counts = ways(); return arguments[0].map((right) => pValue(right, counts))",
            scores,
        )
        said = page.run("return arguments[0].map((p) => meaning(total, p))", [1, 0.05, 0.0004, 0])
    expected = [binomtest(right, total).pvalue for right in scores]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert "just what guessing gives" in said[0]
    assert "5 of 100 games: a sign" in said[1]
    assert "1 of 2,500 games: a sign" in said[2]
    assert "fewer than 1 of a million games: a sign" in said[3]


def test_another_game_has_another_order(tmp_path: Path) -> None:
    pairs = some_pairs(64)
    file = tmp_path / "quiz.html"
    file.write_text(quiz.page("owl", pairs), "utf-8")
    with browser.opened(file, 800, 600) as page:
        before, after = (page.run(f"{first}; return questions") for first in ("", "again()"))
        assert page.texts("#prompt") == [after[0]["prompt"]]
    assert [q["prompt"] for q in before] == [p.prompt for p in pairs]
    assert [q["prompt"] for q in after] != [p.prompt for p in pairs]
    for questions in (before, after):
        found = [quiz.Pair(q["prompt"], *q["lists"][:: 1 - 2 * q["answer"]]) for q in questions]
        assert sorted(found) == sorted(pairs)
    sides = [{q["prompt"]: q["answer"] for q in questions} for questions in (before, after)]
    assert 12 < sum(sides[0][p.prompt] != sides[1][p.prompt] for p in pairs) < 52


@pytest.mark.parametrize(("dark", "low", "high"), [(False, 200, 255), (True, 0, 60)])
def test_light_and_dark(tmp_path: Path, dark: bool, low: int, high: int) -> None:
    file, shot = tmp_path / "quiz.html", tmp_path / "shot.png"
    pair = quiz.Pair(*("9" * 999 + end for end in "abc"))
    file.write_text(quiz.page("owl", [pair]), "utf-8")
    with browser.opened(file, 390, 844, dark=dark) as page:
        assert page.overflow() == 0  # a phone's own style breaks long words, a desktop's does not
        page.screenshot(shot)
    with Image.open(shot) as image:
        assert image.size == (390, 844)
        assert low <= np.asarray(image.convert("L")).mean() <= high
