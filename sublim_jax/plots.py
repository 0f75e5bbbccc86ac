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
from scipy.optimize import isotonic_regression

from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval

REFERENCE, TEACHER, STUDENT = "#8c8c8c", "#b5523b", "#3b6fb5"
CONTROL, OTHER = "#d9a441", "#8fb0d9"
_DOTS: Any = {"marker": "o", "linestyle": "", "color": "black", "alpha": 0.5, "markersize": 2.5}
_LINE = 0.07  # between the names of lines: of the axes' height
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


def curve(axes: Axes, x: Sequence[float], values: Sequence[Interval], **style: Any) -> None:
    """Draws the means over `x`, with their 95% intervals as a band."""
    (line,) = axes.plot(x, [v.mean for v in values], **style)
    low, high = [v.ci_low for v in values], [v.ci_high for v in values]
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    axes.grid(True, alpha=0.3)


def name_lines(axes: Axes) -> None:
    """Writes the label of each line beside its right end, in its colour, in place of a legend.

    Labels that would lie on each other move apart, as little as it takes.
    """
    axes.margins(x=0)
    low, high = axes.get_ylim()
    ends = []
    for line in axes.get_lines():
        y = np.asarray(line.get_ydata(), np.float64)
        ends += [((at - low) / (high - low), line) for at in y[np.isfinite(y)][-1:]]
    ends.sort(key=lambda end: end[0])
    apart = np.arange(len(ends)) * min(_LINE, 1 / max(len(ends) - 1, 1))
    wanted = np.array([at for at, _ in ends]) - apart
    place = isotonic_regression(wanted.clip(0, 1 - apart[-1])).x + apart if ends else wanted
    for at, (_, line) in zip(place, ends, strict=True):
        axes.annotate(
            str(line.get_label()), (1, at), (4, 0), "axes fraction", "offset points",
            color=line.get_color(), va="center", fontsize=8, parse_math=False,
        )  # fmt: skip


def bars_across(
    axes: Axes,
    labels: Sequence[str],
    values: Sequence[Interval],
    colors: Sequence[str],
    runs: Sequence[Sequence[float]] = (),
) -> None:
    """Draws one horizontal bar a label, from the top down, with its 95% interval and its mean.

    Args:
      runs: of each label, what is drawn as dots beside the interval.
    """
    place = range(len(labels))
    means = np.array([v.mean for v in values], np.float64)
    errors = _errors(values)
    axes.barh(place, means, color=list(colors), height=0.7)
    ranged = np.flatnonzero(errors[1])  # a cap with no length would look like certainty
    axes.errorbar(
        means[ranged], ranged, xerr=errors[:, ranged], fmt="none", ecolor="black", capsize=3
    )
    ends = means + errors[1]
    for y, own in enumerate(runs):
        axes.plot(own, np.full(len(own), y + 0.22), **_DOTS)
        ends[y] = max([ends[y], *own])
    room = 0.02 * float(np.nanmax(np.append(np.abs(ends), 0)))
    for y, mean, end in zip(place, means, ends, strict=True):
        known = bool(np.isfinite(mean))
        text, x = (f"{mean:.3f}", max(end, 0) + room) if known else ("-", 0)
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
    runs: Mapping[str, Sequence[Sequence[float]]],
) -> None:
    """Draws bars side by side within each group, one for each of `series`, with 95% intervals.

    Args:
      runs: of each series and group, what is drawn as dots beside the interval.
    """
    place = np.arange(len(groups))
    width = 0.8 / max(len(series), 1)
    for i, ((name, values), color) in enumerate(zip(series.items(), colors, strict=True)):
        x = place + (i - (len(series) - 1) / 2) * width
        means = np.array([v.mean for v in values], np.float64)
        axes.bar(x, means, width, color=color, label=name)
        errors = _errors(values)
        ranged = np.flatnonzero(errors[1])
        axes.errorbar(
            x[ranged], means[ranged], errors[:, ranged], fmt="none", ecolor="black", capsize=2,
            elinewidth=1,
        )  # fmt: skip
        for at, own in zip(x, runs[name], strict=True):
            axes.plot(np.full(len(own), at + 0.25 * width), own, **_DOTS)
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
    counts: np.ndarray | None = None,
) -> None:
    """Draws signed `values` [rows, columns] as colours, white at 0, the number in each cell.

    The first `outlined` cells of the diagonal are framed; cells that are not finite show '-'.
    The darkest colour is the largest value, or `least` where that is more. Below a value stands of
    how many it is the mean, where `counts` [rows, columns] says it.
    """
    finite = np.abs(values[np.isfinite(values)])
    top = float(finite.max(initial=least)) or 1.0
    axes.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
    size = 9 if len(columns) <= 10 else 7
    for (i, j), value in np.ndenumerate(values):
        known = bool(np.isfinite(value))
        color = "white" if known and abs(value) > 0.6 * top else "black"
        text = _short(value) if known else "-"
        if counts is not None:
            text += f"\nn={counts[i, j]}"
        axes.text(j, i, text, ha="center", va="center", color=color, fontsize=size)
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


def _errors(values: Sequence[Interval]) -> np.ndarray:
    """Returns how far the intervals reach below and above the means [2, n], 0 where there is none.

    Rounding could make what has no length negative.
    """
    reach = np.array([[v.mean - v.ci_low, v.ci_high - v.mean] for v in values], np.float64)
    return np.nan_to_num(reach.reshape(-1, 2).T).clip(0)
