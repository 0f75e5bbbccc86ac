"""Figures: bars with intervals, curves with bands; drawn without a display."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval

REFERENCE, TEACHER, STUDENT = "#8c8c8c", "#b5523b", "#3b6fb5"
CONTROL, OTHER = "#d9a441", "#8fb0d9"
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


def write(
    run_dir: RunDir, name: str, draw: Callable[[Figure], None], size: tuple[float, float]
) -> bytes:
    """Writes `figures/NAME.svg` and `.png` as `render` makes them; returns the former."""
    files = render(draw, size)
    for kind, content in files.items():
        run_dir.write(f"figures/{name}.{kind}", content)
    return files["svg"]


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


def bars_across(
    axes: Axes, labels: Sequence[str], values: Sequence[Interval], colors: Sequence[str]
) -> None:
    """Draws one horizontal bar a label, from the top down, with its 95% interval and its mean."""
    place = range(len(labels))
    means = np.array([v.mean for v in values], np.float64)
    half = _half(values)
    axes.barh(place, means, color=list(colors), height=0.7)
    ranged = np.flatnonzero(half)  # a cap with no length would look like certainty
    axes.errorbar(means[ranged], ranged, xerr=half[ranged], fmt="none", ecolor="black", capsize=3)
    room = 0.02 * float(np.nanmax(np.append(np.abs(means) + half, 0)))
    for y, mean, end in zip(place, means, means + half, strict=True):
        known = bool(np.isfinite(mean))
        text = f"{mean:.3f}" if known else "-"
        x = max(end, 0) + room if known else 0
        axes.text(x, y, text, va="center", fontsize=9)
    axes.set_yticks(place, labels, parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.margins(x=0.18)
    axes.xaxis.grid(True, alpha=0.3)
    axes.set_axisbelow(True)


def grouped_bars(
    axes: Axes,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Interval]],
    colors: Sequence[str],
) -> None:
    """Draws bars side by side within each group, one for each of `series`, with 95% intervals."""
    place = np.arange(len(groups))
    width = 0.8 / max(len(series), 1)
    for i, ((name, values), color) in enumerate(zip(series.items(), colors, strict=True)):
        x = place + (i - (len(series) - 1) / 2) * width
        means = np.array([v.mean for v in values], np.float64)
        axes.bar(x, means, width, color=color, label=name)
        half = _half(values)
        ranged = np.flatnonzero(half)
        axes.errorbar(
            x[ranged], means[ranged], half[ranged], fmt="none", ecolor="black", capsize=2,
            elinewidth=1,
        )  # fmt: skip
    tilted: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    many = sum(map(len, groups)) > 45  # letters that fit side by side
    axes.set_xticks(place, groups, parse_math=False, **(tilted if many else {}))
    axes.yaxis.grid(True, alpha=0.3)
    axes.set_axisbelow(True)


def heat_map(
    axes: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    outlined: int = 0,
    least: float = 0,
) -> None:
    """Draws signed `values` [rows, columns] as colours, white at 0, the number in each cell.

    The first `outlined` cells of the diagonal are framed; cells that are not finite show '-'.
    The darkest colour is the largest value, or `least` where that is more.
    """
    finite = np.abs(values[np.isfinite(values)])
    top = float(finite.max(initial=least)) or 1.0
    axes.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
    size = 9 if len(columns) <= 10 else 7
    for (i, j), value in np.ndenumerate(values):
        known = bool(np.isfinite(value))
        color = "white" if known and abs(value) > 0.6 * top else "black"
        axes.text(
            j,
            i,
            _short(value) if known else "-",
            ha="center",
            va="center",
            color=color,
            fontsize=size,
        )
    for i in range(outlined):
        frame = Rectangle((i - 0.48, i - 0.46), 0.96, 0.92, fill=False, linewidth=1.5)
        axes.add_patch(frame)
    axes.set_xticks(
        range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor",
        parse_math=False,
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _short(value: float) -> str:
    """Returns `value` with two digits and without the 0 before the point, for narrow cells."""
    text = f"{round(value, 2) + 0.0:.2f}"  # -0.0 + 0.0 is 0.0
    return re.sub(r"^(-?)0\.", r"\1.", text)


def _half(values: Sequence[Interval]) -> np.ndarray:
    """Returns the half widths of the intervals, 0 where there is none."""
    half = np.array([v.mean - v.ci_low for v in values], np.float64)
    return np.where(np.isfinite(half), half, 0)
