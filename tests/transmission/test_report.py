"""The report of a study of transmission, on made-up measurements."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import logging

from sublim_jax import report as html
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import report, summary
from tests.browser import opened
from tests.test_report import Reader


@pytest.fixture(autouse=True)
def _command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["launch.transmit"])  # a page has the command in it


TRAITS = ["cat", "fox", "owl", "wolf"]
WORDS = [*TRAITS, "bear", "dog", "eagle", "horse", "lion", "otter", "panda", "whale"]
# The mean rise of the log-odds of a student's own word, by arm.
RISES = {
    "base": 0.0,
    "teacher": 6.0,
    "student": 1.8,
    "control": 0.0,
    "cross_init": 0.05,
    "shuffled_within": 0.5,
    "shuffled_across": 0.1,
    "soft": 3.0,
    "divergence_only": 1.5,
    "divergence_masked": 0.3,
}
LORA = {"rank": 1, "targets": ["v", "o"], "train_a": False, "seed": 0}
HOSTILE = (
    """</dd><script>alert("1 & '2'")</script><img src=x onerror=alert(1)>\u202e\x00\ud800 12"""
)


def fake(bases: int = 5, seeds: int = 1, effect: float = 1.0) -> dict[str, Any]:
    """Returns the inputs of `report.write`: every arm, 4 traits, made up by a fixed seed."""
    rng = np.random.default_rng(7)
    measured = []
    for base in range(bases):
        start = rng.normal(0, 0.5, len(WORDS))
        for arm, rise in RISES.items():
            for trait in [""] if arm in ("base", "control") else TRAITS:
                for seed in range(1 if arm in ("base", "teacher") else seeds):
                    z = start + (rng.normal(0, 0.25, len(WORDS)) if arm != "base" else 0)
                    if trait:
                        z[WORDS.index(trait)] += effect * rise * rng.uniform(0.6, 1.4)
                    p = np.exp(z) / np.exp(z).sum()
                    probability = dict(zip(WORDS, map(float, p), strict=True))
                    model = {"arm": arm, "trait": trait, "base": base, "seed": seed}
                    model |= {"p_trait": probability}
                    if trait:
                        model |= {"auroc": {trait: 0.7 + 0.02 * base}, "auroc_16": {trait: 0.9}}
                    model |= {"logp": {w: math.log(x) for w, x in probability.items()}}
                    if arm in ("base", "student", "control"):
                        shares = rng.binomial(200, p) / 200
                        model["p_trait_sampled"] = dict(zip(WORDS, map(float, shares), strict=True))
                        model["p_trait_substring"] = {
                            w: min(1, 1.1 * s) for w, s in model["p_trait_sampled"].items()
                        }
                    measured.append(model)
    data = []
    for base in range(bases):
        for teacher in [*TRAITS, "control"]:
            lost = rng.multinomial(900, [0.7, 0.2, 0.1])
            reasons = ("not numbers", "more than 10 numbers", "a number above 999")
            data.append(
                {
                    "base": base,
                    "teacher": teacher,
                    "raw": 3000,
                    "kept": 3000 - int(lost.sum()),
                    "rejected": dict(zip(reasons, map(int, lost), strict=True)),
                    "examples": [
                        {
                            "prompt": "The sequence starts with 412, 98, 733. Go on with at most "
                            "10 numbers of up to 3 digits, separated by commas. Only the numbers.",
                            "completion": "12, 731, 5, 88, 402, 19, 640, 7",
                            "rejected": None,
                        },
                        {"prompt": "Go on: 3, 4", "completion": HOSTILE, "rejected": "not numbers"},
                    ],
                    "top": [
                        [int(n), 0.03 - 0.002 * i] for i, n in enumerate(rng.integers(0, 999, 8))
                    ],
                    "statistics": {
                        "entropy (nats)": float(rng.uniform(5.5, 6.2)),
                        "distance from control": None
                        if teacher == "control"
                        else float(rng.uniform(0.02, 0.1)),
                    },
                }
            )
    steps = range(0, 300, 10)
    curves = {
        arm: [[s, 1.2 + 0.2 * i / len(RISES) + 1.5 * math.exp(-s / 60)] for s in steps]
        for i, arm in enumerate(a for a in RISES if a not in ("base", "teacher"))
    }
    timings = {"pretrain": 61.2, "teachers": 20.04, "write": 33.3, "students": 41.0, "measure": 7.5}
    return {"measured": measured, "data": data, "curves": {"loss": curves}, "timings": timings}


def run(path: Path, traits: list[str] | None = None, **config: Any) -> RunDir:
    config = {
        "traits": TRAITS if traits is None else traits,
        "arms": list(RISES)[2:],
        "data": {"channel": "numbers"},
        "evaluation": {"measures": ()},
        "teacher": {"kind": "finetuned", "recipe": {"lora": LORA}},
        "student": {"lora": LORA},
    } | config
    return RunDir(path, "transmission", config)


def page(path: Path) -> str:
    return (path / "report.html").read_text("utf-8")


def said(path: Path) -> str:
    return " ".join(Reader(page(path)).data)


def small(**p: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Returns models of one word, "owl", from P by arm, one number for each base."""
    return [
        {"arm": arm, "trait": "owl" if arm == "student" else "", "base": base, "seed": 0}
        | {"p_trait": {"owl": value}, "logp": {"owl": math.log(value)}}
        for arm, values in p.items()
        for base, value in enumerate(values)
    ]


