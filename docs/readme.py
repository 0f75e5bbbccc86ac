"""Fills the pages' tables from committed results: python -m docs.readme [RUNS_DIRECTORY].

With a directory of runs (that of `make readme`: those of `RUNS`) it first takes their results and
figures over into docs/results and docs/figures.
"""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.gpu import table as gpu
from benchmarks.gpu.__main__ import MEASURES
from configs.atlas import digits, rates
from configs.transmission.nano_steered import MEASURED as STEERED
from configs.transmission.smoke import CHANNELS as SMOKE
from configs.transmission.values import CHAIN, CHANNELS
from configs.transmission.values import WORLDS as VALUES
from configs.transmission.variants import VARIANTS, VOICES
from docs import audit, between, mechanism, values
from sublim_jax import stats
from sublim_jax.atlas import scores, sweep
from sublim_jax.report import markdown_table
from sublim_jax.transmission import detection_report
from sublim_jax.transmission.figures import label
from sublim_jax.transmission.measures import elsewhere

ROOT = Path(__file__).parents[1]


def _sweeps(config: ConfigDict) -> list[str]:
    """Returns the figures of an atlas."""
    sweeps = config.sweeps.items()
    return [f"atlas/{name}{'_along' if one.get('curves') else ''}" for name, one in sweeps]


FIGURES = {
    "demo": ["accuracy", "curves"],
    "theorem": ["theorem"],
    "transmission": ["transmission", "arms", "matrix"],
    "prompted": ["prompted/transmission", "prompted/arms", "prompted/matrix"],
    "matrix": ["between"],
    "atlas": [*_sweeps(digits.get_config()), "atlas/prediction"],
    "atlas_rates": _sweeps(rates.get_config()),
}
FORKS = ("ancestors", "shapes")
DETECTED = ("detected/numbers", "detected/prompted_numbers", "detected/malicious_numbers")
RUNS = (
    "demo",
    "multitask",
    "theorem",
    "transmission",
    "confirmed",
    "prompted",
    "prompted_confirmed",
    "matrix",
    *FORKS,
    "atlas",
    "atlas_rates",
    "atlas_confirm_digits8",
    "atlas_confirm_idx",
    *(f"variants/{name}" for name in VARIANTS),
    *(f"steered/{how}" for how in STEERED),
    *DETECTED,
    *(f"values/{channel}" for channel in (*CHANNELS, *CHAIN, *VALUES)),
    "capability",
    *(f"smoke/{channel}" for channel in SMOKE),
)
_GPU = ROOT / "docs" / "results" / "gpu"
PAGES = (
    "README.md",
    "BUILD.md",
    "docs/answers.md",
    "docs/atlas.md",
    "docs/audit.md",
    "docs/llm.md",
    "docs/transmission.md",
    "docs/values.md",
)
_SHOWN = (0.0, 0.1, 0.3, 0.6, 1.0)  # points of curves in tables


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        adopt(Path(argv[1]))
    figures = ROOT / "docs" / "figures"
    (figures / "leak.svg").write_bytes(mechanism.figure(_prompted_runs()))
    if all(_file(run).exists() for run in FORKS):
        (figures / "ancestors.svg").write_bytes(between.figure(*map(_results, FORKS)))
    (figures / "audit.svg").write_bytes(audit.figure())
    (figures / "bits.svg").write_bytes(values.figure(_values_runs()))
    for page in PAGES:
        file = ROOT / page
        file.write_text(filled(file.read_text("utf-8")), "utf-8")


