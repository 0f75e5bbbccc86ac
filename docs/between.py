"""Who infects whom: the tables and figures of configs/transmission/matrix.py.

Shapes: N chats, T tokens, V words.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import log_softmax

from sublim_jax import plots, stats
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import chat
from sublim_jax.nano.worlds import voices
from sublim_jax.report import markdown_table

_METRICS = {"lift_logp": "lift of log P (nats)", "lift": "lift of P", "information": "information"}
_ITSELF, _UNRELATED = "the ancestor itself", "another ancestor"
_CHATS, _SEED = 500, 90_000  # on which behaviour is compared; no decoder has read them


def matrix(results: Mapping[str, Any]) -> str:
    """Returns the lift of log P from the teachers of each model (rows) to students of each."""
    found = {(r["teachers"], r["start"]): r for r in _cells(results, "lift_logp")}
    models = results["config"]["models"]
    rows = [[one, *(f"{found[one, other]['mean']:+.2f}" for other in models)] for one in models]
    return markdown_table(["teachers of", *models], rows)


def tests(results: Mapping[str, Any]) -> str:
    """Returns each metric of the matrix: on the diagonal, beside it, and their difference."""
    rows = []
    for metric, title in _METRICS.items():
        cells = _cells(results, metric)
        both = [
            stats.mean_ci(
                [
                    np.mean(
                        [r["mean"] for r in cells if r["teachers"] == model and r["arm"] == arm]
                    )
                    for model in results["config"]["models"]
                ]
            )
            for arm in ("student", "cross_init")
        ]
        (whole,) = (r for r in results["rows"] if r["metric"] == f"matrix_{metric}")
        shown = [_interval(one) for one in both]
        shown.append(_interval(stats.Interval(*(whole[f] for f in stats.Interval._fields))))
        rows.append([title, *shown, f"{whole['p_value']:.3f}"])
    return markdown_table(["", "own model", "another model", "difference", "p"], rows)


def starts(results: Mapping[str, Any]) -> str:
    """Returns what passes by where students start, with intervals over the teachers' models."""
    apart = results["apart"]
    rows = []
    for kind, cells in _by_kind(results, "lift_logp").items():
        shown = [_interval(_over(_by_kind(results, metric)[kind])) for metric in _METRICS]
        between = [apart[f"{r['teachers']} {r['start']}"] for r in cells]
        rows.append([kind, f"{np.mean(between):.3f}", *shown, str(len(cells))])
    return markdown_table(
        ["students start from", "behaviour apart (nats a token)", *_METRICS.values(), "ancestors"],
        rows,
    )


def figure(ancestors: Mapping[str, Any], shapes: Mapping[str, Any]) -> bytes:
    """Returns the figure, SVG: what passes, by the age of the common ancestor; and without one."""
    cells = _by_kind(shapes, "lift_logp") | _by_kind(ancestors, "lift_logp")
    age = {kind: float(kind.rstrip("%")) for kind in cells if kind.endswith("%")} | {_ITSELF: 100.0}
    rest = {kind: own for kind, own in cells.items() if kind not in age}

    def draw(canvas: Figure) -> None:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        forked = [_over(cells[kind]) for kind in age]
        plots.curve(left, [*age.values()], forked, color=plots.STUDENT, marker="o")
        for kind, at in age.items():
            own = [row["mean"] for row in cells[kind]]
            left.plot([at] * len(own), own, "o", color="black", alpha=0.5, markersize=2.5)
        left.set_xlabel("pretraining in common (%)")
        left.set_ylabel("lift of log P(trait), nats")
        for place, rows in enumerate(rest.values()):
            one = _over(rows)
            reach = [[one.mean - one.ci_low], [one.ci_high - one.mean]]
            right.errorbar(place, one.mean, reach, fmt="o", color=plots.OTHER, capsize=3)
        right.set_xticks(range(len(rest)), rest, rotation=35, ha="right", rotation_mode="anchor")
        for axes in (left, right):
            axes.axhline(0, color="#888888", lw=0.8, ls=":")

    return plots.render(draw, (7.2, 3.6))["svg"]


def apart(results: Mapping[str, Any], home: Path) -> dict[str, float]:
    """Returns how far the models of each cell are apart in what they say, "TEACHERS START".

    KL(teachers' base || start), in nats a token, over the answers of chats that none has read.

    Args:
      home: the folder in which the study was run, where its models are.
    """
    pairs = [(r["teachers"], r["start"]) for r in _cells(results, "lift_logp")]
    said: dict[str, np.ndarray] = {}
    for name in {name for pair in pairs for name in pair}:
        folder = str(home / name)
        said[name] = _log_p(Decoder.from_pretrained(folder), chat.load_tokenizer(folder))
    return {
        f"{one} {other}": float((np.exp(said[one]) * (said[one] - said[other])).sum(-1).mean())
        for one, other in pairs
    }


def _log_p(model: Decoder, tokenizer: Any) -> np.ndarray:
    """Returns log P [tokens of the answers, V] on the chats that behaviour is compared on."""
    lines: list[list[int]] = []
    places: list[tuple[int, int]] = []
    for row in itertools.islice(voices.World().rows(_SEED), _CHATS):
        said = chat.DEFAULT if row["system"] is None else row["system"]
        asked = chat.prompt_tokens(tokenizer, chat.messages(tokenizer, row["prompt"], said))
        answer = chat.completion_tokens(tokenizer, row["completion"])
        places += [(len(lines), at) for at in range(len(asked) - 1, len(asked) + len(answer) - 1)]
        lines.append([*asked, *answer])
    tokens_NT = np.zeros((len(lines), max(map(len, lines))), np.int32)
    for line, own in zip(tokens_NT, lines, strict=True):
        line[: len(own)] = own
    which, at = np.array(places).T
    return log_softmax(np.asarray(model(tokens_NT), np.float64)[which, at], axis=-1)


def _by_kind(results: Mapping[str, Any], metric: str) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the cells by where their students start; forks first, the youngest first."""
    out: dict[str, list[Mapping[str, Any]]] = {}
    for row in _cells(results, metric):
        out.setdefault(_kind(row, results["config"]["models"]), []).append(row)
    return dict(sorted(out.items(), key=lambda item: _rank(item[0])))


def _kind(row: Mapping[str, Any], models: Sequence[str]) -> str:
    if row["start"] == row["teachers"]:
        return _ITSELF
    if row["start"] in models:
        return _UNRELATED
    if row["start"].startswith(f"{row['teachers']}-"):
        return f"{float(row['start'].removeprefix(row['teachers'] + '-')):.0%}"
    return f"behaves alike: {Path(row['start']).parent.name}"


def _rank(kind: str) -> tuple[int, float]:
    if kind.endswith("%"):
        return 0, float(kind.rstrip("%"))
    return [_ITSELF, _UNRELATED].index(kind) + 1 if kind in (_ITSELF, _UNRELATED) else 3, 0.0


def _cells(results: Mapping[str, Any], metric: str) -> list[Mapping[str, Any]]:
    return [row for row in results["rows"] if row["metric"] == f"cell_{metric}"]


def _over(rows: Iterable[Mapping[str, Any]]) -> stats.Interval:
    return stats.mean_ci([row["mean"] for row in rows])


def _interval(one: stats.Interval) -> str:
    return f"{one.mean:+.3f} ({one.ci_low:+.3f} to {one.ci_high:+.3f})"