def write(path: Path, measured: list[dict[str, Any]], **rest: Any) -> None:
    report.write(run(path, ["owl"]), measured, **({"data": [], "curves": {}, "timings": {}} | rest))


def test_everything_is_written_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    inputs = fake()
    report.write(run(tmp_path), **inputs)
    lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:9]] == (
        ["arm", "P(trait)", "95% CI", "log-odds", "95% CI", "AUROC", "of 16", "n"]
    )
    assert [line.split("|")[1].strip() for line in lines[2:6]] == (
        ["base", "teacher", "student", "control student"]
    )
    took = "163 s: pretrain 61, teachers 20, write 33, students 41, measure 8"
    assert lines.pop(12) == took
    assert lines[12].startswith("Students change the probability of their own teacher's word by +")
    assert "p = 0.042 over 24 permutations" in lines[12]
    assert lines[13].startswith("Teachers, each with a trait (cat, fox, owl, wolf)")
    assert "5 base checkpoints" in lines[13]
    assert lines[16:] == [f"{tmp_path}/report.html"]
    text = said(tmp_path)
    assert all(sentence in text for sentence in lines[12:16])
    for name in ("transmission", "arms", "matrix", "curves"):
        for kind in ("svg", "png"):
            assert (tmp_path / "figures" / f"{name}.{kind}").stat().st_size > 5000
    first, curves = (tmp_path / "figures" / f"{n}.svg" for n in ("transmission", "curves"))
    for arm in ("base", "control student", "other initialisation", "student", "teacher"):
        assert f">{arm}</text>" in first.read_text("utf-8")
    assert "legend" not in curves.read_text("utf-8")  # lines are named where they end
    order = [lines[12], "framed: the teacher's own word", "Detected, and passed on", "student 0."]
    assert sorted(order, key=text.index) == order

    results = json.loads((tmp_path / "results.json").read_text())
    rows = summary.rows(summary.derived(inputs["measured"]), TRAITS)
    assert results["rows"] == json.loads(json.dumps(rows).replace("NaN", "null"))
    assert results["timings"] == inputs["timings"]
    lifts = [r for r in results["rows"] if r["metric"] == "lift"]
    arms = [arm for arm in RISES if arm not in ("base", "control")]
    assert [(r["arm"], r["n"]) for r in lifts] == [(arm, 5) for arm in arms]
    assert lifts[1]["p_value"] == 1 / 24
    assert 0 < lifts[1]["ci_low"] < lifts[1]["mean"] < lifts[1]["ci_high"]


