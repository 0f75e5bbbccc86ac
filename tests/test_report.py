"""Tables and the self-contained page."""

import base64
import json
import re
from html.parser import HTMLParser

from sublim_jax import report

NASTY = """<script>alert("1 & '2'")</script> {{parts}}"""


class Reader(HTMLParser):
    """What a browser would see: tags, addresses and text; every tag must be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.data: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.data += [value or "" for name, value in attrs if name == "alt"]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data.append(data)


def test_markdown_table_is_aligned() -> None:
    assert report.markdown_table(["arm", "n"], [["teacher", "20"], ["x", "3"]]) == (
        "| arm     | n  |\n"
        "| ------- | -- |\n"
        "| teacher | 20 |\n"
        "| x       | 3  |"
    )  # fmt: skip
    assert report.markdown_table(["arm", "n"], []) == "| arm | n |\n| --- | - |"


def test_everything_is_escaped() -> None:
    parts = [
        report.paragraph(NASTY),
        report.table([NASTY, "b"], [["1", NASTY]]),
        report.figure(b"<svg/>", NASTY),
    ]
    seen = Reader(report.page(NASTY, parts))
    assert "script" not in seen.tags
    # The title twice, the paragraph, two cells, the caption twice.
    assert sum(text == NASTY for text in seen.data) == 7


def test_what_was_run_can_be_copied_from_the_page() -> None:
    config = {"seed": 0, "data": {"name": NASTY, "arms": ["a"]}}
    seen = Reader(report.page("Title", [report.what_was_run("mlp", config, ["launch.mlp", NASTY])]))
    assert "script" not in seen.tags
    (block,) = (text for text in seen.data if text.startswith("{"))
    assert json.loads(block) == {"study": "mlp", "config": config}


def test_table() -> None:
    seen = Reader(report.table(["a", "b"], [["1", "2"], ["3", "4"]]))
    assert [tag for tag in seen.tags if tag in ("tr", "th", "td")] == (
        ["tr", "th", "th"] + ["tr", "td", "td"] * 2
    )
    assert seen.data == ["a", "b", "1", "2", "3", "4"]


def test_page_is_self_contained() -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    page = report.page("Title", [report.figure(svg, "caption"), report.paragraph("text")])
    assert not re.search(r"(?i)https?:|//|@import|url\(", page.split("base64,")[0])
    seen = Reader(page)
    (address,) = seen.addresses
    assert address.startswith("data:image/svg+xml;base64,")
    assert base64.b64decode(address.partition(",")[2]) == svg
    assert not {"script", "link", "iframe"} & set(seen.tags)
    assert not re.search(r"(?i)https?:", page)
    assert page.startswith("<!doctype html>")
    assert 'charset="utf-8"' in page
    assert 'name="viewport"' in page


def test_what_comes_before_first_steps_is_told_apart():
    timings = {"load": 1.2, "compile": 3.9, "train": 20.0, "write": 0.4}
    assert report.spent(timings) == "26 s: 5 to first steps (load 1, compile 4), train 20, write 0"
    assert report.spent({"train": 3.0}) == "3 s: train 3"
