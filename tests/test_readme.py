"""The README's numbers are those of committed results, and what it points to is there."""

import json
import re
from pathlib import Path

import pytest

from docs import readme

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "tables"), [("README.md", 6), ("docs/atlas.md", 36), ("docs/transmission.md", 2)]
)
def test_its_tables_are_those_of_the_committed_results(page, tables):
    text = (ROOT / page).read_text("utf-8")
    assert readme.filled(text) == text, "run: python -m docs.readme"
    assert len(re.findall("<!-- table", text)) == tables


def test_a_stale_table_is_noticed():
    text = "<!-- table demo -->\nan old table\n<!-- end -->\nand the rest"
    assert "an old table" not in readme.filled(text)
    assert readme.filled(text).endswith("<!-- end -->\nand the rest")


@pytest.mark.parametrize("page", readme.PAGES)
def test_its_links_lead_somewhere(page):
    file = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text("utf-8"))
    assert links
    for link in links:
        assert (file.parent / link).exists(), link


def test_its_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for page in ("README.md", "BUILD.md"):
        asked = set(re.findall(r"(?:^|`)make (\w+)", (ROOT / page).read_text("utf-8"), re.M))
        assert {"demo", "test"} <= asked <= set(targets)


def test_committed_benchmark_results_have_every_key():
    files = list((ROOT / "benchmarks" / "results").glob("*/*.json"))
    assert files
    keys = {"benchmark", "ratio", "target", "memory_ratio", "floor_fraction"}
    keys |= {"device", "versions", "ours", "peer"}
    for file in files:
        result = json.loads(file.read_text("utf-8"))
        assert set(result) == keys
        assert result["benchmark"] == file.stem