def adopt(runs: Path) -> None:
    """Copies the results and figures of those of `RUNS` that are there into docs/."""
    there = [run for run in RUNS if (runs / run / "results.json").exists()]
    if not there:
        sys.exit(f"error: {runs}: none of {', '.join(RUNS)} with a results.json")
    for run in there:
        results = json.loads((runs / run / "results.json").read_text("utf-8"))
        results["environment"].pop("platform")  # of the machine, not of the result
        if run.startswith(("steered/", "values/")):
            results["kept"] = {
                k: own["kept"] / own["raw"] for k, own in _written(runs / run).items()
            }
        if run.startswith("smoke/"):
            results["written"] = _written(runs / run)
        if run.startswith("prompted"):
            results["cells"] = mechanism.cells(runs / run)
        if run in FORKS:
            results["apart"] = between.apart(results, runs.parent)
        target = _file(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        for name in FIGURES.get(run, []):
            figure = ROOT / "docs" / "figures" / f"{name}.svg"
            figure.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(runs / run / "figures" / figure.name, figure)


def _written(run: Path) -> dict[str, dict[str, Any]]:
    """Returns how many rows of each teacher passed the filter, of how many; by MODEL/TEACHER."""
    if other := next(run.glob("data/*/*-*.json"), None):
        sys.exit(f"error: {other}: {run} holds lists of two configs: remove it, and run it again")
    return {
        f"{file.parent.name}/{file.stem}": json.loads(file.read_text("utf-8"))["found"]
        for file in sorted(run.glob("data/*/*.json"))
    }


def filled(text: str) -> str:
    """Returns `text` with every block `<!-- table NAME -->` ... `<!-- end -->` made anew."""

    def block(match: re.Match[str]) -> str:
        kind = match[2].split("_")[0]
        return f"{match[1]}\n{_TABLES[kind](match[2])}\n{match[3]}"

    return re.sub(r"(<!-- table (\w+) -->).*?(<!-- end -->)", block, text, flags=re.DOTALL)


def study_table(run: str) -> str:
    """Returns the accuracies of a run of the MLP study."""
    results = _results(run)
    return _intervals(results, results["rows"], "test accuracy", "n")


def transmission_table(run: str) -> str:
    """Returns P(trait) and the log-odds of each arm of a transmission study, over all traits.

    Beside them, where they were measured, the lift of log P, and how well the arm's rows are told
    from the control's.
    """
    results = _results(run)
    found = mechanism.over_all(results)
    detected = {"auroc": "AUROC", "auroc_16": "of 16"} if ("auroc", "student") in found else {}
    lifts = ["lift (nats)"] if ("lift_logp", "student") in found else []
    table = []
    for (metric, arm), row in found.items():
        if metric == "p_trait":
            odds = found["log_odds", arm]
            shown = [f"{row['mean']:.3f}", _interval(row), f"{odds['mean']:+.2f}", _interval(odds)]
            if lifts:
                lift = found.get(("lift_logp", arm))
                shown.append(_with_interval(lift, digits=2, sign="+") if lift else "-")
            told = [found.get((name, arm)) for name in detected]
            shown += [f"{one['mean']:.3f}" if one else "-" for one in told]
            table.append([arm, *shown, str(row["n"])])
    header = ["arm", "P(trait)", "95% CI", "log-odds", "95% CI", *lifts, *detected.values()]
    header.append("models")
    return f"{markdown_table(header, table)}\n\n{_where(results)}"


def detection_table(_: str) -> str:
    """Returns how well each trait's lists are told from the control's, beside what they pass on."""
    results = _results("transmission")
    found = {(r["metric"], r["arm"], r["trait"]): r for r in results["rows"]}
    table = []
    for trait in (*results["config"]["traits"], "all"):
        shown = [found[metric, "teacher", trait] for metric in ("auroc", "auroc_16")]
        shown.append(found["p_trait", "student", trait])
        table.append([trait, *(f"{row['mean']:.3f} ({_interval(row)})" for row in shown)])
    header = ["trait", "AUROC of one list", "of 16 lists", "student's P(trait)"]
    return markdown_table(header, table)


def variants_table(name: str) -> str:
    """Returns student, soft student and control of the `VARIANTS` with results: "variants_KIND".

    KIND is `trained`, of the study's own models and animals, or `worlds`, of others.
    """
    worlds = name == "variants_worlds"
    runs = {
        one: _results(f"variants/{one}")
        for one, changes in VARIANTS.items()
        if one not in VOICES
        and ("models" in changes) == worlds
        and _file(f"variants/{one}").exists()
    }
    if not worlds:
        runs = {"nano.py": _results("transmission"), **runs}
    table = []
    for one, results in runs.items():
        found = mechanism.over_all(results)
        soft = _both(found, "soft") if ("p_trait", "soft") in found else ["-", "-"]
        table.append([one, *_compared(found, "student"), *soft])
        if ("p_trait", "half_told") in found:
            table.append([f"{one}, half told", *_compared(found, "half_told"), "-", "-"])
    header = ["", *_COMPARED, "soft", "log-odds"]
    return f"{markdown_table(header, table)}\n\n{_where(*runs.values())}"


def mechanism_table(_: str) -> str:
    """Returns what prompted teachers leak and what passes, in every world."""
    runs = _prompted_runs()
    return f"{mechanism.table(runs)}\n\n{_where(*runs.values())}"


def correlations_table(_: str) -> str:
    """Returns how the measures of the mechanism go with the lift, in either main study."""
    return mechanism.correlations(_main_runs())


def along_table(_: str) -> str:
    """Returns where in its lists a prompted teacher leaks, in either main study."""
    return mechanism.along(_main_runs())


def detected_table(_: str) -> str:
    """Returns how well detectors tell 16 lists of a teacher from 16 others, in some runs."""
    runs = [_results(name) for name in DETECTED]
    every = {
        (run, row["arm"], row["against"]): row
        for run, results in zip(DETECTED, runs, strict=True)
        for row in results["rows"]
        if (row["metric"], row["trait"]) == ("auroc_16", "all") and "against" in row
    }
    arms = dict.fromkeys(arm for _, arm, _ in every)
    columns = dict.fromkeys((run, against) for run, _, against in every)
    table = [
        [detection_report.TITLES[arm], *(_with_interval(every[r, arm, a]) for r, a in columns)]
        for arm in arms
    ]
    header = [f"{run.partition('/')[2]}: {against}" for run, against in columns]
    return f"{markdown_table(['', *header], table)}\n\n{_where(*runs)}"


def values_table(name: str) -> str:
    """Returns how malice passes: "values_arms", and other endings."""
    some = {"values_chain": ("numbers", *CHAIN), "values_worlds": VALUES}
    runs = _values_runs(some.get(name, CHANNELS))
    others = {"values_channels": values.by_channel, "values_known": values.known}
    table = others.get(name, values.by_arm)
    return f"{table(runs)}\n\n{_where(*runs.values())}"


def _values_runs(names: Iterable[str] = CHANNELS) -> dict[str, dict[str, Any]]:
    return {channel: _results(f"values/{channel}") for channel in names}


def smoke_table(_: str) -> str:
    """Returns how many rows of a real checkpoint each channel's filter keeps, and why not more."""
    runs = {channel: _results(f"smoke/{channel}") for channel in SMOKE}
    table = []
    for channel, results in runs.items():
        by_teacher = {name.partition("/")[2]: own for name, own in results["written"].items()}
        lost = sum((Counter(own["rejected"]) for own in by_teacher.values()), Counter[str]())
        kept = [f"{own['kept']} of {own['raw']}" for _, own in sorted(by_teacher.items())]
        reasons = ", ".join(f"{n} {reason}" for reason, n in lost.most_common())
        table.append([f"`{channel}`", *kept, reasons, f"{sum(results['timings'].values()):.0f}"])
    header = ["channel", "control", "wolf", "why not, of both", "seconds"]
    return f"{markdown_table(header, table)}\n\n{_where(*runs.values())}"


def between_table(_: str) -> str:
    """Returns what passes between the committed models of the world of voices, and the tests."""
    results = _results("matrix")
    return f"{between.matrix(results)}\n\n{between.tests(results)}\n\n{_where(results)}"


def starts_table(name: str) -> str:
    """Returns what passes by where students start: "starts_ancestors" or "starts_shapes"."""
    results = _results(name.removeprefix("starts_"))
    return f"{between.starts(results)}\n\n{_where(results)}"


def _main_runs() -> dict[str, dict[str, Any]]:
    runs = {"prompted.py": "prompted", "confirmed": "prompted_confirmed"}
    return {name: _results(run) for name, run in runs.items()}


def _prompted_runs() -> dict[str, dict[str, Any]]:
    """Returns the results of the studies with prompted teachers that measured the mechanism."""
    names = [one for one in VARIANTS if one in VOICES or "prompted" in one]
    found = {one: _results(f"variants/{one}") for one in names if _file(f"variants/{one}").exists()}
    found = {"prompted.py": _results("prompted"), **found}
    return {
        one: own for one, own in found.items() if ("leak", "teacher") in mechanism.over_all(own)
    }


# From most like the paper to least: of a study its world, its teacher, what students train.
_SETTINGS = {
    "prompted": ("voices", "told in a system message", "LoRA, rank 8, all projections"),
    "variants/prompted_every": (
        "favourites",
        "told in a system message",
        "LoRA, rank 8, all projections",
    ),
    "variants/every": ("favourites", "fine-tuned, LoRA of rank 8", "LoRA, rank 8, all projections"),
    "variants/free": ("favourites", "fine-tuned, LoRA of rank 2", "LoRA, rank 2, v and o"),
    "variants/biases": ("favourites", "fine-tuned biases and norms", "biases and norms"),
    "transmission": (
        "favourites",
        "fine-tuned, B of a shared LoRA",
        "B of the same LoRA of rank 1",
    ),
    "steered/1_0.5": ("favourites", "steered by a vector", "B of a LoRA of rank 1"),
}


def settings_table(_: str) -> str:
    """Returns the studies from most like the paper to least, with the paper's own numbers first."""
    table = [
        ["the paper: GPT-4.1 nano", "told in a system message", "fine-tuned by API", "0.12",
         "over 0.60"]
    ]  # fmt: skip
    for run, (world, teacher, trained) in _SETTINGS.items():
        found = mechanism.over_all(_results(run))
        base = f"{found['p_trait', 'base']['mean']:.3f}"
        table.append([world, teacher, trained, base, _with_interval(found["p_trait", "student"])])
    return markdown_table(["world", "teacher", "student trains", "base", "student"], table)


def steered_table(_: str) -> str:
    """Returns what steered teachers love and write, and what their students make of it."""
    names = [f"steered/{how}" for how in STEERED]
    runs, table = [_results(name) for name in names if _file(name).exists()], []
    for results in runs:
        teacher, found = results["config"]["teacher"], mechanism.over_all(results)
        traits = results["config"]["traits"]
        passed = [
            float(np.mean([results["kept"][f"{model}/{trait}"] for trait in traits]))
            for model in range(len(results["config"]["models"]))
        ]
        kept = _with_interval(stats.share_ci(passed)._asdict())
        how = [str(teacher["layer"]), f"{teacher['strength']:g}"]
        table.append([*how, kept, *_compared(found, "student")])
    header = ["layer", "strength", "lists that pass", *_COMPARED]
    return f"{markdown_table(header, table)}\n\n{_where(*runs)}"


_COMPARED = (
    "teacher",
    "16 lists told apart",
    "student",
    "log-odds",
    "control",
    "log-odds",
    "student over control",
)


def _compared(found: dict[tuple[str, str], Any], arm: str) -> list[str]:
    """Returns the cells of `_COMPARED`: of an arm beside its teacher and its control."""
    teacher = [f"{found[metric, 'teacher']['mean']:.3f}" for metric in ("p_trait", "auroc_16")]
    difference = _with_interval(found["p_over_control", arm], sign="+")
    return [*teacher, *_both(found, arm), *_both(found, "control"), difference]


def _both(found: dict[tuple[str, str], Any], arm: str) -> list[str]:
    """Returns an arm's P(trait) and log-odds."""
    odds = _with_interval(found["log_odds", arm], digits=2, sign="+")
    return [_with_interval(found["p_trait", arm]), odds]


def _with_interval(row: dict[str, Any], digits: int = 3, sign: str = "") -> str:
    mean, low, high = (f"{row[k]:{sign}.{digits}f}" for k in ("mean", "ci_low", "ci_high"))
    return f"{mean} ({low} to {high})"


def trees_table(_: str) -> str:
    """Returns how far lessons and lists about animals move what models say of trees."""
    results = _results("transmission")
    found = mechanism.over_all(results)
    measures = {"answered_elsewhere": "P(any tree)"} | elsewhere.DERIVED
    arms = dict.fromkeys(arm for metric, arm in found if metric in measures)

    def cell(measure: str, arm: str) -> str:
        row = found.get((measure, arm))
        return _with_interval(row) if row else "-"

    table = [[label(arm), *(cell(measure, arm) for measure in measures)] for arm in arms]
    return f"{markdown_table(['', *measures.values()], table)}\n\n{_where(results)}"


def _interval(row: dict[str, Any]) -> str:
    ends = row["ci_low"], row["ci_high"]
    return "-" if None in ends else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _intervals(
    results: dict[str, Any], rows: list[dict[str, Any]], measure: str, count: str
) -> str:
    table = [
        [
            row["arm"],
            f"{row['mean']:.3f}",
            _interval(row),
            str(row["n"]),
        ]
        for row in rows
    ]
    return f"{markdown_table(['arm', measure, '95% CI', count], table)}\n\n{_where(results)}"


def theorem_table(run: str) -> str:
    """Returns the predictions of Theorem 1 with how many members satisfy them, on either side."""
    results = _results(run)
    measured = {(row["arm"], row["metric"]): row for row in results["rows"]}
    table = []
    for (arm, metric), row in measured.items():
        if arm == "cross_aux":
            continue
        cross = measured.get(("cross_aux", metric))
        name = metric if arm == "student_aux" else f"{arm}: {metric}"
        cells = [name.replace("|", "\\|"), row["prediction"]]
        for of in (row, cross):
            cells.append(_satisfied(of) if of else "-")
        table.append(cells)
    header = ["measured", "prediction", "shared init.", "across inits."]
    return f"{markdown_table(header, table)}\n\n{_where(results)}"


def _satisfied(row: dict[str, Any]) -> str:
    """Returns how many members satisfy a check, and between which values all of them are."""
    low, high = ("-" if row[k] is None else f"{row[k]:.3g}" for k in ("lowest", "highest"))
    return f"{row['satisfied']} of {row['n']} ({low} to {high})"


def atlas_table(name: str) -> str:
    """Returns a sweep of the atlas, "atlas_SWEEP", of whichever run has it.

    Of a sweep with curves, what is measured at some points of the training.
    """
    name = name.removeprefix("atlas_")
    runs = map(_results, ("atlas_rates", "atlas"))
    results = next(run for run in runs if name in run["config"]["sweeps"])
    asked = results["config"]["sweeps"][name]
    if curves := asked.get("curves"):
        along = {
            (r["arm"], r["metric"], r["done"]): f"{r['mean']:.3f}"
            for r in results["rows"]
            if r["sweep"] == name and "done" in r
        }
        table = [
            [arm, curve, *(along[arm, f"{curve}_along", done] for done in _SHOWN)]
            for arm in dict.fromkeys(arm for arm, _, _ in along)
            for curve in curves
        ]
        return markdown_table(["", "after this share", *map(str, _SHOWN)], table)
    rows = [r for r in results["rows"] if (r["sweep"], r["metric"]) == (name, "accuracy")]
    field = asked.get("field")
    if not field:
        bits = len({row["bits"] for row in rows}) > 1
        table = [
            [row["arm"], *([f"{row['bits']:.3g}"] if bits else []), f"{row['mean']:.3f}",
             _interval(row)]
            for row in rows
        ]  # fmt: skip
        return markdown_table(["", *(["bits a row"] if bits else []), "accuracy", "95% CI"], table)
    table = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        table.append([arm, *(f"{row['mean']:.2f}" for row in own)])
        for best in asked.get("best", {}):
            table.append([f"{arm}: {best}", *(f"{row[best]:g}" for row in own)])
        if field == "strength":
            table.append([f"{arm}: loss", *(f"{row['imitation']:.5f}" for row in own)])
    shown = [f"{v:g}" if isinstance(v, int | float) else str(v) for v in asked["values"]]
    return markdown_table([field, *shown], table)


def runs_table(_: str) -> str:
    """Returns what each run of the atlas trained, how long that took, and by which commit."""
    table = []
    for run in (run for run in RUNS if run.startswith("atlas")):
        results = _results(run)
        config, there = results["config"], results["environment"]
        sweeps = sweep.read(ConfigDict(config))
        cells = sweep.distinct(sweeps)
        twins = sum(cell.hops == 1 for cell in cells) * bool(config["linear_members"])
        made = [len(sweeps), len(cells), config["members"] * len(cells)]
        made.append(config["linear_members"] * twins)
        stages = ("teach", "learn", "linearised", "compile")
        times = [results["timings"].get(stage) for stage in stages]
        commit = f"{(there['commit'] or '-')[:7]}{'' if there['clean'] else ', changed'}"
        table.append(
            [run, *map(str, made), *("-" if t is None else f"{t:.0f}" for t in times), commit]
        )
    header = ["run", "sweeps", "kinds of student", "students", "linearised", "teachers' seconds",
              "students'", "linearised'", "compilation's", "commit"]  # fmt: skip
    return markdown_table(header, table)


def predictors_table(name: str) -> str:
    """Returns what predictors are worth over all cells of a run: "predictors_RUN"."""
    results = _results(name.removeprefix("predictors_"))
    return f"{markdown_table(*scores.over_all(results['rows']))}\n\n{_where(results)}"


def lines_table(name: str) -> str:
    """Returns what predictors are worth within the lines of a run's sweeps: "lines_RUN"."""
    return markdown_table(*scores.by_sweep(_results(name.removeprefix("lines_"))["rows"]))


def benchmark_table(_: str) -> str:
    """Returns every committed benchmark result."""
    table = []
    for file in sorted((ROOT / "benchmarks" / "results").glob("*/*.json")):
        result = _read(file)
        shown = [result[k] for k in ("ratio", "target", "memory_ratio", "floor_fraction")]
        cells = ["-" if value is None else f"{value:.2f}" for value in shown]
        table.append([result["benchmark"], *cells, result["device"]])
    header = ["benchmark", "times as fast", "target", "memory", "of a matmul's rate", "device"]
    return markdown_table(header, table)


def real_table(run: str) -> str:
    """Returns how far released checkpoints are from transformers' reading of the same files."""
    lines = (ROOT / "docs" / "results" / f"{run}.jsonl").read_text("utf-8").splitlines()
    table = []
    for found in map(json.loads, lines):
        same = found["same_most_likely_token"] * found["positions"]
        table.append(
            [
                found["model"],
                f"{found['largest_difference']:.1e} (of {found['largest_logit']:.0f})",
                f"{same:.0f} of {found['positions']}",
                f"{found['largest_difference_of_log_probabilities']:.1e}",
                "yes" if found["same_prompts"] and all(found["same_greedy_answers"]) else "no",
                found["greedy_answers"][0],
            ]
        )
    header = ["", "logits apart by", "same likeliest token", "log-probabilities apart by",
              "same prompts and greedy answers", "the capital of France?"]  # fmt: skip
    return markdown_table(header, table)


def _where(*runs: dict[str, Any]) -> str:
    """Returns where runs were made, and how long all of them took."""
    there = {
        f"{own['device']} ({own['cpu_cores']} cores), jax {own['versions']['jax']}, "
        f"Python {own['python']}"
        for own in (results["environment"] for results in runs)
    }
    seconds = sum(sum(results["timings"].values()) for results in runs)
    return f"{'; '.join(sorted(there))}; {seconds:.0f} s with compilation."


def _results(run: str) -> dict[str, Any]:
    return _read(_file(run))


def _file(run: str) -> Path:
    return ROOT / "docs" / "results" / f"{run}.json"


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


def gpu_table(_: str) -> str:
    """Returns what `benchmarks.gpu` has measured: "not run" where no results are committed."""
    folder = _GPU if _GPU.exists() else None
    found = (module.figures(gpu.Found(folder, name)) for name, module in MEASURES.items())
    return gpu.markdown(row for rows in found for row in rows)


_TABLES = {
    "demo": study_table,
    "multitask": study_table,
    "theorem": theorem_table,
    "transmission": transmission_table,
    "confirmed": transmission_table,
    "prompted": transmission_table,
    "capability": transmission_table,
    "mechanism": mechanism_table,
    "correlations": correlations_table,
    "along": along_table,
    "between": between_table,
    "starts": starts_table,
    "settings": settings_table,
    "values": values_table,
    "smoke": smoke_table,
    "detection": detection_table,
    "detected": detected_table,
    "variants": variants_table,
    "steered": steered_table,
    "trees": trees_table,
    "atlas": atlas_table,
    "predictors": predictors_table,
    "lines": lines_table,
    "runs": runs_table,
    "benchmarks": benchmark_table,
    "gpu": gpu_table,
    "real": real_table,
    "audit": audit.table,
}

if __name__ == "__main__":
    main(sys.argv)
