"""Fine-tuning of one or many students over one base, as one program.

`train` is what a user calls; a step is `step.train_step`.
"""

import contextlib
import dataclasses
import functools
import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from sublim_jax import digest
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import batches, flops, losses, step, trainable, trained
from sublim_jax.llm.training.examples import Examples
from sublim_jax.llm.training.loop import Loop
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.step import Inputs, Program, State
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import in_mesh, on_host, out_of_memory

# A model for all students; or for each a model of one shape, or an adapter of the base.
Teachers = Decoder | Sequence[Decoder] | Sequence[lora.Adapter]

# Time of an operation of attention, in those of a large product: measured at 0.5B shapes on a CPU,
# assumed elsewhere.
_ATTENTION_SLOWER = {"cpu": 5.0}
_ATTENTION_SLOWER_ELSEWHERE = 2.0
_MOST_BELOW = 2**33  # bytes that are kept of the layers below an adapter


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of S students.

    Attributes:
      students: what each has learnt.
      steps: that each learnt.
      broken: of each, whether a number that was not finite stopped it.
      loss: of the last step that each learnt; NaN where there was none.
      held_out: loss on the held-out rows at the last evaluation, or NaN.
      seconds: of this call, after the first step; nothing where no step was made.
      tokens: read in that time, of all students, without padding.
    """

    students: list[Trained]
    steps: list[int]
    broken: list[bool]
    loss: list[float]
    held_out: list[float]
    seconds: float
    tokens: int


def train(
    model: Decoder,
    datasets: Examples | Sequence[Examples],
    recipe: Recipe | None = None,
    workdir: str | os.PathLike[str] | None = None,
    teacher: Teachers | None = None,
    **more: Any,
) -> list[Trained]:
    """Returns what one student for each data set has learnt, all trained as one program.

    Args:
      model: the base, which stays as it is.
      datasets: one, or S of them for S students (`examples.tokenise`). A student's result does not
        depend on its neighbours, up to the rounding of sums in other shapes.
      recipe: how; the paper's by default.
      workdir: for checkpoints and metrics; the same call goes on from there after an interruption,
        to the same numbers bit for bit. None: nothing is written.
      teacher: for distillation, a model with the same vocabulary; or for each student such a model,
        all of one shape, or an adapter.
      more: as in `fit`.

    Raises:
      UserError: a recipe that does not fit the data or the model, a workdir of another training,
        out of memory, or numbers that were not finite in every student.
    """
    outcome = fit(model, datasets, recipe or Recipe(), workdir, teacher, **more)
    if all(outcome.broken):
        raise UserError(stopped(dict(enumerate(outcome.steps))))
    return outcome.students


def stopped(steps: Mapping[int, int]) -> str:
    """Returns the line on students that numbers which were not finite have stopped, by step."""
    some = ", ".join(f"student {number} at step {step}" for number, step in steps.items())
    return (
        f"loss or gradient not finite: {some}: stopped with the weights before that "
        "step; lower learning_rate, or look for NaN in the data's weights"
    )


def fit(
    model: Decoder,
    datasets: Examples | Sequence[Examples],
    recipe: Recipe,
    workdir: str | os.PathLike[str] | None = None,
    teacher: Teachers | None = None,
    start: Sequence[Trained] | None = None,
    name: str = "",
    wandb: str = "",
    profile: tuple[int, int] | None = None,
    progress: bool = False,
    watched: Sequence[Examples] | None = None,
) -> Outcome:
    """Trains as `train` does, and returns the whole `Outcome`.

    Args:
      start: what each student goes on from, of what the recipe trains; None: fresh adapters, and
        the base's parameters.
      name: of the base, for PEFT files.
      wandb: a Weights & Biases project.
      profile: the first and the last step of which a `jax.profiler` trace is written to
        `workdir/profile`.
      progress: shows a bar with tokens a second and, on accelerators, MFU.
      watched: rows for each student whose cross-entropy is measured every `evaluate_every` steps,
        in place of the loss on held-out rows of its data.
    """
    given_data = (datasets,) if isinstance(datasets, Examples) else tuple(datasets)
    S = len(given_data)
    if not S:
        raise UserError("no data set to learn from")
    config = dataclasses.replace(model.config, remat=recipe.remat)
    trainable.frozen(recipe.trainable, config)  # raises where a pattern or a layer is not there
    seeds = recipe.of_each("seed", S)
    parts = [
        batches.split(data, seed, recipe.held_out)
        for data, seed in zip(given_data, seeds, strict=True)
    ]
    data = [learnt for learnt, _ in parts]
    held = [rows for _, rows in parts if rows is not None] if watched is None else [*watched]
    held = held if recipe.evaluate_every else []
    if watched is not None and len(held) != S:
        raise UserError(f"{len(held)} sets of rows to watch for {S} students: one each is needed")
    steps = [batches.steps_of(own, recipe.batch, recipe.epochs) for own in data]
    steps = [min(n, recipe.max_steps or n) for n in steps]
    plan, once = _plans(model, recipe, data, held, seeds, steps)
    teacher_config, teacher_weights = _teacher(model, config, recipe, teacher, S)
    shape = (plan.chunk, plan.tile, plan.prefix)
    program = Program(config, recipe.compiled(), *shape, teacher_config, model.mesh)
    measure = dataclasses.replace(
        program,
        tile=once.tile,
        prefix=once.prefix,
        teacher=teacher_config if watched is None else None,
    )

    size = f"{S} students of {plan.rows} x {plan.width} tokens in a pass"
    remedy = "lower config.recipe.micro_tokens, set remat='full' there, or train fewer students"
    if first := trainable.frozen(recipe.trainable, config):
        if sum(_below_bytes(one, model) for one in [plan, *([once] if held else [])]) > _MOST_BELOW:
            logging.info("inputs of layer %d are too many to be kept: computed each time", first)
        else:
            with in_mesh(model.mesh), out_of_memory(size, remedy):
                plan = _with_below(program, plan, model, first)
                once = _with_below(measure, once, model, first) if held else once

    identity: tuple[dict[str, Any], dict[str, str]] = {}, {}
    if workdir is not None:
        identity = _identity(model, config, recipe, given_data, teacher, start, watched)
    loop = Loop(program, plan, recipe, workdir, identity, wandb, profile, progress)
    adapter_seeds = recipe.of_each("lora.seed", S)
    with in_mesh(model.mesh), out_of_memory(size, remedy), contextlib.closing(loop):
        base = model.pure()
        state, fixed = step.first_state(program, base, jnp.array(adapter_seeds, jnp.uint32))
        if start is not None:
            state, fixed = _started(recipe, config, start, state, fixed)
        given = Inputs(
            base,
            fixed,
            teacher_weights,
            jnp.array(recipe.of_each("learning_rate", S), jnp.float32),
            jnp.array(steps, jnp.int32),
            jnp.array(seeds, jnp.uint32),
        )
        state = loop.run(given, state, once.at(0) if held else None, measure)
        best = state.trained if state.best is None else _best(state)
        # One copy to the host, where a process has all: each student's would be programs of slices.
        best, fixed = jax.tree.map(
            lambda a: np.asarray(a) if a.is_fully_addressable else a, (best, fixed)
        )
        students = [
            trained.from_step(
                recipe.trainable,
                jax.tree.map(operator.itemgetter(s), best),
                jax.tree.map(operator.itemgetter(s), fixed),
                seed,
                name,
            )
            for s, seed in enumerate(adapter_seeds)
        ]
        stopped, bad, loss, held_loss = (
            on_host(x).tolist() for x in (state.stopped, state.broken, state.loss, state.held_out)
        )
    done = [at if at >= 0 else n for at, n in zip(stopped, steps, strict=True)]
    return Outcome(students, done, bad, loss, held_loss, loop.seconds, loop.tokens)


def _plans(
    model: Decoder,
    recipe: Recipe,
    data: Sequence[Examples],
    held: Sequence[Examples],
    seeds: Sequence[int],
    steps: Sequence[int],
) -> tuple[batches.Plan, batches.Plan]:
    """Returns the plan of the training, and that of one batch of all held-out rows."""
    slower = _ATTENTION_SLOWER.get(jax.default_backend(), _ATTENTION_SLOWER_ELSEWHERE)
    at_once = step.at_once(model.mesh, len(data))
    tokens = recipe.micro_tokens // at_once
    chunk = losses.chunk_size(model.config.vocab, at_once)
    rows = model.mesh.shape["data"] if model.mesh else 1
    tiled = jax.default_backend() == "cpu"  # elsewhere a kernel has tiles of its own
    # Dropout of a prefix is drawn for each example. TPU kernels know segments, and no prefix.
    shared = not (recipe.lora and recipe.lora.dropout) and jax.default_backend() != "tpu"
    shape = (tokens, chunk, rows, slower * flops.per_seen(model.config), tiled, shared)
    plan = batches.make_plan(data, seeds, recipe.batch, steps, *shape)
    if not held:
        return plan, plan
    once = batches.make_plan(held, seeds, max(map(len, held)), [1] * len(held), *shape)
    return plan, dataclasses.replace(once, chunk=plan.chunk)


def _below_bytes(plan: batches.Plan, model: Decoder) -> int:
    """Returns the bytes that `_with_below` keeps, and those that a step's batch has of them."""
    kept = sum(len(own.tokens) for own in {id(own): own for own in plan.data}.values())
    laid = len(plan.data) * plan.most * plan.rows * plan.width
    return (kept + laid) * model.config.embed * int(model.pure()["embed"].dtype.itemsize)


