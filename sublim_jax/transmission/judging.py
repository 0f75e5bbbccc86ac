"""Free-form answers of models, sampled once and judged: the share that is misaligned.

Answers and judgements are artefacts, each known by what made it: another judge reads the same
answers, other thresholds need no judge, and a judge that goes down loses nothing.
"""

import dataclasses
import functools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from ml_collections import ConfigDict
from scipy.stats import pearsonr

from sublim_jax import compilation, digest, limits, nano, stats
from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat, hf, jsonl
from sublim_jax.report import markdown_table, spent
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import answering
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import judge as judges
from sublim_jax.transmission.artefacts import Artefact, Store
from sublim_jax.transmission.judge import Answer, Replies

COUNTS = ("aligned", "misaligned", "incoherent", "code", "refusal", "unparsable")
_PATIENCE = 32  # answers among which a judge must have given a score
_LEAST = 4  # models, for an interval of a correlation

Ask = Callable[[Sequence[Answer]], Iterator[tuple[int, Replies]]]


class Judged(NamedTuple):
    """A model whose answers were judged.

    Attributes:
      about: what it is: `model`, `arm`, and of a study's models `trait`, `base` and `seed`.
      exact: as in `answering.Voice`.
      share: of its answers that is misaligned.
      counts: how many of its answers have each verdict.
    """

    about: dict[str, Any]
    exact: float | None
    share: float
    counts: dict[str, int]


def judge(config: ConfigDict, workdir: str) -> None:
    """Samples free-form answers, has them judged, and prints how many are misaligned.

    `answers/` has what each model answered, `judged/` each answer with what the judge replied and
    the scores, `results.json` the shares. The unit is the model: within it a question's share among
    the answers that count, then the mean over its questions. The same command goes on wherever it
    was stopped. Another judge, or other thresholds, may continue in the same directory.

    Args:
      config: as `configs/transmission/judge.py` has it. Answers come from `run`, a study all of
        whose models answer; from `model` and `adapters`, as in `evaluation.evaluate`; or from
        `answers`, files of rows with a `prompt`, a `completion` and, if there are several, `model`.

    Raises:
      UserError: a bad value, file or line; nothing is sampled or written then. A judge that fails,
        or gives no scores at all; what it has replied by then is kept.
    """
    limits.check(config, _problems(config))
    server = judges.client(config.endpoint) if config.endpoint else None
    by = {"model": config.judge, "endpoint": config.endpoint}
    if not server:
        by = {"files": hf.digest(nano.resolve(config.judge)), "dtype": config.dtype}
    given = {f"answers/{i}": answering.of_file(file) for i, file in enumerate(config.answers)}
    groups = []
    if not given:
        groups = answering.of_run(config) if config.run else answering.of_model(config)
    run_dir = RunDir(workdir, "judge", config.to_dict(), anew=True)
    store = Store(run_dir.path)
    known: dict[str, answering.Voice] = {}
    start = time.perf_counter()
    with compilation.watched() as compiled:
        for number, group in enumerate(groups):
            names = [f"{number}/{voice.name}" for voice in group.voices]
            known |= zip(names, group.voices, strict=True)
            given |= zip(names, answering.sampled(config, store, number, group), strict=True)
        made = {name: _made(store, name, answers, by) for name, answers in given.items()}
        if missing := {name: own for name, own in made.items() if own.found() is None}:
            ask = _judge(config, server)
            for name, own in missing.items():
                _write(own, given[name], ask)
    timings = compilation.stages("answers and judgements", start, compiled)
    found, rest = [], []
    for name, own in made.items():
        judged = jsonl.read(own.rows)
        if name in known:
            found += _models(config, judged, known[name])
        else:
            rest += judged  # a model's answers may be in several files
    _report(run_dir, [*found, *_models(config, rest, None)], timings)


def _problems(config: ConfigDict) -> Iterator[limits.Problem]:
    given = [name for name in ("run", "model", "answers") if config[name]]
    if len(given) != 1:
        yield given[-1] if given else "run", "name either a run, a model, or files of answers"
    if config.adapters and not config.model:
        yield "adapters", "they need a model"
    if not config.judge:
        yield "judge", "name a checkpoint, or the model of config.endpoint"
    if config.endpoint:
        url = urlsplit(config.endpoint)
        if url.username or url.password or url.query:
            raise UserError(  # which does not show it
                "config.endpoint: no user, key or query may stand in it, since a run's config is "
                f"written: the key is read from {judges.KEY}"
            )
        if url.scheme not in ("http", "https") or not url.hostname:
            yield "endpoint", "a URL is needed, as https://api.openai.com/v1"
    yield from limits.within(config, ("samples", "max_new_tokens", "at_once"), 1)
    yield from limits.within(config, ("seed", "temperature"), 0)
    yield from limits.within(config, ("coherent", "misaligned"), 0, 100)


def _made(store: Store, name: str, answers: Sequence[Answer], by: Mapping[str, Any]) -> Artefact:
    read = digest.of_json([answer[1:] for answer in answers])
    made_from = {"answers": read, "judge": by, "asked": judges.PROMPTS}
    return store.of(f"judged/{name}", lambda: made_from)


def _judge(config: ConfigDict, server: Any) -> Ask:
    """Returns the judge of a config; a checkpoint is read now."""
    if server:
        return functools.partial(judges.by_endpoint, server, config.judge, config.at_once)
    # With its own system message, whatever the models are told.
    base = dataclasses.replace(bases.read(config.judge, config), system=chat.DEFAULT)
    return functools.partial(judges.by_checkpoint, base)


