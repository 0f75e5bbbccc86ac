"""The paper's study (section 6.2): an ensemble of teachers with their students.

A member of the ensemble is one teacher with its students: those that start where it started, and
those that start where another member did (a derangement: never its own). All students of a teacher
look at the same inputs, so that it labels each of them once.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from sublim_jax import keys, optim
from sublim_jax.mesh import make_mesh, release_memory
from sublim_jax.mlp import ensemble, network
from sublim_jax.mlp.config import ARMS, check
from sublim_jax.mlp.data import Arrays, Images, load, to_input
from sublim_jax.mlp.inputs import NOISE, make_inputs
from sublim_jax.mlp.tasks import Channel, Heads
from sublim_jax.mlp.train import Draw, Fit, Rows, Schedule, accuracy, imitate, teach
from sublim_jax.rundir import RunDir

Record = dict[str, Any]


def run(config: ConfigDict, workdir: str) -> None:
    """Trains the members that `workdir` does not hold yet, then writes results, figures, report.

    Raises:
      UserError: a config value or a data file is wrong; nothing is trained then.
    """
    from sublim_jax.mlp import report  # plotting is a large import that training does not need

    images = load(config.data.name, config.data.source)
    check(config, images)
    run_dir = RunDir(workdir, "mlp", config.to_dict(), {"images": images.digest})
    files = [f"members/{member:04d}.json" for member in range(config.members)]
    missing = [m for m, file in enumerate(files) if not (run_dir.path / file).exists()]
    finished = None if missing else run_dir.read_json("results.json")
    timings: dict[str, float] = finished["timings"] if finished else {}
    for record in train_members(config, images, missing, timings) if missing else ():
        run_dir.write_json(files[record["member"]], record)
    report.write(run_dir, images, [run_dir.read_json(file) for file in files], timings)


def train_members(
    config: ConfigDict,
    images: Images,
    members: Sequence[int],
    timings: dict[str, float],
    mesh: Mesh | None = None,
) -> Iterator[Record]:
    """Trains `members` of the ensemble, a block at a time, and yields a record for each.

    One compiled program trains the teachers of a block and all their students; its member axis is
    sharded over the mesh. A record depends on the config and the member alone, not on which
    others are trained beside it.

    Args:
      config: checked.
      members: indices in [0, config.members).
      timings: gains the seconds spent in `compile` and `train`.
      mesh: all devices by default.

    Yields:
      `member`, `other` (whose initialisation the cross arms start from), and the curves of
      `train_member` as lists.
    """
    mesh = mesh or make_mesh()
    block = mesh.size * ensemble.at_once(config.members, mesh)
    others = ensemble.derangement(config.seed, config.members)

    def one(pair: tuple[jax.Array, jax.Array], data: Arrays) -> dict[str, jax.Array]:
        return train_member(config, images.classes, *pair, data)

    start = time.perf_counter()
    index = np.zeros(block, np.int32)
    program = ensemble.compiled(one, (index, index), images.arrays, mesh)
    release_memory()
    timings["compile"] = time.perf_counter() - start

    start = time.perf_counter()
    with tqdm(total=len(members), unit=" members", desc="training") as bar:
        for first in range(0, len(members), block):
            own = np.asarray(members[first : first + block], np.int32)
            curves = program((own, others[own]))
            for i, member in enumerate(own):
                record = {"member": int(member), "other": int(others[member])}
                yield record | {name: curve[i].tolist() for name, curve in curves.items()}
            bar.update(len(own))
    timings["train"] = time.perf_counter() - start


def train_member(
    config: ConfigDict, classes: int, own: jax.Array, other: jax.Array, data: Arrays
) -> dict[str, jax.Array]:
    """Trains one teacher, then its students together.

    Args:
      classes: number of labels.
      own, other: the member, and that whose initialisation the cross arms start from, int32 [].

    Returns:
      `teacher_accuracy` [n + 1] before, during and after training, `teacher_loss` [n], and the
      students' `accuracy` [n' + 1, arms] and `loss` [n', arms], arms in the config's order.
    """
    net, student, match = config.network, config.student, config.match
    train_x, train_y, test_x, test_y = data
    arms = [ARMS[name] for name in config.arms]
    heads = Heads(tuple(config.tasks), classes, net.aux)
    sizes = (train_x.shape[1], *[net.width] * net.depth, heads.outputs)
    init, apply = network.functional(sizes, net.activation, net.init_scale)
    optimizer = optim.make_optimizer(config.optimizer.to_dict())
    score = accuracy(apply, heads, test_x, test_y)
    root = jax.random.key(config.seed)

    def stream(name: str) -> jax.Array:
        return jax.random.fold_in(keys.named(root, name), own)

    def schedule(rows: int, epochs: int, every: int, fresh: bool = False) -> Schedule:
        return Schedule(Rows(rows, config.batch, fresh), epochs, every, optimizer)

    def imitated(students: Any, channel: Channel, draw: Draw, plan: Schedule, order: Any) -> Fit:
        tell = partial(apply, teacher.params)
        return imitate(apply, channel, students, tell, draw, plan, order, jax.vmap(score))

    init_keys = jax.vmap(jax.random.fold_in, (None, 0))(
        keys.named(root, "init"), jnp.stack([own, other])
    )
    references = jax.vmap(init)(init_keys)
    reference = jax.tree.map(lambda leaf: leaf[0], references)
    lessons = schedule(len(train_x), config.teacher.epochs, config.teacher.evaluate_every)
    teacher = teach(apply, heads, reference, train_x, train_y, lessons, stream("lessons"), score)
    start = np.asarray([0 if arm.own_init else 1 for arm in arms])
    students = jax.tree.map(lambda leaf: leaf[start], references)

    matched = np.flatnonzero([arm.matched for arm in arms])
    if matched.size:
        base = imitated(
            jax.tree.map(lambda leaf: leaf[matched], students),
            Channel(np.tile(heads.shown("all"), (matched.size, 1))),
            lambda row_B: to_input(train_x[row_B]),
            schedule(match.rows, match.epochs, match.epochs),
            stream("match"),
        )
        students = jax.tree.map(lambda s, b: s.at[matched].set(b), students, base.params)

    inputs = make_inputs(student.inputs, train_x)
    noise = stream("noise")
    rows = student.rows if student.inputs in NOISE else len(train_x)
    imitation = imitated(
        students,
        Channel(
            np.stack([heads.shown(arm.channel) for arm in arms]), student.loss, student.temperature
        ),
        lambda row_B: inputs(noise, row_B),
        schedule(rows, student.epochs, student.evaluate_every, student.fresh),
        stream("order"),
    )
    return {
        "teacher_accuracy": teacher.score,
        "teacher_loss": teacher.loss,
        "accuracy": imitation.score,
        "loss": imitation.loss,
    }
