"""The atlas: trains every cell of a config's sweeps, those of one shape as one program."""

import dataclasses
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from sublim_jax import compilation
from sublim_jax.atlas import report, sweep, training
from sublim_jax.atlas.cell import Cell
from sublim_jax.atlas.training import Job, Lesson
from sublim_jax.errors import UserError
from sublim_jax.mesh import make_mesh, release_memory
from sublim_jax.mlp import ensemble
from sublim_jax.mlp.data import Images, load
from sublim_jax.rundir import RunDir

_Item = TypeVar("_Item")
_AHEAD = 2  # shapes that are compiled while another trains
Params = Any
Measured = dict[str, np.ndarray]  # [cells, members, ...] by what is measured


def run(config: ConfigDict, workdir: str) -> None:
    """Trains what `workdir` does not hold yet, then writes results, figures and report.

    `students/` has a file for each shape of cells, written when all of them are trained.

    Raises:
      UserError: a config value or a data file is wrong; nothing is trained then.
    """
    images = load(config.data.name, config.data.source)
    sweeps = sweep.read(config)
    cells = sweep.distinct(sweeps)
    least = report.CHOOSING if any(own.best for own in sweeps) else 2
    if config.members < least:
        raise UserError(f"config.members={config.members}: must be at least {least}")
    if not 0 <= config.linear_members <= config.members:
        raise UserError(f"config.linear_members={config.linear_members}: from 0 to members")
    if config.seed < 0:
        raise UserError(f"config.seed={config.seed}: must not be negative")
    for cell in cells:
        if cell.student_network == "cnn" and math.isqrt(images.pixels) ** 2 != images.pixels:
            raise UserError(
                f"student_network='cnn': images of {images.pixels} pixels are not square"
            )
        if cell.code in ("top", "choice") and cell.detail > cell.shown(images.classes):
            shown = cell.shown(images.classes)
            raise UserError(f"detail={cell.detail}: {cell.code}: the channel shows {shown} logits")
    run_dir = RunDir(workdir, "atlas", config.to_dict(), {"images": images.digest})
    twins = [
        dataclasses.replace(cell, linear=True)
        for cell in cells
        if config.linear_members and cell.hops == 1
    ]
    groups = _grouped([*cells, *twins], lambda cell: cell.shape)
    files = {f"students/{i:03d}.json": own for i, own in enumerate(groups)}
    missing = {file: own for file, own in files.items() if run_dir.read_json(file) is None}
    timings = run_dir.read_json("timings.json") or {}
    if missing:
        _train(config, images, run_dir, missing, timings)
        run_dir.write_json("timings.json", timings)
    measured = {}
    for file, own in files.items():
        found = run_dir.read_json(file)
        for i, cell in enumerate(own):
            measured[cell] = {name: np.array(v[i], float) for name, v in found.items()}
    for twin in twins:
        cell = dataclasses.replace(twin, linear=False)
        measured[cell]["linear"] = measured[twin]["accuracy"][:, -1]
        measured[cell]["landed"] = measured[twin]["landed"]
        measured[cell]["linear_seconds"] = measured[twin]["seconds"]
    report.write(run_dir, images, sweeps, measured, timings)


def teach(
    cells: Sequence[Cell], images: Images, members: int, seed: int, mesh: Mesh
) -> dict[tuple[Any, ...], tuple[Params, np.ndarray]]:
    """Returns each teacher of the cells, by its key of `Cell.teachers`, and its test accuracy.

    Parameters have a leading axis of members, accuracies are [members, 2], before and after. Those
    of one network are trained as one program.
    """
    out = {}
    unique = {key: cell for cell in cells for key in cell.teachers}
    learnt = _classes(images.classes)
    for keys in _grouped(unique, lambda key: unique[key].network):
        own = [unique[key] for key in keys]
        each = (
            np.array([c.init_scale for c in own], np.float32),
            np.array([c.teacher_rate for c in own], np.float32),
            *np.array([learnt[key[-1]] for key in keys], np.int32).T,
        )
        lessons = Lesson(
            np.tile(np.arange(members, dtype=np.int32), len(own)),
            *(np.repeat(values, members) for values in each),
        )
        teacher = training.teacher(own[0], images.classes, seed)
        made = ensemble.compiled(teacher, lessons, images.arrays, mesh)(lessons)
        release_memory()
        for i, key in enumerate(keys):
            mine = jax.tree.map(lambda a, i=i: a[i * members : (i + 1) * members], made)
            out[key] = mine["params"], mine["accuracy"]
    return out


