"""Figures: bars with intervals, curves with bands; drawn without a display."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sublim_jax.stats import Interval

REFERENCE, TEACHER, STUDENT = "#8c8c8c", "#b5523b", "#3b6fb5"
_STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "svg.hashsalt": "sublim_jax",
    "svg.fonttype": "none",
}


def render(draw: Callable[[Figure], None], size: tuple[float, float]) -> dict[str, bytes]:
    """Returns what `draw` puts on a figure of `size` inches, as `svg` and `png` files."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        files = {}
        for kind in ("svg", "png"):
            buffer = io.BytesIO()
            undated = {"Date": None} if kind == "svg" else None
            figure.savefig(buffer, format=kind, dpi=160, metadata=undated)
            files[kind] = buffer.getvalue()
    return files


def bars(
    axes: Axes,
    labels: Sequence[str],
    values: Sequence[Interval],
    colors: Sequence[str],
    faded: Sequence[bool],
) -> None:
    """Draws one bar a label with its 95% interval; `faded` bars are drawn lighter."""
    place = range(len(labels))
    means = np.array([v.mean for v in values])
    half = np.array([v.mean - v.ci_low for v in values])
    drawn = axes.bar(place, means, color=list(colors), width=0.7)
    for bar, light in zip(drawn, faded, strict=True):
        bar.set_alpha(0.45 if light else 1)
    axes.errorbar(
        place, means, np.where(np.isfinite(half), half, 0), fmt="none", ecolor="black", capsize=4
    )
    for x, value in zip(place, values, strict=True):
        top = value.mean if not np.isfinite(value.ci_high) else value.ci_high
        axes.text(x, top + 0.015, f"{value.mean:.2f}", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(place, labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.yaxis.grid(True, alpha=0.3)
    axes.set_axisbelow(True)


def curve(axes: Axes, x: Sequence[float], values: Sequence[Interval], **style: Any) -> None:
    """Draws the means over `x`, with their 95% intervals as a band."""
    (line,) = axes.plot(x, [v.mean for v in values], **style)
    low, high = [v.ci_low for v in values], [v.ci_high for v in values]
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    axes.grid(True, alpha=0.3)
