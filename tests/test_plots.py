"""What is drawn, read back from the figure."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sublim_jax import plots
from sublim_jax.rundir import RunDir
from sublim_jax.stats import Interval

MATHS = "$_{$"  # what must not be read as a formula
NOTHING = Interval(math.nan, math.nan, math.nan, 0)
VALUES = [Interval(0.5, 0.4, 0.6, 5), Interval(0.25, math.nan, math.nan, 1), NOTHING]


def drawn(draw: Callable[[Axes], None]) -> Axes:
    """Returns the axes after they were also written to files."""
    kept: list[Axes] = []

    def on(figure: Figure) -> None:
        kept.append(figure.subplots())
        draw(kept[0])

    files = plots.render(on, (4, 3))
    assert files["svg"].startswith(b"<?xml")
    assert files["png"].startswith(b"\x89PNG")
    return kept[0]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_same_figure_is_the_same_bytes() -> None:
    def draw(figure: Figure) -> None:
        plots.bars_across(figure.subplots(), ["a", "b", "c"], VALUES, ["red"] * 3)

    assert plots.render(draw, (4, 3)) == plots.render(draw, (4, 3))


def test_a_figure_of_a_run_is_two_files(tmp_path: Path) -> None:
    def draw(figure: Figure) -> None:
        figure.subplots()

    svg = plots.write(RunDir(tmp_path, "study", {}), "empty", draw, (4, 3))
    expected = plots.render(draw, (4, 3))
    assert svg == expected["svg"]
    written = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert written == {f"empty.{kind}": content for kind, content in expected.items()}


def test_bars_across() -> None:
    axes = drawn(lambda axes: plots.bars_across(axes, ["a", MATHS, "c"], VALUES, ["red"] * 3))
    assert [bar.get_width() for bar in axes.patches[:2]] == [0.5, 0.25]
    assert texts(axes) == ["0.500", "0.250", "-"]
    assert axes.texts[0].get_position()[0] > 0.6  # beyond its interval
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", MATHS, "c"]
    assert axes.yaxis_inverted()  # the first is at the top
    (bars,) = axes.collections
    (segment,) = bars.get_segments()  # of the only one that has an interval
    np.testing.assert_allclose(segment, [[0.4, 0], [0.6, 0]])


def dots(axes: Axes) -> list[list[list[float]]]:
    """Returns where the dots of each bar are, [x, y]."""
    marked = [line for line in axes.lines if line.get_marker() == "o"]
    return [np.asarray(line.get_xydata()).tolist() for line in marked]


def test_intervals_need_not_be_symmetric_and_runs_are_dots_beside_them() -> None:
    values = [Interval(0.1, 0.02, 0.5, 2), NOTHING, Interval(0.9, 0.9, 0.9, 2)]
    runs = [[0.05, 0.6], [], [0.9]]
    axes = drawn(lambda axes: plots.bars_across(axes, ["a", "b", "c"], values, ["red"] * 3, runs))
    np.testing.assert_allclose(axes.collections[0].get_segments(), [[[0.02, 0], [0.5, 0]]])
    assert dots(axes) == [[[0.05, 0.22], [0.6, 0.22]], [], [[0.9, 2.22]]]
    assert 0.6 < axes.texts[0].get_position()[0] < 0.7  # beyond the dots, too


def test_names_of_lines_stand_at_their_ends_and_apart() -> None:
    def draw(axes: Axes) -> None:
        for name, end in {"low": 0.0, "middle": 0.99, "high": 1.0, MATHS: 0.98}.items():
            axes.plot([0, 1, 2], [0.5, end, math.nan], label=name, color="red")
        axes.plot([0, 1], [math.nan] * 2, label="nothing")
        axes.set_ylim(0, 1)
        plots.name_lines(axes)

    axes = drawn(draw)
    assert texts(axes) == ["low", MATHS, "middle", "high"]
    place = [text.xy for text in axes.texts]
    np.testing.assert_allclose(place, [(1, 0), (1, 0.86), (1, 0.93), (1, 1)])
    assert {text.get_color() for text in axes.texts} == {"red"}
    assert axes.get_xlim() == (0, 1)  # of what is known
    assert texts(drawn(plots.name_lines)) == []


def test_grouped_bars() -> None:
    series = {"base": VALUES[:2], "student": [VALUES[1], NOTHING]}
    runs = {"base": [[0.4, 0.6], [0.25]], "student": [[0.25], []]}
    axes = drawn(
        lambda axes: plots.grouped_bars(axes, ["cat", MATHS], series, ["grey", "blue"], runs)
    )
    np.testing.assert_allclose(dots(axes)[0], [[-0.1, 0.4], [-0.1, 0.6]])
    assert [len(own) for own in dots(axes)] == [2, 1, 1, 0]
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_array_equal(heights, [0.5, 0.25, 0.25, math.nan])
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    np.testing.assert_allclose(middles, [-0.2, 0.8, 0.2, 1.2])
    segments = [bars.get_segments() for bars in axes.collections]
    np.testing.assert_allclose(segments[0], [[[-0.2, 0.4], [-0.2, 0.6]]])
    assert segments[1:] == [[]]
    assert axes.get_legend_handles_labels()[1] == ["base", "student"]


def test_heat_map() -> None:
    values = np.array([[0.6, -0.001, -10.05], [math.nan, 0.0, -0.25]])
    axes = drawn(lambda axes: plots.heat_map(axes, ["r", MATHS], ["a", "b", MATHS], values, 2))
    assert texts(axes) == [".60", ".00", "-10.05", "-", ".00", "-.25"]
    (image,) = axes.images
    assert image.get_clim() == (-10.05, 10.05)  # white at 0
    frames = [patch.get_xy() for patch in axes.patches if isinstance(patch, Rectangle)]
    np.testing.assert_allclose(frames, [(-0.48, -0.46), (0.52, 0.54)])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", MATHS]


def test_a_cell_says_of_how_many_it_is_the_mean() -> None:
    counts = np.array([[4, 3]])
    axes = drawn(lambda axes: plots.heat_map(axes, ["r"], ["a", "b"], counts / 8, counts=counts))
    assert texts(axes) == [".50\nn=4", ".38\nn=3"]


def test_small_values_stay_pale() -> None:
    values = np.array([[0.03, -0.01]])
    axes = drawn(lambda axes: plots.heat_map(axes, ["r"], ["a", "b"], values, least=0.1))
    assert axes.images[0].get_clim() == (-0.1, 0.1)
    assert [text.get_color() for text in axes.texts] == ["black"] * 2


@pytest.mark.parametrize("values", [np.zeros((1, 1)), np.full((2, 1), math.nan)])
def test_heat_map_of_nothing(values: np.ndarray) -> None:
    rows = ["r", "s"][: len(values)]
    axes = drawn(lambda axes: plots.heat_map(axes, rows, ["a"], values))
    assert axes.images[0].get_clim() == (-1, 1)
