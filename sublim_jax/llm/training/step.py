"""One training step of S students at once, for any choice of what is trained and of the loss.

Shapes: S students, R rows, T tokens, M positions, C positions of a chunk, D embedding.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from sublim_jax import optim
from sublim_jax.keys import folded
from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import losses, trainable
from sublim_jax.llm.training.batches import Batch, Micros, PackedRows
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.mesh import constrain

Tree = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Program:
    """What a training step is compiled for.

    Attributes:
      config: of the base.
      recipe: of its fields, those that are not in `Inputs`.
      chunk: positions whose logits are computed at once.
      tile, prefix: of the rows' attention, as in `attention.causal`.
      teacher: config of the teacher, in distillation.
      mesh: where it runs; None for one device.
    """

    config: Config
    recipe: Recipe
    chunk: int
    tile: int = 0
    prefix: int = 0
    teacher: Config | None = None
    mesh: Mesh | None = None


class Inputs(NamedTuple):
    """What the steps read and do not change.

    Attributes:
      base: weights of the model.
      fixed: of each student, what is not trained of its adapter.
      teacher: weights of the teacher, or [S, ...] of those of each student, and their adapters
        [S, ...] or None; or None.
      rate, steps, seed: [S], learning rate, steps and seed of each student.
    """

    base: Tree
    fixed: Tree
    teacher: tuple[Tree, Tree | None] | None
    rate: jax.Array
    steps: jax.Array
    seed: jax.Array


class State(NamedTuple):
    """What the steps change.

    Attributes:
      trained: float32, [S, ...].
      optimizer: optax's state of each student, [S, ...].
      step: int32 [], steps done: the position in the data.
      stopped: int32 [S], the step before which a student stopped, or -1.
      broken: bool [S], whether it stopped for a number that was not finite.
      loss, held_out: float32 [S], of the last step learnt and of the last evaluation; NaN before.
      best: what is trained where the held-out loss was least, that loss, and evaluations since;
        None without early stopping.
    """

    trained: Tree
    optimizer: Any
    step: jax.Array
    stopped: jax.Array
    broken: jax.Array
    loss: jax.Array
    held_out: jax.Array
    best: tuple[Tree, jax.Array, jax.Array] | None


def first_state(program: Program, base: Tree, adapter_seed: jax.Array) -> tuple[State, Tree]:
    """Returns the first state of S students, and what of their adapters is fixed."""
    made = _first_state(program, base, adapter_seed)
    # Where nothing of the base was used, jax would not bind the result to its device, and would
    # compile the first step apart from the others.
    return made if program.mesh else jax.device_put(made, base["norm"].sharding)


@functools.partial(jax.jit, static_argnames="program")
def _first_state(program: Program, base: Tree, adapter_seed: jax.Array) -> tuple[State, Tree]:
    recipe, S = program.recipe, adapter_seed.shape[0]
    make = functools.partial(trainable.start, recipe.trainable, program.config, base)
    trained, fixed = jax.vmap(make)(adapter_seed)
    state = State(
        trained,
        jax.vmap(recipe.transformation().init)(trained),
        jnp.zeros((), jnp.int32),
        jnp.full(S, -1, jnp.int32),
        jnp.zeros(S, bool),
        jnp.full(S, jnp.nan, jnp.float32),
        jnp.full(S, jnp.nan, jnp.float32),
        (trained, jnp.full(S, jnp.inf, jnp.float32), jnp.zeros(S, jnp.int32))
        if recipe.patience
        else None,
    )
    return _placed(program, (state, fixed))


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_step(program: Program, given: Inputs, state: State, batch: Batch) -> tuple[State, Tree]:
    """Returns the state after one step of every student that still learns, and numbers [S] of it.

    Gradients and losses are sums over tokens, accumulated over the micro-batches and divided by the
    weight of all tokens of the step.
    """
    recipe = program.recipe
    of_one = jax.value_and_grad(functools.partial(_student_sums, program), argnums=1, has_aux=True)
    of_students = _over_students(program, of_one, given)
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), state.step))(given.seed)

    def accumulate(i: jax.Array, sums: Any) -> Any:
        micro = jax.tree.map(lambda a: _spread(a[i]), batch.micros)
        (_, found), gradient = of_students(
            given.base, state.trained, given.fixed, given.teacher, micro, keys
        )
        return jax.tree.map(jnp.add, sums, (found, gradient))

    zeros = jnp.zeros_like(given.rate)
    start = (dict.fromkeys(("loss", "weight"), zeros), jax.tree.map(jnp.zeros_like, state.trained))
    sums, gradient = lax.fori_loop(0, batch.count, accumulate, start)

    rate = given.rate * optim.rate(recipe.schedule, state.step, given.steps, recipe.warmup)
    learns = (state.stopped < 0) & (state.step < given.steps)
    update = jax.vmap(functools.partial(_update, recipe))
    trained, optimizer, numbers, finite = update(
        state.trained, state.optimizer, gradient, sums, rate, learns
    )
    breaks = learns & ~finite
    after = state._replace(
        trained=trained,
        optimizer=optimizer,
        step=state.step + 1,
        stopped=jnp.where(breaks, state.step, state.stopped),
        broken=state.broken | breaks,
        loss=jnp.where(learns & finite, numbers["loss"], state.loss),
    )
    numbers |= {"learning_rate": rate, "learns": learns, "broken": after.broken}
    return _placed(program, after), jax.tree.map(lambda a: constrain(a, None), numbers)


@functools.partial(jax.jit, static_argnames="program")
def evaluate(program: Program, given: Inputs, trained: Tree, batch: Batch) -> jax.Array:
    """Returns the loss of each student over a batch, [S], without dropout."""
    of_students = _over_students(program, functools.partial(_student_sums, program), given)

    def accumulate(i: jax.Array, sums: Any) -> Any:
        micro = jax.tree.map(lambda a: _spread(a[i]), batch.micros)
        total, found = of_students(given.base, trained, given.fixed, given.teacher, micro, None)
        return jax.tree.map(jnp.add, sums, (total, found["weight"]))

    zeros = jnp.zeros_like(given.rate)
    total, weight = lax.fori_loop(0, batch.count, accumulate, (zeros, zeros))
    return constrain(total / weight, None)


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def watch(program: Program, state: State, loss: jax.Array) -> State:
    """Returns the state after an evaluation: students out of patience stop, the best is kept."""
    state = state._replace(held_out=jnp.where(state.stopped < 0, loss, state.held_out))
    if state.best is None:
        return _placed(program, state)
    kept, least, since = state.best
    better = (loss < least) & (state.stopped < 0)
    since = jnp.where(better, 0, since + 1)
    stops = (state.stopped < 0) & (since >= program.recipe.patience)
    best = jax.vmap(_choose)(better, state.trained, kept), jnp.where(better, loss, least), since
    stopped = jnp.where(stops, state.step, state.stopped)
    return _placed(program, state._replace(stopped=stopped, best=best))


@functools.partial(jax.jit, static_argnames=("program", "until"))
def below(program: Program, base: Tree, rows: PackedRows, until: int) -> jax.Array:
    """Returns the input of a layer, without any adapter, of one micro-batch: [S, R, T, D]."""
    shape = rows.tokens.shape
    tokens, segments = (a.reshape(-1, shape[-1]) for a in (rows.tokens, rows.segments))
    x = transformer.forward(
        program.config,
        base,
        tokens,
        segments,
        rows="data",
        tile=program.tile,
        prefix=program.prefix,
        until=until,
    )
    return x.reshape(*shape, -1)


def at_once(mesh: Mesh | None, students: int) -> int:
    """Returns how many of the students a device computes in one pass.

    A CPU computes one at a time on each device, whose activations then stay in the cache.
    """
    devices = mesh.shape["student"] if mesh else 1
    return 1 if _in_turn(mesh) else -(-students // devices)


def _in_turn(mesh: Mesh | None) -> bool:
    whole = mesh is None or mesh.size == mesh.shape["student"]
    return jax.default_backend() == "cpu" and whole


def _over_students(
    program: Program, of_one: Callable[..., Any], given: Inputs
) -> Callable[..., Any]:
    """Returns `of_one`, a function of (base, trained, fixed, teacher, micro, key), of all students.

    As one batch, of which the mesh cuts students, rows and weights; copies of the last student fill
    its `student` axis. Or one student after another, as `at_once` says.
    """
    mesh, S = program.mesh, given.seed.shape[0]
    teacher: Any = None
    if given.teacher is not None:
        each = given.teacher[0]["norm"].ndim > 1  # or one model for all
        teacher = (0 if each else None, 0)
    micros = Micros(0, 0, 0, 0, None)  # type: ignore[arg-type]
    axes = (None, 0, 0, teacher, micros, 0)
    if not _in_turn(mesh):
        of_all = jax.vmap(of_one, axes, spmd_axis_name="student" if mesh else None)
    else:
        of_all = jax.vmap(jax.custom_batching.sequential_vmap(of_one), axes)
        if mesh:
            specs = jax.tree.map(
                lambda axis: PartitionSpec() if axis is None else PartitionSpec("student"),
                axes,
                is_leaf=lambda axis: axis is None,
            )
            of_all = jax.shard_map(
                of_all, in_specs=specs, out_specs=PartitionSpec("student"), check_vma=False
            )
    if mesh is None or S % mesh.shape["student"] == 0:
        return of_all
    filled = np.minimum(np.arange(S + -S % mesh.shape["student"]), S - 1)

    def fill(axis: int | None, tree: Any) -> Any:
        return tree if axis is None else jax.tree.map(lambda a: a[filled], tree)

    def of_students(*args: Any) -> Any:
        args = jax.tree.map(fill, axes, args, is_leaf=lambda axis: axis is None)
        return jax.tree.map(lambda a: a[:S], of_all(*args))

    return of_students


def _student_sums(
    program: Program,
    base: Tree,
    trained: Tree,
    fixed: Tree,
    teacher: tuple[Tree, Tree | None] | None,
    micro: Micros,
    key: jax.Array | None,
) -> tuple[jax.Array, Tree]:
    """Returns the weighted sum of one student's loss over a micro-batch, and sums to report.

    The key draws dropout, of a token by its example and its place in it, wherever it was packed.
    """
    config, recipe = program.config, program.recipe
    example = micro.rows.segments
    of_token = key if key is None else folded(folded(key, example), transformer.positions(example))
    with transformer.precision(base):
        weights, adapter = trainable.bind(recipe.trainable, config, base, trained, fixed, of_token)
        own, rest = trainable.head_of(trained, weights)
        x_MD = _predictors(program, config, weights, micro.rows, adapter)
        items: Tree = {"target": micro.target, "weight": micro.weight}
        frozen = {"student": rest}
        if program.teacher is not None and teacher is not None:
            read = micro.rows if micro.teacher is None else micro.teacher
            read = read._replace(below=None)
            items["teacher"] = _predictors(program, program.teacher, teacher[0], read, teacher[1])
            frozen["teacher"] = transformer.head_weights(teacher[0])
        term = functools.partial(_term, program)
        return losses.over_chunks(term, program.chunk, own, x_MD, frozen, items, micro.chunks)


def _term(
    program: Program, own: Tree, frozen: Tree, x_CD: jax.Array, item: Tree
) -> tuple[jax.Array, Tree]:
    """Returns the loss summed over a chunk of positions: a `losses.Term`."""
    config, recipe = program.config, program.recipe
    logits = functools.partial(losses.logits, config, {**frozen["student"], **own}, x_CD)
    if program.teacher is not None:
        subset = recipe.tokens or None
        target = losses.logits(program.teacher, frozen["teacher"], item["teacher"], subset)
        loss_C = losses.divergence(target, logits(subset))
    else:
        loss_C = losses.cross_entropy(logits(), item["target"])
    weight = item["weight"]
    total = jnp.sum(loss_C * weight)
    return total, {"loss": total, "weight": jnp.sum(weight)}


def _predictors(
    program: Program, config: Config, weights: Tree, rows: PackedRows, adapter: Tree | None
) -> jax.Array:
    """Returns the last layer's output at the positions that predict, [M, D]."""
    x = transformer.forward(
        config,
        weights,
        rows.tokens,
        rows.segments,
        adapter=adapter,
        rows="data",
        tile=program.tile,
        prefix=program.prefix,
        below_BTD=rows.below,
    )
    return x.reshape(-1, config.embed)[rows.at]