def learner(
    cells: Sequence[Cell],
    teachers: Mapping[tuple[Any, ...], tuple[Params, np.ndarray]],
    images: Images,
    others: np.ndarray,
    seed: int,
    mesh: Mesh,
) -> Callable[[], Measured]:
    """Returns the compiled program that trains members of cells of one shape: `training.student`.

    A student's numbers depend on its cell, its member, its `other` and the seed alone.

    Args:
      others: int32 [members]: of the first so many members, whose initialisation each may have
        instead of its own.

    Returns:
      A function without arguments, of what is measured: arrays [cells, members, ...]; the accuracy
      of each one's `teacher`, the mean of two; and `seconds`, that the program took for each.
    """
    members = len(others)
    jobs = Job(
        member=np.tile(np.arange(members, dtype=np.int32), len(cells)),
        other=np.tile(others, len(cells)),
        teachers=jax.tree.map(
            lambda *leaves: np.concatenate([leaf[:members] for leaf in leaves]),
            *(tuple(teachers[key][0] for key in c.teachers) for c in cells),
        ),
        values={
            name: np.repeat([c.values()[name] for c in cells], members)
            for name in cells[0].values()
        },
    )
    student = training.student(cells[0], images.classes, seed)
    program = ensemble.compiled(student, jobs, images.arrays, mesh)
    release_memory()

    def run() -> Measured:
        start = time.perf_counter()
        found = program(jobs)
        seconds = time.perf_counter() - start
        found["seconds"] = np.full(len(jobs.member), seconds / len(jobs.member))
        found = {name: a.reshape(len(cells), members, *a.shape[1:]) for name, a in found.items()}
        accuracy = [
            np.mean([teachers[key][1][:members, -1] for key in c.teachers], axis=0) for c in cells
        ]
        return found | {"teacher": np.stack(accuracy)}

    return run


def _train(
    config: ConfigDict,
    images: Images,
    run_dir: RunDir,
    groups: Mapping[str, Sequence[Cell]],
    timings: dict[str, float],
) -> None:
    mesh, seed = make_mesh(), config.seed
    others = ensemble.derangement(seed, config.members)
    needed = [cell for own in groups.values() for cell in own]

    def spend(stage: str, seconds: float) -> None:
        timings[stage] = timings.get(stage, 0.0) + seconds

    start = time.perf_counter()
    with compilation.watched() as compiled:
        teachers = teach(needed, images, config.members, seed, mesh)
    spend("compile", compiled.seconds)
    spend("teach", time.perf_counter() - start - compiled.seconds)

    def learning(own: Sequence[Cell]) -> Callable[[], Measured]:
        count = config.linear_members if own[0].linear else config.members
        return learner(own, teachers, images, others[:count], seed, mesh)

    programs = _ahead(functools.partial(learning, own) for own in groups.values())
    with tqdm(total=len(needed), unit=" cells", desc="atlas") as bar:
        for file, own in groups.items():
            start = time.perf_counter()
            program = next(programs)
            spend("compile", time.perf_counter() - start)
            start = time.perf_counter()
            found = program()
            run_dir.write_json(file, {name: a.tolist() for name, a in found.items()})
            spend("linearised" if own[0].linear else "learn", time.perf_counter() - start)
            bar.update(len(own))


def _ahead(makers: Iterable[Callable[[], _Item]]) -> Iterator[_Item]:
    """Yields what each of them makes; the next two are at work while the caller is."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        made: deque[Future[_Item]] = deque()
        for maker in makers:
            made.append(pool.submit(maker))
            if len(made) > _AHEAD:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()


def _grouped(items: Iterable[_Item], key: Callable[[_Item], Any]) -> list[list[_Item]]:
    """Returns the items, those of one key together."""
    groups: dict[Any, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _classes(count: int) -> dict[str, tuple[int, int]]:
    """Returns the first and the last class of each trait that a teacher may have."""
    half = count // 2
    return {"all": (0, count - 1), "lower": (0, half - 1), "upper": (half, count - 1)}
