"""One teacher, or one student, of a cell: what it learns, how, and what is measured of it.

Shapes: B rows, P pixels, O logits, N images, S steps between two looks.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from sublim_jax import keys
from sublim_jax.atlas import channels, starts
from sublim_jax.atlas.cell import OPTIMIZERS, POINTS, Cell
from sublim_jax.mlp import network, train
from sublim_jax.mlp.data import Arrays, to_input
from sublim_jax.mlp.inputs import NOISE, make_inputs
from sublim_jax.mlp.tasks import Channel, Heads
from sublim_jax.theory import predict

Params = Any
Apply = Callable[[Params, jax.Array], jax.Array]
Taught = tuple[Params, ...]  # who a student learns from: one, or two by turns
Carry = tuple[Params, Any, Taught]  # a student, its optimiser's state

MEASURED = (
    "accuracy", "imitation", "first_order", "sign_order", "alignment", "coverage", "class_head",
    "aux_head", "behaviour",
)  # fmt: skip

_MATCH_RATE = 1e-3
_LOOKED_AT = 256  # rows, and images, of what is measured along a student's training
_WARMUP = 0.2  # of the steps of liminal training, in which its weight rises


class Lesson(NamedTuple):
    """What one teacher is made from.

    Attributes:
      member: int32.
      init_scale, rate: of its cell.
      first, last: int32, the classes that it learns.
    """

    member: Any
    init_scale: Any
    rate: Any
    first: Any
    last: Any


class Job(NamedTuple):
    """What one student is made from.

    Attributes:
      member: int32, whose initialisation, noise and teacher these are.
      other: int32, the member whose initialisation it may have instead.
      teachers: parameters, of one or two that it learns from by turns.
      values: of its cell.
    """

    member: Any
    other: Any
    teachers: Taught
    values: Mapping[str, Any]


def teacher(cell: Cell, classes: int, seed: int) -> Callable[[Lesson, Arrays], dict[str, Any]]:
    """Returns the function that trains a teacher of cells of one `network`.

    It returns `params` and test `accuracy` [2], before and after.
    """
    heads = Heads(("class",), classes, cell.heads)

    def one(lesson: Lesson, data: Arrays) -> dict[str, Any]:
        init, apply = network.functional(_sizes(data, cell.depth, cell, classes), cell.activation)
        stream = _streams(seed, lesson.member)
        reference = starts.scaled(init(stream("init")), lesson.init_scale)
        rows = train.Rows(len(data.train_x), cell.teacher_batch)
        plan = train.Schedule(
            rows, cell.teacher_epochs, cell.teacher_epochs, optax.adam(lesson.rate)
        )
        # Images of its classes in the order of all, as often as fills an epoch.
        own_N = (data.train_y >= lesson.first) & (data.train_y <= lesson.last)
        index_N = jnp.argsort(~own_N)[jnp.arange(len(own_N)) % own_N.sum()]
        fitted = train.teach(
            apply, heads, reference, data.train_x[index_N], data.train_y[index_N], plan,
            stream("lessons"),
            train.accuracy(apply, heads, data.test_x, data.test_y),
        )  # fmt: skip
        return {"params": fitted.params, "accuracy": fitted.score}

    return one


def student(cell: Cell, classes: int, seed: int) -> Callable[[Job, Arrays], dict[str, jax.Array]]:
    """Returns the function that trains a student of cells of one `shape`.

    It returns what is `MEASURED`, [POINTS + 1], at its start and along its training:
      `accuracy`: on the test images, by the class head; and where it is linearised, [], as
        `landed` that of the network itself with the parameters at the end;
      `imitation`, `first_order`, `sign_order`, `alignment`, `coverage`: see `predict.first_step`;
        of imitation on rows of the channel and of the trait, the cross-entropy on labelled images,
        and the way to the teacher, or to the mean of two;
      `class_head`, `aux_head`: cosines of its heads and of the teacher's, the latter over the
        auxiliary logits that are shown;
      `behaviour`: root mean square of how far its logits are from those of the teacher's own
        initialisation, on rows of the channel.
    """

    def one(job: Job, data: Arrays) -> dict[str, jax.Array]:
        there = _setting(cell, classes, seed, job, data)
        optimizer = OPTIMIZERS[cell.optimizer](job.values["rate"])
        step = _stepping(cell, there, optimizer, job.values, data)
        look = _looking(there, job, data)
        between = (job.values["steps"] / POINTS).astype(jnp.int32)

        def stretch(carry: Carry, point: jax.Array) -> tuple[Carry, dict[str, jax.Array]]:
            seen = look(carry[0], carry[2])
            end = jnp.where(point < POINTS, (point + 1) * between, point * between)
            return lax.fori_loop(point * between, end, step, carry), seen

        def imitated(taught: Taught) -> tuple[Params, dict[str, jax.Array]]:
            first = there.begun, optimizer.init(there.begun), taught
            last, seen = lax.scan(stretch, first, jnp.arange(POINTS + 1))
            return last[0], seen

        if cell.linear:
            end, seen = imitated(job.teachers)
            landed = train.accuracy(there.network, there.heads, data.test_x, data.test_y)
            return seen | {"landed": landed(end)}
        if cell.hops == 1:
            return imitated(job.teachers)[1]

        def hop(_: jax.Array, carry: Any) -> Any:
            end, seen = imitated(carry[0])
            return (end,), seen

        shapes = jax.eval_shape(imitated, job.teachers)[1]
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        hops = job.values["hops"].astype(jnp.int32)
        return lax.fori_loop(0, hops, hop, (job.teachers, nothing))[1]

    return one


class _Setting(NamedTuple):
    """What a student is trained and measured by.

    Attributes:
      network: its own; model: the same, or linearised where it is to be.
      apply: the teacher's network.
      reference: the teacher's initialisation; begun: the student's start.
      heads: what its logits are.
      aux_1O: float32, 1 at the auxiliary logits that are shown.
      draw: row_B -> x_BP, the inputs; anchors: the same, those of the defence `anchor`.
      imitation: (params, taught, row_B) -> the loss of imitating `taught`; of two, the first at
        even rows.
      trait: (params, row_B) -> the cross-entropy on labelled images.
    """

    network: Apply
    model: Apply
    apply: Apply
    reference: Params
    begun: Params
    heads: Heads
    aux_1O: jax.Array
    draw: train.Draw
    anchors: train.Draw
    imitation: Callable[[Params, Taught, jax.Array], jax.Array]
    trait: Callable[[Params, jax.Array], jax.Array]


def _setting(cell: Cell, classes: int, seed: int, job: Job, data: Arrays) -> _Setting:
    values, depth = job.values, cell.student_depth or cell.depth
    heads = Heads(("class",), classes, cell.heads)
    init, apply = network.functional(_sizes(data, cell.depth, cell, classes), cell.activation)
    own_init, own = network.functional(_sizes(data, depth, cell, classes), cell.activation)
    if cell.student_network == "cnn":
        own_init, own = network.convolutional(
            data.train_x.shape[1], cell.width, heads.outputs, cell.activation
        )
    stream = _streams(seed, job.member)
    reference, other = (
        starts.scaled(init(_streams(seed, m)("init")), values["init_scale"])
        for m in (job.member, job.other)
    )
    begun = starts.start(reference, other, values, classes, stream("start"))
    fresh = starts.scaled(own_init(stream("layers")), values["init_scale"])
    if cell.student_network == "cnn":
        begun = starts.with_head(fresh, begun)
    elif depth != cell.depth:
        begun = starts.of_depth(begun, fresh)
    if cell.matched:
        tell = partial(apply, job.teachers[0])
        begun = _matched(begun, own, tell, cell, heads, data, stream("match"))
    model = predict.linearised(own, begun) if cell.linear else own
    place = jnp.arange(heads.outputs, dtype=jnp.float32)
    aux_O = (place >= classes) & (place < classes + values["aux"])
    shown_O = aux_O | ((place < classes) & (values["classes"] > 0))
    draw = _inputs(cell, values, data, stream("noise"))
    anchors = _drawn(cell.anchor, data, stream("anchor"))

    def imitation(params: Params, taught: Taught, row_B: jax.Array) -> jax.Array:
        x_BP = draw(row_B)
        told_BO = apply(taught[0], x_BP)
        if len(taught) == 2:
            told_BO = jnp.where((row_B % 2 == 0)[:, None], told_BO, apply(taught[1], x_BP))
        key_B = jax.vmap(jax.random.fold_in, (None, 0))(stream("code"), row_B)
        temperature = values["temperature"]
        sent = channels.encode(cell.code, told_BO, shown_O, temperature, values["detail"], key_B)
        return channels.loss(cell.loss, model(params, x_BP), sent, temperature).mean()

    def trait(params: Params, row_B: jax.Array) -> jax.Array:
        logits_BO = model(params, to_input(data.train_x[row_B]))
        return heads.loss(logits_BO, data.train_y[row_B]).mean()

    aux_1O = aux_O[None].astype(jnp.float32)
    return _Setting(
        own, model, apply, reference, begun, heads, aux_1O, draw, anchors, imitation, trait
    )


def _looking(
    there: _Setting, job: Job, data: Arrays
) -> Callable[[Params, Taught], dict[str, jax.Array]]:
    """Returns the function that measures a student who learns from someone."""
    row_B = jnp.arange(_LOOKED_AT)
    teacher = jax.tree.map(lambda *each: sum(each) / len(each), *job.teachers)
    classes = there.heads.classes
    accuracy = train.accuracy(there.model, there.heads, data.test_x, data.test_y)
    compared_1O = there.aux_1O.at[:, :classes].set(1)

    def look(params: Params, taught: Taught) -> dict[str, jax.Array]:
        x_BP = there.draw(row_B)
        apart_BO = there.model(params, x_BP) - there.apply(there.reference, x_BP)
        mine, theirs = (starts.layers(p)[-1]["kernel"] for p in (params, teacher))
        first = predict.first_step(
            params,
            lambda p: there.imitation(p, taught, row_B),
            lambda p: there.trait(p, row_B % len(data.train_x)),
            teacher,
        )
        return first | {
            "accuracy": accuracy(params),
            "class_head": predict.cosine(mine[:, :classes], theirs[:, :classes]),
            "aux_head": predict.cosine(mine * there.aux_1O, theirs * there.aux_1O),
            "behaviour": jnp.sqrt(jnp.mean(jnp.square(apart_BO), where=compared_1O > 0)),
        }

    return look


def _stepping(
    cell: Cell,
    there: _Setting,
    optimizer: optax.GradientTransformation,
    values: Mapping[str, jax.Array],
    data: Arrays,
) -> Callable[[jax.Array, Carry], Carry]:
    """Returns a training step, by its number.

    Two defences add how far the class head has moved to the loss: `liminal` on the rows it learns
    from, with a weight that rises and then falls to 0 (the schedule of liminal training); `anchor`
    on inputs of its own, throughout.
    """

    def loss(params: Params, taught: Taught, row_B: jax.Array, done: jax.Array) -> jax.Array:
        total = there.imitation(params, taught, row_B)
        if cell.defence == "liminal":
            weight = values["strength"] * jnp.minimum(done / _WARMUP, (1 - done) / (1 - _WARMUP))
            return total + weight * _moved(params, there, there.draw(row_B))
        if cell.defence == "anchor":
            return total + values["strength"] * _moved(params, there, there.anchors(row_B))
        return total

    def step(number: jax.Array, carry: Carry) -> Carry:
        params, state, taught = carry
        row_B = number * cell.batch + jnp.arange(cell.batch)
        done = number.astype(jnp.float32) / values["steps"]
        gradient = jax.grad(loss)(params, taught, row_B, done)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            update, state = optimizer.update(gradient, state, params)
        decay = values["rate"] * values["weight_decay"]
        update = jax.tree.map(lambda u, p: u - decay * p, update, params)
        if cell.defence == "project":
            loved = jax.grad(there.trait)(params, row_B % len(data.train_x))
            share = values["strength"] * predict.inner(update, loved) / predict.inner(loved, loved)
            update = jax.tree.map(lambda u, g: u - share * g, update, loved)
        return optax.apply_updates(params, update), state, taught

    return step


def _drawn(kind: str, data: Arrays, key: jax.Array) -> train.Draw:
    """Returns the inputs of rows, of a kind; images go round."""
    inputs, count = make_inputs(kind, data.train_x), len(data.train_x)
    return lambda row_B: inputs(key, row_B if kind in NOISE else row_B % count)


def _inputs(
    cell: Cell, values: Mapping[str, jax.Array], data: Arrays, key: jax.Array
) -> train.Draw:
    """Returns what a student looks at."""
    drawn, images = (_drawn(kind, data, key) for kind in (cell.inputs, "images"))

    def draw(row_B: jax.Array) -> jax.Array:
        distinct = values["distinct"].astype(jnp.int32)
        row_B = jnp.where(distinct > 0, row_B % jnp.maximum(distinct, 1), row_B)
        if not cell.images:
            return drawn(row_B)
        chance = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row)))(~row_B)
        return jnp.where((chance < values["images"])[:, None], images(row_B), drawn(row_B))

    return draw


def _moved(params: Params, there: _Setting, x_BP: jax.Array) -> jax.Array:
    """Returns the mean KL of the class head from the student's start."""
    before, now = (
        jax.nn.log_softmax(there.model(p, x_BP)[:, : there.heads.classes])
        for p in (there.begun, params)
    )
    return jnp.sum(jnp.exp(before) * (before - now), -1).mean()


def _matched(
    begun: Params,
    model: Apply,
    tell: train.Tell,
    cell: Cell,
    heads: Heads,
    data: Arrays,
    key: jax.Array,
) -> Params:
    """Returns a student that behaves like the teacher on real images, by imitating all logits."""
    rows = train.Rows(len(data.train_x), cell.teacher_batch)
    plan = train.Schedule(rows, cell.matched, cell.matched, optax.adam(_MATCH_RATE))
    everything = Channel(heads.shown("all")[None])
    alone = jax.tree.map(lambda leaf: leaf[None], begun)
    fitted = train.imitate(
        model, everything, alone, tell, lambda row_B: to_input(data.train_x[row_B]), plan, key,
        lambda params: jnp.zeros(()),
    )  # fmt: skip
    return jax.tree.map(lambda leaf: leaf[0], fitted.params)


def _sizes(data: Arrays, depth: int, cell: Cell, classes: int) -> tuple[int, ...]:
    return (data.train_x.shape[1], *[cell.width] * depth, classes + cell.heads)


def _streams(seed: int, member: jax.Array) -> Callable[[str], jax.Array]:
    root = jax.random.key(seed)
    return lambda name: jax.random.fold_in(keys.named(root, name), member)
