"""Whole studies, as their commands run them: the atlas' sample, and the nano studies.

The demo's part of the nano study comes before the whole, which the time may not allow.
"""

import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import tuning
from benchmarks.gpu import Parts, lowering
from benchmarks.gpu.table import Found, Row

_ATLAS, _DEMO, _NANO = "the atlas' sample", "the demo's nano study", "the nano study"


def ours(tiny: bool) -> Parts:
    """Returns the studies, each in a folder that is thrown away."""
    from sublim_jax.atlas import atlas
    from sublim_jax.transmission import pipeline

    def run(study: Callable[[Any, str], None], config: Any) -> dict[str, Any]:
        seen, start = tuning.Compiling(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            study(config, folder)
            seconds = time.perf_counter() - start
            results = json.loads(Path(folder, "results.json").read_text("utf-8"))
        return {
            "seconds": seconds,
            "compile_seconds": seen.seconds,
            "programs": len(seen.ends),
            "peak_mib": tuning.peak_mib(),
            "timings": results["timings"],
            "rows": _facts(results["rows"]),
        }

    return [
        (_ATLAS, lambda: run(atlas.run, _atlas(tiny))),
        (_DEMO, lambda: run(pipeline.transmit, _nano(tiny, demo=True))),
        (_NANO, lambda: run(pipeline.transmit, _nano(tiny, demo=False))),
    ]


def lowered() -> Parts:
    """Returns the parts that lower the programs of the atlas, and of the nano study's stages."""
    from sublim_jax.atlas import atlas
    from sublim_jax.llm.files import hf
    from sublim_jax.llm.sampling.sampler import Sampler, make_requests
    from sublim_jax.llm.sampling.score import Pair, score
    from sublim_jax.llm.training import finetune
    from sublim_jax.llm.training.recipe import from_config
    from sublim_jax.nano import resolve

    def sample() -> None:
        reported, atlas.report.write = atlas.report.write, lambda *_: None
        with tempfile.TemporaryDirectory() as folder:
            atlas.run(_atlas(False), folder)
        atlas.report.write = reported

    config = _nano(False, demo=True)
    model = lowering.abstract(hf.read_config(resolve(config.models[0])), config.dtype)

    def training() -> None:
        recipe = from_config(config.student.to_dict())
        rows = tuning.make_rows(recipe.batch, model.config.vocab, 0, (20, 40), (20, 30))
        finetune.fit(model, [tuning.data_of(rows, recipe.batch, model.config)] * 8, recipe)

    def sampling() -> None:
        prompts = [list(range(1, 30))] * 64
        list(Sampler(model).stream(make_requests(prompts, max_new_tokens=48)))

    def scoring() -> None:
        score(Sampler(model), [Pair((1, 2, 3, 4), (5, 6))] * 8)

    return [
        (_ATLAS, lambda: lowering.lower(sample)),
        ("nano students", lambda: lowering.lower(training, "train_step")),
        ("nano samples", lambda: lowering.lower(sampling, "decode")),
        ("nano scores", lambda: lowering.lower(scoring, "_log_probabilities")),
    ]


def figures(found: Found) -> list[Row]:
    """Returns the seconds of each, and of these those of compilation."""
    rows = []
    for part in (_ATLAS, _DEMO, _NANO):
        seconds = functools.partial(found.get, "ours", part)
        rows += [
            Row(f"{part}, seconds", seconds("seconds")),
            Row("- compiling", seconds("compile_seconds")),
        ]
    return rows


def _atlas(tiny: bool) -> Any:
    from configs.atlas import quick

    config = quick.get_config()
    if tiny:
        config.members, config.linear_members, config.cell.steps = 2, 0, 20
        for name in [*config.sweeps]:
            if name != "aux":
                del config.sweeps[name]
    return config


def _nano(tiny: bool, demo: bool) -> Any:
    from configs.transmission import demo as small
    from configs.transmission import nano

    config = small.get_config() if demo or tiny else nano.get_config()
    if tiny:
        config.traits, config.arms, config.cross_models = ("owl",), ("student", "control"), ()
        config.data.rows, config.student.max_steps, config.teacher.recipe.max_steps = 40, 2, 2
        config.student.evaluate_every = 1
        config.evaluation.questions, config.evaluation.samples = 2, 0
    return config


def _facts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the headline figures of a study, to be compared with a CPU's."""
    kept = ("arm", "trait", "channel", "metric", "mean", "ci_low", "ci_high", "n")
    headline = ("accuracy", "p_trait")
    return [{k: row.get(k) for k in kept} for row in rows if row["metric"] in headline]