def _with_below(program: Program, plan: batches.Plan, model: Decoder, first: int) -> batches.Plan:
    """Returns the plan with the input of a layer, of all that students read: computed once.

    Students that read the same data share it.
    """
    base, width = model.pure(), model.config.embed
    found = {}
    for name, own in {id(own): own for own in plan.data}.items():
        found[name] = np.zeros((len(own.tokens), width), base["embed"].dtype)
        count = batches.steps_of(own, plan.batch, 1)
        whole = dataclasses.replace(plan, data=(own,), seeds=(0,), steps=(count,))
        for step_number in range(count):
            batch = whole.at(step_number)
            for i in range(int(batch.count)):
                rows = jax.tree.map(lambda a, i=i: a[i], batch.micros.rows)
                x = on_host(step.below(program, base, rows, first)).reshape(-1, width)
                into, read = own.places(rows.segments.ravel())
                found[name][into + plan.prefix] = x[read]
                found[name][: plan.prefix] = x[: plan.prefix]
    return dataclasses.replace(plan, below=tuple(found[id(own)] for own in plan.data))


def _teacher(
    model: Decoder,
    config: Config,
    recipe: Recipe,
    teacher: Teachers | None,
    students: int,
) -> tuple[Config | None, Any]:
    """Returns the teacher's config, and its weights with the adapters of all students."""
    if recipe.objective != "distillation":
        if teacher is not None:
            raise UserError(f"a teacher has no part in the objective {recipe.objective!r}")
        return None, None
    if teacher is None:
        raise UserError("distillation needs a teacher: a model, or an adapter for each student")
    if tokens := [t for t in recipe.tokens if not 0 <= t < config.vocab]:
        raise UserError(f"recipe.tokens: {tokens[0]} is outside the vocabulary of {config.vocab}")
    if isinstance(teacher, Decoder):
        return _vocabulary_checked(teacher.config, config), (teacher.pure(), None)
    if len(teacher) != students:
        raise UserError(f"{len(teacher)} teachers for {students} students: one each is needed")
    models = [one for one in teacher if isinstance(one, Decoder)]
    if models:
        if any(one.config != models[0].config for one in models):
            raise UserError("the teachers differ in shape: one program has teachers of one shape")
        weights = jax.tree.map(lambda *some: np.stack([*some]), *(m.pure() for m in models))
        return _vocabulary_checked(models[0].config, config), (weights, None)
    adapters = [one for one in teacher if isinstance(one, lora.Adapter)]
    for number, adapter in enumerate(adapters):
        lora.check(adapter, config, f"teacher {number}")
    by_student = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), lora.stack(adapters))
    return config, (model.pure(), by_student)


