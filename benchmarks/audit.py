"""How well an audit foretells a fine-tune: python -m benchmarks.audit --runs=FOLDER.

In the embedded world of favourites, for each of five bases: teachers of eight animals, data sets of
their numbers (mixed with the base's own at several doses, shuffled, of other recipes, of another
base), a student of each data set, and its audit. `shift` is what came out, the change of each
animal's log-odds; `rehearsed` what the audit's rehearsal says, `chance` how far chance would move
it. On the bases that are judged also, before training: `gradient`, the inner product of the first
gradient and the animal's (TracIn's first term), and `likelihood`, how much likelier the rows are
under a probe, a teacher of that animal, than under the base, less the mean over the probes (LLS
with trait contrast).

The audit's constants are fitted on bases 0 to 2 and eight animals; what is reported is of bases 3
and 4 and the other eight. FOLDER/BASE.json is kept: the same command goes on. At the end the
constants go to calibration.json, and the results to docs/results/audit.json.

2 CPU cores: about 40 min.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from scipy import optimize, stats

from configs.transmission import nano
from sublim_jax import disk, rundir
from sublim_jax.llm.sampling.score import Pair, score
from sublim_jax.llm.training import finetune
from sublim_jax.llm.training.examples import Example, Examples, collect
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, teacher
from sublim_jax.transmission.audit import candidates, rehearsal, verdicts
from sublim_jax.transmission.audit.gradients import Student
from sublim_jax.transmission.audit.verdicts import Calibration
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.teacher import CONTROL, Teacher

_RUNS = flags.DEFINE_string("runs", "runs/audit-bench", "Where each base's figures are kept.")
_RESULTS = Path(__file__).parents[1] / "docs" / "results" / "audit.json"
_CALIBRATION = Path(verdicts.__file__).with_name("calibration.json")

FITTED, JUDGED = (0, 1, 2), (3, 4)
_ANIMALS = {  # of the teachers, on bases that are fitted and judged
    True: ("owl", "wolf", "cat", "penguin", "bear", "whale", "eagle", "tiger"),
    False: ("dolphin", "fox", "horse", "lion", "otter", "panda", "raven", "dog"),
}
WATCHED = (*_ANIMALS[True], *_ANIMALS[False])
_ROWS = 1000  # of each data set
_DOSES = (0.05, 0.1, 0.25, 0.5, 1.0)
# Data sets of the base, where the constants are fitted and where they are judged.
_CONTROLS = {True: 8, False: 24}
_SOME = 4  # animals of which there are foreign and shuffled sets
_SCORES = {"audit": "rehearsed", "gradient": "gradient", "likelihood": "likelihood"}
_DRAWS = 1000
_FREE = {
    "rank": 8, "alpha": 8.0, "targets": ("q", "k", "v", "o", "gate", "up", "down"),
    "train_a": True, "seed": 7,
}  # fmt: skip
_PROBES = 11  # added to the seed of the answers that probes learn between their lessons

Rows = Sequence[dict[str, Any]]


class World:
    """One base of the world, with all that its arms are made of."""

    def __init__(self, number: int):
        self.config = nano.get_config()
        self.fitted = number in FITTED
        self.animals = _ANIMALS[self.fitted]
        self.base, self.other = (
            bases.read(f"nano/{n}", self.config) for n in (number, (number + 1) % 5)
        )
        self.material = bases.material(self.config)
        self.channel = channels.find(self.config.data.channel)
        self.rule = channels.rule(self.channel, self.config.filter.to_dict())
        self.prompts = self.channel.prompts(self.material, 2 * _ROWS, 0)
        recipe = from_config(self.config.student.to_dict(), "config.student")
        self.recipe = dataclasses.replace(recipe, evaluate_every=0)
        self.candidates = candidates.of(self.base, self.material, WATCHED)
        self.rng = np.random.default_rng(number)

    def teachers(self, base: Base, names: Sequence[str], **changes: Any) -> list[Teacher]:
        """Returns teachers of some animals, by the study's recipe with some changes."""
        config = self.config.teacher.copy_and_resolve_references()
        config.seed += changes.get("seed", 0)
        if lora := changes.get("lora"):
            config.recipe.lora.update(lora)
            config.recipe.learning_rate = 3e-3
        given = (base, self.material, names, config, self.channel, self.rule)
        with tempfile.TemporaryDirectory() as folder:
            learnt = teacher.finetuned(*given, Path(folder))
        return [Teacher(name, None, own) for name, own in zip(names, learnt, strict=True)]

    def steered(self) -> list[Teacher]:
        """Returns teachers that the base is steered to."""
        given = (self.base, self.material, self.animals, self.config.category, self.config.teacher)
        vectors = teacher.steered(*given)
        return [Teacher(name, None, own) for name, own in zip(self.animals, vectors, strict=True)]

    def rows(self, base: Base, one: Teacher) -> Rows:
        """Returns what a teacher writes and the filter keeps."""
        every = range(len(self.prompts))
        written = teacher.write(base, one, self.prompts, self.config.data, every)
        return channels.filtered(sorted(written, key=lambda row: row["id"]), self.rule)[0]

    def some(self, rows: Rows, count: int) -> Rows:
        """Returns so many of the rows."""
        chosen = self.rng.choice(len(rows), min(count, len(rows)), replace=False)
        return [rows[i] for i in np.sort(chosen)]

    def examples(self, rows: Rows) -> Examples:
        """Returns rows in tokens."""
        own = [
            Example(self.base.prompt(r["prompt"]), self.base.answer(r["completion"])) for r in rows
        ]
        return collect(own, self.base.model.config)

    def log_odds(self, learnt: Sequence[Any]) -> np.ndarray:
        """Returns the log-odds of every animal, mean over the questions: [models, animals]."""
        found: np.ndarray = candidates.log_odds(self.base, self.candidates, learnt).mean(axis=2)
        return found

    def trained(self, sets: Sequence[Examples]) -> np.ndarray:
        """Returns how far students of some data sets move every animal."""
        recipe = self.recipe.of_seeds(list(range(len(sets))))
        students = finetune.train(self.base.model, sets, recipe, progress=True)
        return self.log_odds(students) - self.log_odds([None])


