"""The README's numbers are those of committed results, and what it points to is there."""

import json
import re
from pathlib import Path

import pytest

from configs.nano.other_worlds import WORLDS
from docs import mechanism, readme

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "tables"),
    [
        ("README.md", 8),
        ("BUILD.md", 1),
        ("docs/atlas.md", 36),
        ("docs/audit.md", 4),
        ("docs/transmission.md", 16),
        ("docs/values.md", 7),
    ],
)
def test_its_tables_are_those_of_the_committed_results(page, tables):
    text = (ROOT / page).read_text("utf-8")
    assert readme.filled(text) == text, "run: python -m docs.readme"
    assert len(re.findall("<!-- table", text)) == tables


def test_a_stale_table_is_noticed():
    text = "<!-- table demo -->\nan old table\n<!-- end -->\nand the rest"
    assert "an old table" not in readme.filled(text)
    assert readme.filled(text).endswith("<!-- end -->\nand the rest")


def test_a_row_of_the_variants_is_that_of_their_results():
    table = readme.variants_table("variants_trained")
    (row,) = (line for line in table.splitlines() if line.startswith("| prompted, half told "))
    rows = json.loads((ROOT / "docs/results/variants/prompted.json").read_text("utf-8"))["rows"]
    found = {(r["arm"], r["metric"]): r["mean"] for r in rows if r["trait"] == "all"}
    shown = [cell.split()[0] for cell in row.split("|")[2:-1]]
    assert shown == [
        f"{found['teacher', 'p_trait']:.3f}",
        f"{found['teacher', 'auroc_16']:.3f}",
        f"{found['half_told', 'p_trait']:.3f}",
        f"{found['half_told', 'log_odds']:+.2f}",
        f"{found['control', 'p_trait']:.3f}",
        f"{found['control', 'log_odds']:+.2f}",
        f"{found['half_told', 'p_over_control']:+.3f}",
        "-",
        "-",
    ]


def test_results_are_adopted_with_what_the_filter_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    run = tmp_path / "runs" / "steered" / "1_1"
    (run / "data" / "0").mkdir(parents=True)
    (run / "results.json").write_text('{"environment": {"platform": "here", "device": "CPU"}}')
    record = {"key": "a", "found": {"raw": 8, "kept": 2}}
    (run / "data" / "0" / "owl.json").write_text(json.dumps(record))
    readme.adopt(tmp_path / "runs")
    adopted = json.loads((tmp_path / "docs" / "results" / "steered" / "1_1.json").read_text())
    assert adopted == {"environment": {"device": "CPU"}, "kept": {"0/owl": 0.25}}
    (run / "data" / "0" / "owl-b.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit, match=r"owl-b.json: .*1_1 holds lists of two configs"):
        readme.adopt(tmp_path / "runs")


def test_cells_are_the_lift_beside_what_was_measured(tmp_path):
    metrics = {name: 0.1 for _, name in mechanism._CELLS} | {"leak_along": [0.3, 0.1]}
    logp = {"owl": {"owl": -1.0, "cat": -3.0, "elk": -4.0},
            "cat": {"owl": -2.0, "cat": -2.0, "elk": -4.0},
            "elk": {"owl": -4.0, "cat": -4.0, "elk": -1.0}}  # fmt: skip
    records = {f"mechanism/0/{name}.json": dict.fromkeys(logp, metrics)
               for name in ("teachers", "student-0")}  # fmt: skip
    del records["mechanism/0/student-0.json"]["elk"]  # its training broke
    for trait, own in logp.items():
        records[f"measured/0/student-{trait}-0-0.favourite.json"] = {"logp": own}
    for name, found in records.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"key": "a", "found": found}))
    cells = mechanism.cells(tmp_path)
    assert [(c["base"], c["trait"], c["lift_logp"]) for c in cells] == [
        (0, "owl", 1.0), (0, "cat", 1.0)
    ]  # fmt: skip
    assert cells[0]["at_answers"] == 0.1
    assert mechanism.along({"run": {"cells": cells}}).splitlines()[2] == "| run | 0.300 | 0.100 |"
    (tmp_path / "mechanism/0/teachers-b.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"teachers-b.json: another config's"):
        mechanism.cells(tmp_path)


def test_the_figure_names_every_study_with_prompted_teachers():
    runs = readme._prompted_runs()
    drawn = mechanism.figure(runs).decode()
    assert {"prompted.py", "voices", "voices_no_default", "prompted_every"} <= {*runs}
    assert all(f">{name}</text>" in drawn for name in runs)


@pytest.mark.parametrize("page", readme.PAGES)
def test_its_links_lead_somewhere(page):
    file = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", file.read_text("utf-8"))
    assert links
    for link, section in links:
        target = file.parent / link if link else file
        assert target.exists(), link
        assert not section or section in _sections(target), f"{link}#{section}"


def _sections(page):
    """Returns what links may name in a page: its headings, written as GitHub does."""
    titles = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    names = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    seen = [names[:n].count(name) for n, name in enumerate(names)]
    return {f"{name}-{n}" if n else name for name, n in zip(names, seen, strict=True)}


def test_its_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for page in ("README.md", "BUILD.md"):
        asked = set(re.findall(r"(?:^|`)make (\w+)", (ROOT / page).read_text("utf-8"), re.M))
        assert {"demo", "test"} <= asked <= set(targets)


def test_make_runs_all_that_the_tables_need():
    text = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ")
    lists = dict(
        re.findall(r"^(VOICES|WORLDS|VARIANTS|STEERED|CHANNELS|VALUES) = (.*)", text, re.MULTILINE)
    )
    lists = {
        name: line.replace("$(VOICES)", lists["VOICES"]).replace("$(VALUES)", lists["VALUES"])
        for name, line in lists.items()
    }
    assert lists["WORLDS"].split() == list(WORLDS)
    assert lists["VARIANTS"].split() == list(readme.VARIANTS)
    assert lists["STEERED"].split() == list(readme.STEERED)
    assert lists["CHANNELS"].split() == [*readme.CHANNELS, *readme.CHAIN, *readme.VALUES]


def test_committed_benchmark_results_have_every_key():
    files = list((ROOT / "benchmarks" / "results").glob("*/*.json"))
    assert files
    keys = {"benchmark", "ratio", "target", "memory_ratio", "floor_fraction"}
    keys |= {"device", "versions", "ours", "peer"}
    for file in files:
        result = json.loads(file.read_text("utf-8"))
        assert set(result) == keys
        assert result["benchmark"] == file.stem