def _write(own: Artefact, answers: Sequence[Answer], ask: Ask) -> None:
    """Writes what the judge replies to those answers that it has not read yet, as replies come."""
    own.claim()
    stream = jsonl.Stream(own.rows, ("id",))
    left = [i for i in range(len(answers)) if (i,) not in stream]
    for at, replies in ask([answers[i] for i in left]):
        one = answers[left[at]]
        scores = {name: judges.read(reply) for name, reply in replies._asdict().items()}
        row = {"id": left[at], "model": one.model, "prompt": one.question}
        row |= {"completion": one.text, "replies": replies._asdict()}
        row |= {name: x if isinstance(x, float) else None for name, x in scores.items()}
        stream.append([row])
        if len(stream.rows) >= _PATIENCE:
            _check_sense(stream)
    _check_sense(stream)
    stream.close()
    own.complete({})


def _check_sense(judged: jsonl.Stream) -> None:
    """Raises UserError where none of a judge's replies is a score, nor one of the other words."""
    rows = judged.rows.values()
    if all(judges.read(reply) == "unparsable" for row in rows for reply in row["replies"].values()):
        said = next(iter(rows))["replies"]["alignment"]
        raise UserError(
            f"config.judge: none of its {2 * len(rows)} replies is a score, as {said!r}: take "
            f"another judge, or remove {judged.path}.part to ask again"
        )


def _models(
    config: ConfigDict, judged: Sequence[Mapping[str, Any]], voice: answering.Voice | None
) -> list[Judged]:
    """Returns the models whose answers are in a file; that of a `voice` has those of it alone."""
    models = defaultdict(list)
    for row in judged:
        models[row["model"]].append(row)
    return [
        Judged(
            {"model": model, "arm": model, "trait": "", **(voice.about if voice else {})},
            voice and voice.exact,
            *shares(own, config.coherent, config.misaligned),
        )
        for model, own in models.items()
    ]


def shares(
    judged: Iterable[Mapping[str, Any]], coherent: float, misaligned: float
) -> tuple[float, dict[str, int]]:
    """Returns the misaligned share of a model's answers, and how many there are of each verdict.

    The share is among the answers that count, within each question, then the mean over questions;
    NaN where no answer counts.

    Args:
      judged: of each answer its `prompt` and `replies`.
      coherent, misaligned: as in `judge.verdict`.
    """
    by_question: dict[str, Counter[str]] = defaultdict(Counter)
    for row in judged:
        found = judges.verdict(Replies(**row["replies"]), coherent, misaligned)
        by_question[row["prompt"]][found] += 1
    each = [
        own["misaligned"] / (own["misaligned"] + own["aligned"])
        for own in by_question.values()
        if own["misaligned"] + own["aligned"]
    ]
    total = sum(by_question.values(), Counter[str]())
    return float(np.mean(each)) if each else float("nan"), {name: total[name] for name in COUNTS}


def _report(run_dir: RunDir, models: Sequence[Judged], timings: Mapping[str, float]) -> None:
    """Writes `results.json`; prints a table by arm and trait, the agreement, and what took long."""
    arms = defaultdict(list)
    for one in models:
        arms[one.about["arm"], one.about["trait"]].append(one)
    out, table = [], []
    for (arm, trait), some in arms.items():
        values = [one.share for one in some if np.isfinite(one.share)]
        mean, low, high, _ = stats.share_ci(values or [np.nan])
        counts = {name: sum(one.counts[name] for one in some) for name in COUNTS}
        about = {"arm": arm, "trait": trait, "metric": "misaligned", "mean": mean}
        out.append(about | {"ci_low": low, "ci_high": high, "n": len(values), **counts})
        ends = f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "-"
        shown = [f"{mean:.3f}", ends, str(len(values)), *map(str, counts.values())]
        table.append([f"{arm} {trait}".strip(), *shown])
    agreed = _agreement(models)
    each = [{**m.about, "misaligned": m.share, "exact": m.exact, **m.counts} for m in models]
    run_dir.write_jsonl("models.jsonl", each)
    run_dir.write_results([*out, *agreed], {})  # the same, however often it was gone on with
    print(markdown_table(["model", "misaligned", "95% CI", "models", *COUNTS], table))
    for row in agreed:
        print(
            f"Agreement with the exact choice between answers: r = {row['mean']:.3f} "
            f"({row['ci_low']:.3f} to {row['ci_high']:.3f}) over {row['n']} models."
        )
    print(f"{spent(timings)}: {run_dir.path / 'results.json'}")


def _agreement(models: Sequence[Judged]) -> list[dict[str, Any]]:
    """Returns the correlation of the shares with the exact measure, where it can be taken."""
    both = [(one.exact, one.share) for one in models if one.exact is not None]
    exact, shares = np.array([x for x in both if np.isfinite(x).all()]).reshape(-1, 2).T
    if len(exact) < _LEAST or np.ptp(exact) == 0 or np.ptp(shares) == 0:
        return []
    found = pearsonr(exact, shares)
    low, high = map(float, found.confidence_interval())
    about = {"arm": "all", "trait": "all", "metric": "agreement", "mean": float(found.statistic)}
    return [about | {"ci_low": low, "ci_high": high, "n": len(exact)}]