def _update(
    recipe: Recipe,
    trained: Tree,
    optimizer: Any,
    gradient: Tree,
    sums: Tree,
    rate: jax.Array,
    learns: jax.Array,
) -> tuple[Tree, Any, Tree, jax.Array]:
    """Returns one student after its step, unchanged where it does not learn or breaks."""
    weight = jnp.maximum(sums["weight"], jnp.finfo(jnp.float32).tiny)
    gradient = jax.tree.map(lambda g: g / weight, gradient)
    norm = optax.tree.norm(gradient)
    if recipe.clip:  # as torch.nn.utils.clip_grad_norm_
        shrink = jnp.minimum(1.0, recipe.clip / (norm + 1e-6))
        gradient = jax.tree.map(lambda g: g * shrink, gradient)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in its bias correction
        change, after = recipe.transformation().update(gradient, optimizer, trained)
    change = jax.tree.map(lambda c: c * rate, change)
    numbers = {name: value / weight for name, value in sums.items() if name != "weight"}
    numbers |= {"grad_norm": norm, "tokens": sums["weight"]}
    finite = jnp.isfinite(numbers["loss"] + norm + optax.tree.norm(change))
    new = (optax.apply_updates(trained, change), after)
    return *_choose(learns & finite, new, (trained, optimizer)), numbers, finite


def _choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _spread(a: jax.Array) -> jax.Array:
    """Lays [S, R, T] and [S, R, T, D] over the mesh; [S, M] over its students alone."""
    axes = ("student", "data", None, None) if a.ndim > 2 else ("student", None)
    return constrain(a, *axes[: a.ndim])


def _placed(program: Program, tree: Any) -> Any:
    """Returns a state laid out on the mesh, every array as the trained one that it belongs to."""
    if program.mesh is None:
        return tree
    both = trainable.shardings(program.recipe.trainable, program.config, program.mesh)
    known = {
        jax.tree_util.keystr(path): place
        for part in both
        for path, place in jax.tree_util.tree_leaves_with_path(part)
    }

    def lay(path: Any, a: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        own = next((p for end, p in known.items() if name.endswith(end)), None)
        spec = own.spec if own is not None and a.ndim >= len(own.spec) else PartitionSpec("student")
        axes = (*spec, *[None] * (a.ndim - len(spec)))[: a.ndim]
        return constrain(a, *axes)

    return jax.tree_util.tree_map_with_path(lay, tree)