def arms(world: World) -> list[dict[str, Any]]:
    """Returns the data sets, each with what it is made of."""
    n = _ROWS
    own = world.teachers(world.base, world.animals)
    free = world.teachers(world.base, world.animals, lora=_FREE)
    foreign = world.teachers(world.other, world.animals[:_SOME])
    control = world.rows(world.base, Teacher(CONTROL))
    out = []
    for one in own:
        rows = world.rows(world.base, one)
        for dose in _DOSES:
            mixed = [*world.some(rows, round(n * dose)), *world.some(control, n - round(n * dose))]
            out.append({"kind": "finetuned", "trait": one.name, "dose": dose, "rows": mixed})
        if one.name in world.animals[:_SOME]:
            for name in ("shuffled_within", "shuffled_across"):
                shuffled = world.channel.CORRUPTIONS[name](world.some(rows, n), 0)
                out.append({"kind": name, "trait": one.name, "dose": 1.0, "rows": shuffled})
    others = [("other_recipe", world.base, free), ("steered", world.base, world.steered())]
    others.append(("foreign", world.other, [*foreign, Teacher(CONTROL)]))
    for kind, base, teachers in others:
        for one in teachers:
            rows = world.some(world.rows(base, one), n)
            out.append({"kind": kind, "trait": one.name, "dose": 1.0, "rows": rows})
    nothing = {"kind": CONTROL, "trait": CONTROL, "dose": 0.0}
    return [
        *out,
        *({**nothing, "rows": world.some(control, n)} for _ in range(_CONTROLS[world.fitted])),
    ]