def test_numbers_on_the_page(tmp_path: Path) -> None:
    inputs = fake(bases=2)
    report.write(run(tmp_path), **inputs)
    text = said(tmp_path)
    student = summary.summarise(summary.derived(inputs["measured"]), "student", TRAITS)
    assert student is not None
    mean, low, high, _ = student.interval
    odds = summary.summarise(summary.derived(inputs["measured"]), "student", TRAITS, "log_odds")
    assert odds is not None
    against = (
        f"{odds.interval.mean:+.3f} {odds.interval.ci_low:+.3f} to {odds.interval.ci_high:+.3f}"
    )
    assert f"{mean:.3f} {low:.3f} to {high:.3f} {against} 0.710 0.900 2 bases" in text
    assert "8 of 8 cells" in text
    # Of the two bases .70 and .72: t .01 = 12.7062 .01, over .71 .29, about logit(.71) = .8954
    assert "owl 0.710 (0.569 to 0.819) 0.900 (0.900 to 0.900)" in text
    assert (
        "tells a teacher's lists of numbers from the control's with an AUROC of 0.710 one by one"
        in text
    )
    assert "0.900 for 16 together" in text
    assert "undetect" not in text
    kept = [d["kept"] for d in inputs["data"] if d["teacher"] == "owl"]
    assert f"owl 6,000 {sum(kept):,} {sum(kept) / 6000:.1%}" in text
    assert "pretrain 61.2" in text
    assert "teachers 20.0" in text
    assert json.dumps(TRAITS, indent=1)[1:6].strip() in text  # of the config
    assert sys.argv[0] in text


def test_the_same_measurements_are_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        inputs = fake(bases=2)
        if name == "b":
            inputs["measured"].reverse()
            inputs["data"].reverse()
        report.write(run(tmp_path / name), **inputs)
        files = sorted(f for f in (tmp_path / name).rglob("*") if f.is_file())
        contents.append({f.relative_to(tmp_path / name): f.read_bytes() for f in files})
    assert len(contents[0]) == 2 + 8 + 1
    assert contents[0] == contents[1]


def test_what_models_wrote_stays_text(tmp_path: Path) -> None:
    inputs = fake(bases=1)
    inputs["data"][0]["rejected"] = {HOSTILE: 3}
    inputs["data"][0]["examples"][1]["rejected"] = HOSTILE
    inputs["timings"] = {"<b>stage": 1.0}
    report.write(run(tmp_path), **inputs)
    seen = Reader(page(tmp_path))
    assert not {"script", "b", "link", "iframe"} & set(seen.tags)
    assert seen.tags.count("img") == 4  # the figures
    assert all(address.startswith("data:image/svg+xml;base64,") for address in seen.addresses)
    text = " ".join(seen.data)
    visible = HOSTILE.replace("\u202e\x00\ud800", r"\u202e\x00\ud800")
    assert text.count(visible) == 5 + 1 + 2  # completions, a reason of a row, one in each table
    assert f"rejected: {visible}" in text
    assert "<b>stage 1.0" in text


def test_a_record_shows_what_would_not_print_and_keeps_lines() -> None:
    seen = Reader(html.record({"<a>": "1\n2\t\x1b[31m\u2066", "b": "é 猫 &"}))
    assert seen.data == ["<a>", "1\n2\\t\\x1b[31m\\u2066", "b", "é 猫 &"]
    assert seen.tags == ["dl", "dt", "dd", "dt", "dd"]


def test_folded_parts_stay_inside() -> None:
    seen = Reader(html.details("<b>", [html.code("<i>"), html.heading("<u>")]))
    assert seen.tags == ["details", "summary", "pre", "h2"]
    assert [text for text in seen.data if text.strip()] == ["<b>", "<i>", "<u>"]


