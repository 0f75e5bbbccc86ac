"""Tables for a terminal, and the self-contained page `report.html`."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem; line-height: 1.2 } h2 { font-size: 1.15rem; margin-top: 2rem }
figure { margin: 1rem 0 } figure img { width: 100%; height: auto; background: white }
figcaption { font-size: .875rem; opacity: .8 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #8884 }
pre { overflow-x: auto; padding: .75rem; background: #8882; font-size: .8125rem }
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
    return f"<p>{html.escape(text)}</p>"


def run_again(study: str, config: Mapping[str, Any]) -> str:
    """Returns the section that says what was run: a study's name and its full config."""
    text = json.dumps({"study": study, "config": config}, indent=1)
    return f"<h2>What was run</h2><pre>{html.escape(text)}</pre>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table that scrolls sideways on a narrow screen, cells escaped."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return f'<div class="wide"><table>{row("th", header)}{body}</table></div>'


def figure(svg: bytes, caption: str) -> str:
    """Returns an SVG picture held within the page, with an escaped caption."""
    # As an image rather than inline, the picture's own ids and styles stay its own.
    data = base64.b64encode(svg).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def page(title: str, parts: Sequence[str]) -> str:
    """Returns a whole HTML page of `parts` made by the functions above."""
    name = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{name}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