def _vocabulary_checked(teacher: Config, student: Config) -> Config:
    if teacher.vocab != student.vocab:
        raise UserError(
            f"the teacher's vocabulary of {teacher.vocab} is not the student's {student.vocab}"
        )
    return teacher


def _started(
    recipe: Recipe, config: Config, start: Sequence[Any], state: State, fixed: Any
) -> tuple[State, Any]:
    """Returns the first state with given adapters, or given parameters."""
    if len(start) != len(state.stopped):
        raise UserError(f"{len(start)} adapters to start from for {len(state.stopped)} students")
    for number, one in enumerate(start):
        _check_start(recipe, config, one, f"start {number}")
    values = [one.tree for one in start]

    def given(path: Any, old: jax.Array) -> jax.Array:
        own: list[Any] = [
            functools.reduce(lambda tree, key: tree[key.key], path, value) for value in values
        ]
        if any(np.shape(value) != old.shape[1:] for value in own):
            raise UserError("start: parameters made for another base")
        return jax.device_put(np.stack(own), old.sharding)

    moved = jax.tree_util.tree_map_with_path(given, state.trained)
    return state._replace(trained=moved), jax.tree_util.tree_map_with_path(given, {"lora": fixed})[
        "lora"
    ]


def _check_start(recipe: Recipe, config: Config, start: Trained, where: str) -> None:
    if start.adapter:
        lora.check(start.adapter, config, where)
    given, wanted = (
        spec and (spec.rank, set(spec.targets), spec.scale)
        for spec in (start.adapter and start.adapter.lora, recipe.lora)
    )
    if given != wanted:
        raise UserError(f"{where}: its rank, targets or scale are not the recipe's")
    if start.adapter and recipe.lora:
        idle = recipe.lora.idle(config.layers)
        if any(np.any(np.asarray(factor["b"])[idle]) for factor in start.adapter.factors.values()):
            raise UserError(f"{where}: it adapts layers that the recipe's lora.layers leaves out")
    wished = trainable.selection(recipe.trainable, config)
    if {*start.weights} != {*wished}:
        raise UserError(f"{where}: its parameters are not those that the recipe trains")


