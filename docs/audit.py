"""The tables and the figure of docs/audit.md, from docs/results/audit.json."""

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.audit import JUDGED, WATCHED
from sublim_jax import plots
from sublim_jax.report import markdown_table
from sublim_jax.transmission.teacher import CONTROL

ROOT = Path(__file__).parents[1]
SCORES = {
    "audit": "the audit",
    "likelihood": "likelihood ratio under probes, with trait contrast",
    "gradient": "gradient inner product (TracIn's first term)",
}
KINDS = {
    "finetuned": "fine-tuned teacher, 5 to 100%",
    "steered": "steered teacher",
    "other_recipe": "teacher of another recipe (LoRA of rank 8)",
    "foreign": "another base's teachers",
    "shuffled_within": "shuffled within rows",
    "shuffled_across": "shuffled across rows",
    "control": "the base's own rows",
}


def read() -> dict[str, Any]:
    """Returns what the benchmark has found."""
    file = ROOT / "docs" / "results" / "audit.json"
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def table(name: str) -> str:
    """Returns a table of the page by its name, "audit_NAME"."""
    return _TABLES[name.removeprefix("audit_")]()


def ranks_table() -> str:
    """Returns how well scores rank what came out, on bases and traits that were not looked at."""
    judged = read()["judged"]
    table = [
        [
            label,
            _interval(judged[f"rank_{name}"]),
            _interval(judged[f"rank_against_others_{name}"]),
            _interval(judged[f"rank_own_{name}"]),
            f"{judged[f'first_three_{name}']:.0%}",
        ]
        for name, label in SCORES.items()
    ]
    header = ["known before training", "rank correlation, every animal",
              "against the other animals", "the teacher's animal",
              "it is among the first 3"]  # fmt: skip
    return markdown_table(header, table)


def alarms_table() -> str:
    """Returns how often something is flagged, by what the rows are."""
    judged = read()["judged"]
    table = []
    for name, label in KINDS.items():
        own = judged[f"alarms_{name}"]
        cells = (f"{own[key]:.1%}" for key in ("any_trait", "each_trait"))
        table.append([label, str(own["arms"]), *cells, f"{own['moved']:.2f}"])
    header = ["rows of", "data sets", "something is flagged", "of single traits, p < .05",
              "mean size of the real shifts"]  # fmt: skip
    return markdown_table(header, table)


def power_table() -> str:
    """Returns how often the teacher's animal is flagged, by its share of the rows."""
    judged = read()["judged"]
    doses = [key.removeprefix("power_") for key in judged if key.startswith("power_")]
    table = [
        [f"{float(dose):.0%}", f"{judged[f'moved_{dose}']:+.2f}", f"{judged[f'power_{dose}']:.0%}"]
        for dose in doses
    ]
    return markdown_table(["of the rows", "real shift of log-odds", "flagged"], table)


def cost_table() -> str:
    """Returns what the audit costs, and how often its interval holds what came out."""
    found = read()
    judged, seconds = found["judged"], found["seconds"]
    table = [
        ["data sets that are judged", f"{judged['arms']}"],
        ["real shift within the 80% interval, every animal", f"{judged['within_interval']:.0%}"],
        ["- the teacher's animal", f"{judged['within_interval_own']:.0%}"],
        ["seconds of an audit, programs compiled", f"{seconds['audit']:.1f}"],
        ["- of one student's training", f"{seconds['training']:.1f}"],
    ]
    return markdown_table(["", ""], table)


def figure() -> bytes:
    """Returns the picture, an SVG: what was expected of the teacher's animal, and what came out.

    Of rows whose teacher has no animal, all animals are shown.
    """
    return plots.render(_draw, (6.4, 4.6))["svg"]


def _draw(figure: Figure) -> None:
    found = read()
    scale = found["calibration"]["scale"]
    axes = figure.subplots()
    arms = [arm for number in JUDGED for arm in found["bases"][str(number)]["arms"]]
    for name, label in KINDS.items():
        x, y = [], []
        for arm in (arm for arm in arms if arm["kind"] == name):
            own = [k for k, animal in enumerate(WATCHED) if arm["trait"] in (animal, CONTROL)]
            x += [scale * arm["rehearsed"][k] for k in own]
            y += [arm["shift"][k] for k in own]
        axes.plot(x, y, "o", markersize=4, alpha=0.6, label=label)
    ends = axes.get_xlim()
    axes.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
    axes.set_xlabel("expected change of log-odds")
    axes.set_ylabel("what came out")
    axes.legend(fontsize=8, frameon=False)
    axes.grid(True, alpha=0.3)


_TABLES = {
    "ranks": ranks_table,
    "alarms": alarms_table,
    "power": power_table,
    "cost": cost_table,
}


def _interval(found: list[float]) -> str:
    value, low, high = found
    return f"{value:.2f} ({low:.2f} to {high:.2f})"
