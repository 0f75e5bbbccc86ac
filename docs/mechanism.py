"""What prompted teachers leak, and what passes: the table and the figure of all their studies."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from sublim_jax import plots
from sublim_jax.report import markdown_table

_COLUMNS = {
    ("teacher", "leak"): "leak (nats a token)",
    ("teacher", "auroc_16"): "16 lists told apart",
    ("teacher", "visible"): "seen by lists",
    ("teacher", "vector_cosine"): "lists and answers alike",
    ("student", "in_rows"): "student's in lists",
    ("student", "at_answers"): "student's at answers",
    ("student", "p_trait"): "P(trait)",
    ("student", "lift_logp"): "lift (nats)",
}

Runs = Mapping[str, Mapping[str, Any]]  # results by name


def table(runs: Runs) -> str:
    """Returns a row for each study: means over its bases, of the lift with the 95% interval."""
    rows = []
    for name, results in runs.items():
        found = _over_all(results)
        cells = [f"{found[at]['mean']:.3f}" for at in _COLUMNS]
        lift = found["student", "lift_logp"]
        ends = [lift["ci_low"], lift["ci_high"]]
        cells[-1] = f"{lift['mean']:+.2f} ({ends[0]:+.2f} to {ends[1]:+.2f})"
        rows.append([name, *cells])
    return markdown_table(["", *_COLUMNS.values()], rows)


def figure(runs: Runs) -> bytes:
    """Returns the figure, SVG: what leaks against what passes, a point for each study."""

    def draw(canvas: Figure) -> None:
        axes = canvas.add_subplot()
        for name, results in runs.items():
            found = _over_all(results)
            leak, lift = found["teacher", "leak"]["mean"], found["student", "lift_logp"]
            reach = [[lift["mean"] - lift["ci_low"]], [lift["ci_high"] - lift["mean"]]]
            own = name.startswith("voices") or name == "prompted.py"
            color = plots.STUDENT if own else plots.REFERENCE
            axes.errorbar(leak, lift["mean"], reach, fmt="o", color=color, capsize=2, ms=4)
            axes.annotate(
                name,
                (leak, lift["mean"]),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=7,
                color=color,
            )
        axes.axhline(0, color="#888888", lw=0.8, ls=":")
        axes.set_xscale("log")
        axes.set_xlabel("leak: KL(teacher || base), nats a token")
        axes.set_ylabel("lift of log P(trait), nats")

    return plots.render(draw, (6.4, 4.0))["svg"]


def _over_all(results: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {(r["arm"], r["metric"]): r for r in results["rows"] if r["trait"] == "all"}