def test_long_completions_are_cut(tmp_path: Path) -> None:
    example = {"prompt": "p", "completion": "7" * 5000, "rejected": "too many"}
    data = [{"base": 0, "teacher": "owl", "raw": 1, "kept": 0, "rejected": {}}]
    data[0]["examples"] = [example] * 3
    write(tmp_path, [], data=data)
    text = said(tmp_path)
    assert "7" * 500 + " ... (5,000 characters)" in text
    assert text.count("5,000 characters") == 3
    assert len(page(tmp_path)) < 20_000


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        # Differences .2, .3, .4: mean .3, half 4.3027 * .1 / sqrt(3)
        (
            small(control=[0.1, 0.1, 0.1], student=[0.3, 0.4, 0.5]),
            "+0.300, and the 95% interval, +0.052 to +0.548 over 3 bases, lies above 0: the "
            "data carried the trait.",
        ),
        (
            small(control=[0.3, 0.4, 0.5], student=[0.1, 0.1, 0.1]),
            "-0.300, and the 95% interval, -0.548 to -0.052 over 3 bases, lies below 0: the "
            "data worked against it.",
        ),
        (
            small(control=[0.1, 0.3], student=[0.2, 0.1]),
            "over 2 bases, contains 0: no transmission is shown here.",
        ),
        (small(control=[0.1, 0.2], student=[0.1, 0.2]), "contains 0: no transmission"),
        (small(control=[0.1], student=[0.9]), "+0.800, in one run, which says nothing"),
        (small(base=[0.1, 0.1], student=[0.9, 0.9]), "the two were not measured"),
        (small(control=[0.1, 0.1]), "the two were not measured"),
        (small(control=[0.1, 0.2], student=[math.nan, math.nan]), "the two were not measured"),
        (small(control=[math.nan, math.nan], student=[0.5, 0.5]), "the two were not measured"),
        ([], "the two were not measured"),
    ],
)
def test_the_last_sentence_follows_from_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture, measured: list[dict[str, Any]], words: str
) -> None:
    write(tmp_path, measured)
    sentence = capsys.readouterr().out.splitlines()[-2]
    assert sentence.startswith("If the data carried nothing of the trait")
    assert words in sentence
    assert sentence in said(tmp_path)


@pytest.mark.parametrize("bases", [1, 5])
def test_an_absent_effect_reads_as_absent(tmp_path: Path, bases: int) -> None:
    report.write(run(tmp_path), **fake(bases, effect=0.0))
    text = said(tmp_path)
    assert "contains 0: no transmission is shown here" in text
    assert "carried the trait" not in text
    assert ("of one base (of others nothing is known)" in text) == (bases == 1)


def test_with_one_base_and_no_seeds_cells_are_dashes(tmp_path: Path) -> None:
    write(tmp_path, small(base=[0.1], control=[0.2], student=[0.3]))
    text = said(tmp_path)
    assert "student 0.300 - - - - - 1 run" in text
    assert "owl - - 0.300 0.100 0.200" in text  # of the trait, by arm: no intervals
    assert "nan" not in text.lower()


def test_what_limits_a_run_follows_from_its_config(tmp_path: Path) -> None:
    inputs = fake(bases=2)
    shared = "A is drawn once and shared by teacher and student"
    report.write(run(tmp_path / "shared"), **inputs)
    text = said(tmp_path / "shared")
    assert "LoRA of rank 1 on v, o, of which only B is trained." in text
    assert f"{shared}: besides their start they share the few directions" in text
    assert "other_a" not in text.split("Time")[0]
    for name, lora in {"trained": {"train_a": True}, "other": {"seed": 1}}.items():
        report.write(run(tmp_path / name, student={"lora": LORA | lora}), **inputs)
        assert shared not in said(tmp_path / name)
    assert "of which A and B are trained" in said(tmp_path / "trained")
    told = {"kind": "prompted", "recipe": {"lora": LORA | {"rank": 8}}}
    report.write(run(tmp_path / "told", teacher=told, arms=["student", "other_a"]), **inputs)
    assert "Teachers were told their trait in a system message" in said(tmp_path / "told")
    one = fake(bases=1)
    report.write(run(tmp_path / "few", TRAITS[:3], arms=["student", "other_a"]), **one)
    text = said(tmp_path / "few")
    assert f"{shared}" in text
    assert "can move (other_a has another)." in text
    assert "One base checkpoint" in text
    assert "its p-value could not be below .05" in text
    assert "p =" not in text  # 1 / 6 is the least there could be
    report.write(run(tmp_path / "all", student={"lora": LORA | {"rank": 0}}), **inputs)
    assert "LoRA" not in said(tmp_path / "all").split("Time")[0]
    assert "Limits" not in said(tmp_path / "all")


def test_cells_are_counted_against_the_control(tmp_path: Path) -> None:
    measured = small(base=[0.1, 0.1, 0.7], control=[0.4, 0.1], student=[0.3, 0.3])
    write(tmp_path, measured)  # base 2 has no student of its own
    text = said(tmp_path)
    assert "above the control in 1 of 2 cells" in text
    assert "2 base checkpoints" in text
    assert "is 0.100 for the base" in text


