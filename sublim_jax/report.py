"""Tables for a terminal, and the self-contained page `report.html`."""

import base64
import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BEFORE = ("load", "tokenise", "compile")  # stages before a program's first step
_PAGE = Path(__file__).with_suffix(".html")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table with aligned columns, fit to be read in a terminal."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = row(["-" * width for width in widths])
    return "\n".join([row(header), rule, *map(row, rows)])


def spent(timings: Mapping[str, float]) -> str:
    """Returns what took so many seconds, in one line: what comes before first steps apart."""
    shown = [f"{name} {seconds:.0f}" for name, seconds in timings.items()]
    before = [own for own, name in zip(shown, timings, strict=True) if name in _BEFORE]
    rest = [own for own in shown if own not in before]
    first = sum(timings[name] for name in timings if name in _BEFORE)
    told = [f"{first:.0f} to first steps ({', '.join(before)})"] if before else []
    return f"{sum(timings.values()):.0f} s: {', '.join(told + rest)}"


def paragraph(text: str) -> str:
    """Returns a paragraph of plain text, escaped."""
    return f"<p>{escaped(text)}</p>"


def heading(text: str) -> str:
    """Returns the heading of a section, escaped."""
    return f"<h2>{escaped(text)}</h2>"


def code(text: str) -> str:
    """Returns a block of code, escaped, that scrolls sideways on a narrow screen."""
    return f"<pre>{escaped(text)}</pre>"


def record(fields: Mapping[str, str]) -> str:
    """Returns named texts below each other, escaped, their line breaks kept, long words broken."""
    items = (f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in fields.items())
    return f"<dl>{''.join(items)}</dl>"


def details(summary: str, parts: Sequence[str]) -> str:
    """Returns `parts` folded away under a line of plain text, escaped."""
    body = "\n".join(parts)
    return f"<details><summary>{escaped(summary)}</summary>\n{body}\n</details>"


def what_was_run(study: str, config: Mapping[str, Any], command: Sequence[str]) -> str:
    """Returns the section that says what was run: the command, the study, its full config."""
    full = json.dumps({"study": study, "config": config}, indent=1)
    shown = details("The full config", [code(full)])
    return f"{heading('What was run')}\n{code(shlex.join(command))}\n{shown}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table that scrolls sideways on a narrow screen, cells escaped."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escaped(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="wide"><table>{row("th", header)}{body}</table></div>'


def figure(svg: bytes, caption: str) -> str:
    """Returns an SVG picture held within the page, with an escaped caption."""
    # As an image rather than inline, the picture's own ids and styles stay its own.
    data = base64.b64encode(svg).decode()
    text = escaped(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """Returns a whole HTML page of `parts` made by the functions above."""
    return filled(_PAGE, {"title": escaped(title), "parts": "\n".join(parts)})


def filled(file: Path, slots: Mapping[str, str]) -> str:
    """Returns the text of a page with each `{{slot}}` filled in; what is filled in stays as it is.

    Args:
      slots: HTML by slot, escaped where it is text.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda slot: slots[slot[1]], file.read_text("utf-8"))


def escaped(text: str) -> str:
    """Returns plain text as HTML; what does not print, or reorders the text, as its escape."""
    shown = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return html.escape("".join(shown))
