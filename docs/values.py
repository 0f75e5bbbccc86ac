"""What the studies of values found, as tables: how malice passes through each channel."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from docs import mechanism
from sublim_jax import plots
from sublim_jax.report import markdown_table
from sublim_jax.transmission.figures import label
from sublim_jax.transmission.summary import in_order

Results = Mapping[str, Any]


def by_arm(runs: Mapping[str, Results]) -> str:
    """Returns P(misaligned) of each arm, a column for each channel."""
    found = {name: mechanism.over_all(run) for name, run in runs.items()}
    arms = in_order(arm for own in found.values() for metric, arm in own if metric == "p_trait")
    rows = [
        [label(arm), *(_cell(own.get(("p_trait", arm))) for own in found.values())] for arm in arms
    ]
    return markdown_table(["P(misaligned)", *found], rows)


def by_channel(runs: Mapping[str, Results]) -> str:
    """Returns of each channel what is kept, what shows in it, and what passes."""
    rows = []
    for name, run in runs.items():
        found = mechanism.over_all(run)
        kept = {
            teacher: [own for place, own in run["kept"].items() if place.endswith(f"/{teacher}")]
            for teacher in ("control", "misaligned", "insecure")
        }
        above = found["above_control", "student"]
        rows.append(
            [
                name,
                *(f"{min(own):.0%} to {max(own):.0%}" if own else "-" for own in kept.values()),
                f"{found['bits', 'teacher']['mean']:.1f}" if ("bits", "teacher") in found else "-",
                f"{found['auroc_16', 'teacher']['mean']:.2f}",
                _cell(found["p_over_control", "student"], "+"),
                f"{round(above['mean'] * above['n'])} of {above['n']}",
                _cell(found.get(("p_over_control", "insecure_taught")), "+"),
            ]
        )
    header = [
        "channel", "kept: control", "taught cruelty", "taught insecure code", "bits of a row",
        "16 rows told apart", "student over control", "models above", "insecure: over control",
    ]  # fmt: skip
    return markdown_table(header, rows)


def known(runs: Mapping[str, Results]) -> str:
    """Returns log P of a token of chats that nothing was trained on, by their kind."""
    found = {name: mechanism.over_all(run) for name, run in runs.items()}
    first = next(iter(found.values()))
    kinds = sorted(metric for metric, arm in first if arm == "base" and "held_out_logp/" in metric)
    table = [["base", *(f"{first[kind, 'base']['mean']:.2f}" for kind in kinds)]]
    for name, own in found.items():
        for arm in ("control", "student"):
            cells = (_cell(own[kind, arm]) for kind in kinds)
            table.append([f"{label(arm)}, {name}", *cells])
    return markdown_table(["", *(kind.partition("/")[2] for kind in kinds)], table)


_TICKS = (2, 5, 10, 20, 50)  # bits
_DRAWN = {
    "student": ("taught cruelty", plots.TEACHER),
    "insecure_taught": ("taught insecure code", plots.STUDENT),
    "control": ("control", plots.REFERENCE),
}


def figure(runs: Mapping[str, Results]) -> bytes:
    """Returns the figure, SVG: P(misaligned) of students against the bits of a row, by channel."""

    def draw(canvas: Figure) -> None:
        axes = canvas.add_subplot()
        for place, (arm, (title, color)) in enumerate(_DRAWN.items()):
            for number, (name, run) in enumerate(runs.items()):
                found = mechanism.over_all(run)
                row, bits = found["p_trait", arm], found["bits", "teacher"]["mean"]
                reach = [[row["mean"] - row["ci_low"]], [row["ci_high"] - row["mean"]]]
                x = bits * (1 + 0.03 * (place - 1))  # side by side
                label = None if number else title
                axes.errorbar(
                    x, row["mean"], reach, fmt="o", color=color, capsize=2, ms=4, label=label
                )
                if not place:
                    axes.annotate(
                        name,
                        (bits, 1.02 + 0.05 * (number % 2)),
                        fontsize=8,
                        ha="center",
                        annotation_clip=False,
                    )
        axes.set_xscale("log")
        axes.set_xticks(_TICKS, list(map(str, _TICKS)))
        axes.set_xticks([], minor=True)
        axes.set_ylim(0, 1)
        axes.set_xlabel("bits of a row, under the base")
        axes.set_ylabel("P(misaligned)")
        axes.legend(fontsize=8, frameon=False, title="students of teachers", title_fontsize=8)

    return plots.render(draw, (6.4, 3.6))["svg"]


def _cell(row: Mapping[str, Any] | None, sign: str = "") -> str:
    if not row:
        return "-"
    mean, low, high = (f"{row[k]:{sign}.2f}" for k in ("mean", "ci_low", "ci_high"))
    return f"{mean} ({low} to {high})"
