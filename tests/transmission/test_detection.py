"""The launch on a small study: what it writes, prints and refuses, and that the study stays."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.transmission import demo
from configs.transmission import detect as settings
from sublim_jax import digest
from sublim_jax.errors import UserError
from sublim_jax.report import spent
from sublim_jax.stats import mean_ci, share_ci
from sublim_jax.transmission import detection, detection_report, detection_results
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.detect import (
    DETECTION,
    SIZES,
    Judged,
    aurocs,
    bagged,
    detected,
    naive_bayes,
)
from sublim_jax.transmission.detection_results import Found, find
from sublim_jax.transmission.finished import Finished
from sublim_jax.transmission.in_context import Shown

TRAITS = ("owl", "wolf")
MEANS = {"base": 0.06, "control": 0.05, "student": 0.6}


def small(study: Path, **more: Any) -> Any:
    config = settings.get_config()
    config.run = str(study)
    config.reader.recipe.max_steps, config.reader.recipe.batch = 30, 12
    config.prompted.rows, config.in_context.rows, config.in_context.draws = 16, 1, 2
    config.update_from_flattened_dict(more)
    return config


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), "utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a finished study leaves: owl's numbers are small, wolf's as the control's."""
    folder = tmp_path_factory.mktemp("study")
    config = demo.get_config()
    config.traits = TRAITS
    config.mesh.student = 1
    write_json(folder / "config.json", {"study": "transmission", "config": config.to_dict()})
    for seed, (name, high) in enumerate([("owl", 500), ("wolf", 1000), ("control", 1000)]):
        drawn = np.random.default_rng(seed).integers(100, high, (160, 5))
        rows = [
            {"id": i, "prompt": f"go on {100 + i}", "completion": " ".join(map(str, own))}
            for i, own in enumerate(drawn)
        ]
        file = folder / "data" / "0" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        write_json(file.with_suffix(".json"), {"found": {"digest": digest.of_files(file)}})
    found = [("student", "p_over_control", 0.55), ("student", "lift_logp", 3.0)]
    found += [("student", "logp_shift", 2.5), ("control", "logp_shift", -0.5)]
    found += [(arm, "p_trait", mean) for arm, mean in MEANS.items()]
    ends = {"ci_low": None, "ci_high": None, "n": 1, "unit": "cell"}
    rows = [
        {"arm": arm, "trait": trait, "metric": metric, "mean": mean, **ends}
        for arm, metric, mean in found
        for trait in (*TRAITS, "all")
    ]
    write_json(folder / "results.json", {"rows": rows})
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.slow
def test_what_is_written_and_printed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(study)
    rows = {name: [json.loads(line) for line in before[f"data/0/{name}.jsonl"].splitlines()]
            for name in ("owl", "control")}  # fmt: skip
    pairs = [(a, b) for a, b in zip(rows["owl"], rows["control"], strict=True)][:20]
    game = [
        {"prompt": one["prompt"], "picked": one["completion"], "left": other["completion"]}
        for one, other in pairs
    ]
    write_json(tmp_path / "me.json", {"trait": "owl", "against": "control", "answers": game})
    config = small(study, answers=(str(tmp_path / "me.json"),))
    out = tmp_path / "out"
    detection.detect(config, str(out))
    printed = capsys.readouterr().out
    assert files(study) == before
    assert set(files(out)) == {
        "config.json", "results.json", "table.md", "items.json", "report.html",
        *(f"figures/{name}.{kind}" for name in ("detectors", "in_context")
          for kind in ("svg", "png")),
    }  # fmt: skip

    results = json.loads((out / "results.json").read_text("utf-8"))
    assert [*results["timings"]][:4] == ["compile", "load", "prompted", "reader"]
    assert all(seconds > 0 for seconds in results["timings"].values())
    found = results["rows"]
    by = {(r["arm"], r["trait"], r["metric"], r.get("against", r.get("shown"))): r for r in found}
    detectors = ("naive_bayes", "ngrams", "layout", "reader", "prompted")
    for at in [(n, t, m, a) for n in detectors for t in (*TRAITS, "all") for m in DETECTION
               for a in ("control", "other trait", "leaks")]:  # fmt: skip
        assert 0 <= by[at]["ci_low"] <= by[at]["mean"] <= by[at]["ci_high"] <= 1, at
    for name in ("naive_bayes", "ngrams", "reader"):
        assert by[name, "all", "auroc_16", "leaks"]["mean"] >= detection_report.LEAST, name
    for name in ("naive_bayes", "ngrams"):
        assert by[name, "owl", "auroc_16", "control"]["ci_low"] > 0.95
        assert by[name, "wolf", "auroc", "control"]["ci_low"] < 0.5
    one = by["naive_bayes", "owl", "auroc", "control"]
    assert (one["n"], one["unit"]) == (160, "prompt")
    assert by["reader", "owl", "auroc", "control"]["n"] == 32  # one fold
    wanted = detected(rows["owl"], rows["control"], numbers.items, naive_bayes.log_odds)
    assert one["mean"] == pytest.approx(wanted["auroc"], abs=1e-6)
    assert by["human", "all", "auroc", "control"]["mean"] == 1
    assert by["human", "all", "auroc", "control"]["ci_low"] == pytest.approx(0.8389, abs=1e-4)
    for trait in (*TRAITS, "all"):
        assert by["in_context", trait, "logp", 0]["ci_low"] < 0
        assert ("in_context", trait, "logp_over_control", 0) not in by
        assert by["in_context", trait, "logp_over_other", 1]["n"] == 2
        assert by["learnt", trait, "logp_over_control", None]["mean"] == 3
        assert by["student", trait, "p_trait", None]["mean"] == MEANS["student"]

    table = (out / "table.md").read_text("utf-8")
    last = f"{spent(results['timings'])}: {out / 'report.html'}\n"
    assert printed == f"{table}{last}"
    assert "These count for nothing" in table  # the prompted reader
    assert "Students that learnt them: P(trait) +0.550 over the control's." in table
    assert "Detection and transmission are two things" in table
    page = (out / "report.html").read_text("utf-8")
    assert "people" in page
    assert page.count("<figure>") == 2

    (out / "table.md").write_text("as it was\n")  # the second time nothing is computed
    detection.detect(config, str(out))
    assert capsys.readouterr().out == f"as it was\n{last}"
    with pytest.raises(UserError, match=r"another config \(prompted\.rows was 16, is 17\)"):
        detection.detect(small(study, **{"prompted.rows": 17, "answers": config.answers}), str(out))