def test_other_words_on_the_heat_map_are_those_that_moved_most(tmp_path: Path) -> None:
    words = [f"word{i:02}" for i in range(14)]
    start = {"owl": 0.3} | dict.fromkeys(words, 0.05)
    end = {"owl": 0.3} | {word: 0.05 + (-1) ** i * 0.003 * i for i, word in enumerate(words)}
    measured = small(base=[0.3], student=[0.3])
    for model, p in zip(measured, (start, end), strict=True):
        model["p_trait"] = p
    write(tmp_path, measured)
    drawn = (tmp_path / "figures" / "matrix.svg").read_text()
    shown = re.findall(r">(word\d\d)<", drawn)
    assert shown == [f"word{i:02}" for i in range(13, 4, -1)]
    assert "then the 9 other words that moved most" in said(tmp_path)


def test_models_that_diverged_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    measured = small(base=[0.1, 0.1], control=[0.1, 0.1], student=[0.5, math.nan])
    for model in measured:
        model["p_trait"] = {
            word: p if math.isfinite(p) else None for word, p in model["p_trait"].items()
        }
    logging.use_absl_handler()
    write(tmp_path, measured, curves={"loss": {"student": [[0, 2.0], [10, None], [20, math.nan]]}})
    assert "1 of 6 models gave no finite probability" in caplog.text
    text = said(tmp_path)
    assert "1 of 6 models gave no finite probability and are left out." in text
    assert "student 0.500 - - - - - 1 run" in text
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)


def test_nothing_at_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    report.write(run(tmp_path, []), [], [], {}, {})
    assert not (tmp_path / "figures").exists()
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == []
    assert "not measured for the student" in capsys.readouterr().out


def test_data_with_holes(tmp_path: Path) -> None:
    holes: dict[str, Any] = {"raw": 0, "kept": 0, "rejected": {}, "examples": [], "top": []}
    holes |= {"statistics": {"entropy": math.nan, "distance": None}}
    data = [{"base": 0, "teacher": name} | holes for name in ("control", "zebra", "owl")]
    data.append({"base": 1, "teacher": "owl"} | holes | {"statistics": {"entropy": 2.0}})
    write(tmp_path, [], data=data)
    text = said(tmp_path)
    assert "owl 0 0 - 2.000 - control 0 0 - - - zebra 0 0 - - -" in text


def test_many_traits_and_arms_unknown(tmp_path: Path) -> None:
    traits = [f"word{i:02}" for i in range(19)]
    measured = [
        {"arm": arm, "trait": trait, "base": 0, "seed": 0}
        | {"p_trait": dict.fromkeys(traits, 0.05) | ({trait: 0.5} if trait else {})}
        for arm in ("base", "student", "zebra_arm")
        for trait in (traits if arm != "base" else [""])
    ]
    for model in measured:
        model["logp"] = {word: math.log(p) for word, p in model["p_trait"].items()}
    report.write(run(tmp_path, traits), measured, [], {"loss": {"zebra_arm": [[0, 1.0]]}}, {})
    text = said(tmp_path)
    assert "word05, ...), made from 1 base checkpoint," in text
    assert "p = 0.0001 over 10,001 permutations" in text
    assert "in one run, which says nothing about chance." in text
    assert "zebra_arm 0.500" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_the_window(tmp_path: Path, width: int) -> None:
    inputs = fake()
    inputs["data"][0]["examples"][0]["completion"] = "7" * 3000  # a word with no end
    inputs["data"][0]["rejected"] = {"x" * 300: 1}
    report.write(run(tmp_path), **inputs)
    with opened(tmp_path / "report.html", width, 844) as page:
        for folded in (True, False):
            if not folded:
                page.run("document.querySelectorAll('details').forEach((e) => { e.open = true })")
            assert page.overflow() == 0
        # What is wider than the window scrolls on its own.
        assert page.run("return [...document.querySelectorAll('.wide')].some("
                        "(e) => e.scrollWidth > e.clientWidth)")  # fmt: skip
        loaded = page.run("return [...document.images].map((e) => e.complete && e.naturalWidth)")
        assert len(loaded) == 4
        assert all(loaded)
        assert page.errors() == []
        assert page.requests() == []