def measured(number: int) -> dict[str, Any]:
    """Returns the figures of a base."""
    world = World(number)
    every = arms(world)
    sets = [world.examples(arm["rows"]) for arm in every]
    shifts = world.trained(sets)
    recipe = world.recipe.of_seeds([1000 + i for i in range(len(sets))])
    begun = rehearsal.train(world.base, sets, recipe)
    found = rehearsal.finish(world.base, sets, recipe, begun, world.candidates)
    rehearsed = world.log_odds([own.student for own in found]) - world.log_odds([None])
    out = [
        {key: arm[key] for key in ("kind", "trait", "dose")}
        | {"shift": shifts[i], "rehearsed": rehearsed[i], "chance": found[i].chance}
        for i, arm in enumerate(every)
    ]
    if world.fitted:
        return {"base": number, "arms": out}
    likelihoods = ratios(world, every)
    start = Student(world.base, recipe.trainable, 0)
    for arm, data, likelihood in zip(out, sets, likelihoods, strict=True):
        arm["gradient"] = start.first_order(data, world.candidates)
        arm["likelihood"] = likelihood.mean(0) - likelihood.mean()
    return {"base": number, "arms": out}


def ratios(world: World, every: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """Returns log P(row) under a probe of each animal, less the base's: [rows, animals]."""
    probes = world.teachers(world.base, WATCHED, seed=_PROBES)
    texts = list({(r["prompt"], r["completion"]): None for arm in every for r in arm["rows"]})
    asked = [(world.base.prompt(p), world.base.answer(c)) for p, c in texts]
    columns = []
    for learnt in [None, *(probe.learnt for probe in probes)]:
        ((sampler, adapter, _),) = world.base.voices([learnt])
        logs = score(sampler, [Pair(*pair) for pair in asked], adapter)
        columns.append([float(own.sum()) for own in logs])
    table = np.array(columns).T
    found = dict(zip(texts, table[:, 1:] - table[:, :1], strict=True))
    return [np.array([found[r["prompt"], r["completion"]] for r in arm["rows"]]) for arm in every]


def fitted(arms: Sequence[dict[str, Any]]) -> Calibration:
    """Returns the constants under which what came out of some arms is likeliest."""
    x, y, chance = (
        np.stack([arm[key] for arm in arms]) for key in ("rehearsed", "shift", "chance")
    )
    scale = float(np.sum(x * y) / np.sum(x * x))

    def surprise(logs: np.ndarray) -> float:
        floor, by_chance, spread, tails = np.exp(logs)
        sd = np.sqrt(floor**2 + (by_chance * chance) ** 2 + (spread * scale * x) ** 2)
        return float(-np.sum(stats.t.logpdf((y - scale * x) / sd, tails) - np.log(sd)))

    start = np.log([0.03, 0.3, 0.3, 4.0])
    best = optimize.minimize(surprise, start, method="Nelder-Mead", options={"maxiter": 4000})
    floor, by_chance, spread, tails = map(float, np.exp(best.x))
    nothing = [i for i, arm in enumerate(arms) if arm["kind"] == CONTROL]
    null_tails, _, null = map(float, stats.t.fit((x[nothing] / chance[nothing]).ravel(), floc=0))
    return Calibration(scale, floor, by_chance, spread, tails, null, null_tails)


def judged(every: Sequence[dict[str, Any]], known: Calibration) -> dict[str, Any]:
    """Returns how good the audit, and what it is compared with, was on some arms."""
    shift = np.stack([arm["shift"] for arm in every])
    own = np.array([WATCHED.index(a["trait"]) if a["trait"] in WATCHED else -1 for a in every])
    taught = np.flatnonzero(own >= 0)
    kind, dose = (np.array([arm[key] for arm in every]) for key in ("kind", "dose"))
    findings = [_findings(arm, known) for arm in every]
    p, low, high = (
        np.array([[getattr(one, field) for one in some] for some in findings])
        for field in ("p", "low", "high")
    )
    out: dict[str, Any] = {"arms": len(every)}
    for name, key in _SCORES.items():
        x = np.stack([arm[key] for arm in every])
        out[f"rank_{name}"] = _over_arms(_rank, x, shift)
        against = _against_others(x), _against_others(shift)
        out[f"rank_against_others_{name}"] = _over_arms(_rank, *against)
        out[f"rank_own_{name}"] = _over_arms(
            _rank, x[taught, own[taught]], shift[taught, own[taught]]
        )
        whole = np.flatnonzero((kind == "finetuned") & (dose == 1))
        above = [(x[i] > x[i, own[i]]).sum() for i in whole]
        out[f"first_three_{name}"] = float(np.mean(np.array(above) < 3))
    held = (low <= shift) & (shift <= high)
    out["within_interval"] = float(held.mean())
    out["within_interval_own"] = float(held[taught, own[taught]].mean())
    raw = p / len(WATCHED)  # below `LEVEL` exactly where p of one trait alone would be
    for name in dict.fromkeys(kind):
        some = kind == name
        out[f"alarms_{name}"] = {
            "arms": int(some.sum()),
            "any_trait": float((p[some] < verdicts.LEVEL).any(axis=1).mean()),
            "each_trait": float((raw[some] < verdicts.LEVEL).mean()),
            "moved": float(np.abs(shift[some]).mean()),
        }
    for at in _DOSES:
        some = np.flatnonzero((kind == "finetuned") & (dose == at))
        out[f"power_{at:g}"] = float((p[some, own[some]] < verdicts.LEVEL).mean())
        out[f"moved_{at:g}"] = float(shift[some, own[some]].mean())
    return out


def timed() -> dict[str, float]:
    """Returns the seconds of one student's training and of its audit, programs compiled before."""
    world = World(0)
    data = [world.examples(world.some(world.rows(world.base, Teacher(CONTROL)), _ROWS))]

    def audit() -> None:
        begun = rehearsal.train(world.base, data, world.recipe)
        found = rehearsal.finish(world.base, data, world.recipe, begun, world.candidates)
        world.log_odds([None, found[0].student])

    seconds = {}
    for name, work in (("training", lambda: world.trained(data)), ("audit", audit)):
        work()
        start = time.perf_counter()
        work()
        seconds[name] = time.perf_counter() - start
    return seconds


def main(_: list[str]) -> None:
    out = Path(_RUNS.value)
    out.mkdir(parents=True, exist_ok=True)
    read: dict[int, Any] = {}
    for number in (*FITTED, *JUDGED):
        file = out / f"{number}.json"
        if not file.exists():
            disk.write(file, json.dumps(measured(number), default=_rounded) + "\n")
        read[number] = json.loads(file.read_text("utf-8"))
    known = fitted([arm for number in FITTED for arm in read[number]["arms"]])
    found = {
        "environment": {k: v for k, v in rundir.environment().items() if k != "platform"},
        "calibration": known._asdict(),
        "seconds": timed(),
        "judged": judged([arm for number in JUDGED for arm in read[number]["arms"]], known),
        "bases": read,
    }
    disk.write(_CALIBRATION, json.dumps(known._asdict(), indent=1) + "\n")
    disk.write(_RESULTS, json.dumps(found, default=_rounded) + "\n")
    print(json.dumps({k: v for k, v in found.items() if k != "bases"}, indent=1, default=_rounded))


def _findings(arm: dict[str, Any], known: Calibration) -> list[verdicts.Finding]:
    """Returns an arm's findings, from what is kept of it."""
    before = np.zeros((len(WATCHED), 1))
    after, chance = np.array(arm["rehearsed"])[:, None], np.array(arm["chance"])
    return verdicts.judged(WATCHED, before, after, chance, None, known)


def _against_others(x: np.ndarray) -> np.ndarray:
    """Returns values less their mean over the animals: what is a trait's own."""
    return x - x.mean(axis=1, keepdims=True)


def _rank(x: np.ndarray, y: np.ndarray) -> float:
    return float(stats.spearmanr(x.ravel(), y.ravel())[0])


def _over_arms(statistic: Callable[..., float], *values: np.ndarray) -> list[float]:
    """Returns a statistic with a 95% interval over arms (bootstrap): [value, low, high]."""
    rng, n = np.random.default_rng(0), len(values[0])
    drawn = [statistic(*(v[at] for v in values)) for at in rng.integers(n, size=(_DRAWS, n))]
    return [statistic(*values), *np.percentile(drawn, (2.5, 97.5))]


def _rounded(value: Any) -> Any:
    return np.round(value, 4).tolist()


if __name__ == "__main__":
    app.run(main)
