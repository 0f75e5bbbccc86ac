"""Tables for a terminal, and the self-contained page `report.html`."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem;
  overflow-wrap: break-word }
h1 { font-size: 1.5rem; line-height: 1.2 } h2 { font-size: 1.15rem; margin-top: 2rem }
figure { margin: 1rem 0 } figure img { width: 100%; height: auto; background: white }
figcaption { font-size: .875rem; opacity: .8 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #8884 }
td { white-space: nowrap } td:first-child { white-space: normal }
@media (max-width: 30rem) { table { font-size: .875rem } th, td { padding-right: .5rem } }
pre { overflow-x: auto; padding: .75rem; background: #8882; font-size: .8125rem }
details { margin: .5rem 0 } summary { cursor: pointer; padding: .25rem 0 }
dl { margin: 1rem 0; padding-left: .75rem; border-left: 3px solid #8886; font-size: .875rem }
dt { opacity: .7 } dd { margin: 0 0 .25rem; white-space: pre-wrap }
"""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table with aligned columns, fit to be read in a terminal."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = row(["-" * width for width in widths])
    return "\n".join([row(header), rule, *map(row, rows)])


def paragraph(text: str) -> str:
    """Returns a paragraph of plain text, escaped."""
    return f"<p>{_escape(text)}</p>"


def heading(text: str) -> str:
    """Returns the heading of a section, escaped."""
    return f"<h2>{_escape(text)}</h2>"


def code(text: str) -> str:
    """Returns a block of code, escaped, that scrolls sideways on a narrow screen."""
    return f"<pre>{_escape(text)}</pre>"


def record(fields: Mapping[str, str]) -> str:
    """Returns named texts below each other, escaped, their line breaks kept, long words broken."""
    items = (f"<dt>{_escape(name)}</dt><dd>{_escape(text)}</dd>" for name, text in fields.items())
    return f"<dl>{''.join(items)}</dl>"


def details(summary: str, parts: Sequence[str]) -> str:
    """Returns `parts` folded away under a line of plain text, escaped."""
    body = "\n".join(parts)
    return f"<details><summary>{_escape(summary)}</summary>\n{body}\n</details>"


def run_again(study: str, config: Mapping[str, Any]) -> str:
    """Returns the section that says what was run: a study's name and its full config."""
    text = json.dumps({"study": study, "config": config}, indent=1)
    return f"<h2>What was run</h2><pre>{_escape(text)}</pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table that scrolls sideways on a narrow screen, cells escaped."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{_escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="wide"><table>{row("th", header)}{body}</table></div>'


def figure(svg: bytes, caption: str) -> str:
    """Returns an SVG picture held within the page, with an escaped caption."""
    # As an image rather than inline, the picture's own ids and styles stay its own.
    data = base64.b64encode(svg).decode()
    text = _escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """Returns a whole HTML page of `parts` made by the functions above."""
    name = _escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{name}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _escape(text: str) -> str:
    # What does not print, or reorders the text around it, is shown as its escape.
    shown = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return html.escape("".join(shown))