def test_bad_input_ends_in_one_line_and_writes_nothing(study: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"

    def complaint(change: Any = None, out: Path = out, **more: Any) -> str:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(study, run)
        if change:
            change(run / "data" / "0" / "owl.jsonl")
        with pytest.raises(UserError) as caught:
            detection.detect(small(run, **more), str(out))
        assert not out.exists()
        return str(caught.value)

    def cut(file: Path, at: int) -> None:
        file.write_bytes(file.read_bytes()[:at])

    def lines(file: Path) -> int:
        return file.read_bytes().rindex(b"\n", 0, -1) + 1

    assert "--config.run is missing" in complaint(run="")
    assert "config.json: missing: give the directory of a study" in complaint(run=str(tmp_path))
    assert "results.json: missing" in complaint(lambda f: (run / "results.json").unlink())
    other = lambda f: write_json(run / "config.json", {"study": "nano"})  # noqa: E731
    assert "a run of 'nano': give" in complaint(other)
    assert "owl.jsonl: no such file: there are 0/control, 0/wolf" in complaint(Path.unlink)
    assert "owl.jsonl, line 160: not JSON" in complaint(lambda f: cut(f, -9))
    assert "owl.jsonl: not as it was written" in complaint(lambda f: cut(f, lines(f)))
    record = complaint(lambda f: f.with_suffix(".json").unlink())
    assert "owl.json: missing: give the directory" in record
    assert "config.traits: 'cat': " in complaint(traits=("cat",))
    assert complaint(traits=("cat",)).endswith("has owl, wolf")
    (tmp_path / "no.json").write_text("[]")
    assert "no.json: not a JSON object" in complaint(answers=(str(tmp_path / "no.json"),))
    assert "within the study, which is only read" in complaint(out=run / "out")
    for field, value, problem in [
        ("rows", 79, "at least 80"),
        ("prompted.rows", 15, "at least 16"),
        ("prompted.question", "{trait} or {two}", r"must have {one}"),
        ("prompted.answers", ("sea", "sea"), "two different words"),
        ("reader.answers", ("sea",), "two different words"),
        ("reader.recipe.max_steps", 0, "at least 1"),
        ("in_context.draws", 1, "at least 2"),
    ]:
        found = complaint(**{field: value})
        assert field in found, found
        assert problem in found, found
    assert "'zebra': not a word of nano/0" in complaint(**{"reader.answers": ("zebra", "sea")})


def test_intervals_are_over_bases_where_there_are_several() -> None:
    rng = np.random.default_rng(0)

    def found(apart: float, moved: float) -> Found:
        """Of one base: how far apart the log-odds are, and what owl's rows do in context."""
        own, other = rng.normal(apart, 1, 100), rng.normal(0, 1, 100)
        bags = {size: [bagged(Judged(np.arange(100), own, other), size)] for size in SIZES}
        told = {("ngrams", "owl", against): bags for against in ("control", "leaks")}
        logp = {(name, "owl"): np.array([up, up + 0.1])
                for name, up in (("owl", moved), ("control", 0.0))}  # fmt: skip
        return Found(told, {}, [Shown(1, logp)], {})

    run = Finished(Path(), ConfigDict({"traits": ("owl", "wolf")}), [])
    bases = [found(1.0, 0.5), found(1.5, 0.7), found(2.0, 0.6)]
    rows = detection_results.rows(run, ["owl"], bases, [])
    several = find(rows, "ngrams", "auroc", against="control")
    each = [aurocs(own.told["ngrams", "owl", "control"][1])[0] for own in bases]
    assert several == {
        "arm": "ngrams", "trait": "all", "metric": "auroc", "against": "control",
        **share_ci(each)._asdict(), "unit": "base",
    }  # fmt: skip
    shift = find(rows, "in_context", "logp_over_control", shown=1)
    assert shift == {
        "arm": "in_context", "trait": "all", "metric": "logp_over_control", "shown": 1,
        **mean_ci([0.5, 0.7, 0.6])._asdict(), "unit": "base",
    }  # fmt: skip
    assert not find(rows, "in_context", "logp_over_other", shown=1)  # no other trait's rows
    single = detection_results.rows(run, ["owl"], bases[:1], [])
    one = find(single, "ngrams", "auroc_16", against="control")
    assert one
    assert (one["n"], one["unit"]) == (6, "bag")