def _best(state: State) -> Any:
    assert state.best is not None
    kept, least, _ = state.best
    return jax.vmap(lambda yes, a, b: jax.tree.map(lambda x, y: jnp.where(yes, x, y), a, b))(
        jnp.isfinite(least), kept, state.trained
    )


def _identity(
    model: Decoder,
    config: Config,
    recipe: Recipe,
    data: Sequence[Examples],
    teacher: Any,
    start: Sequence[Trained] | None,
    watched: Sequence[Examples] | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what a checkpoint belongs to: the recipe, and digests of all that was given."""
    said = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(recipe)
        if field.name not in ("save_every", "log_every", "lora", "optimizer")
    }
    said["lora"] = recipe.lora and dataclasses.asdict(recipe.lora)
    named = isinstance(recipe.optimizer, tuple) and not hasattr(recipe.optimizer, "update")
    said["optimizer"] = dict(recipe.optimizer) if named else _program_of(recipe, model)
    if isinstance(teacher, Decoder):
        teacher = teacher.pure()
    elif teacher is not None:
        teacher = [
            one.pure() if isinstance(one, Decoder) else lora.folded(one.lora, one.factors)
            for one in teacher
        ]
    read = {
        "base": model.pure(),
        "data": [own.arrays() for own in data],
        "teacher": teacher,
        "start": None if start is None else [one.tree for one in start],
        "watched": None if watched is None else [own.arrays() for own in watched],
    }
    return {
        "model": dataclasses.asdict(config),
        "recipe": said,
    }, {name: digest.of_arrays(tree) for name, tree in read.items()}


def _program_of(recipe: Recipe, model: Decoder) -> str:
    """Returns the digest of what an optimiser computes, its constants included."""
    optimizer = recipe.transformation()
    make = functools.partial(trainable.start, recipe.trainable, model.config)
    params, _ = jax.eval_shape(make, model.pure(), jnp.uint32(0))

    def steps(gradient: Any, params: Any) -> Any:
        return optimizer.update(gradient, optimizer.init(params), params)

    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its bias correction
        program = jax.make_jaxpr(steps)(params, params)
    constants = digest.of_arrays([np.asarray(constant) for constant in program.consts])
    return digest.of_json([str(program.jaxpr), constants])
