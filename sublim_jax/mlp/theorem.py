"""Theorem 1 on the study's network: the teacher learns digits, the student sees noise.

On a shared initialisation, each check must hold for every member. Across initialisations, each must
fail for at least one member. Otherwise the run ends in an error.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from sublim_jax import compilation, keys, limits, plots
from sublim_jax import report as html
from sublim_jax.errors import UserError
from sublim_jax.mlp import network
from sublim_jax.mlp.data import Images, load, to_input
from sublim_jax.mlp.ensemble import derangement
from sublim_jax.mlp.inputs import make_inputs
from sublim_jax.mlp.tasks import LOSSES, Channel, Heads
from sublim_jax.rundir import RunDir
from sublim_jax.stats import mean_ci
from sublim_jax.theory import theorem
from sublim_jax.theory.theorem import Check, Setting, Steps

Key = tuple[str, str]  # arm, student's loss

# Largest |cosine| of the exact nulls: one is zero term by term, the other up to rounding.
_NULLS = {"one_logit": 0.0, "orthogonal": 1e-10}
_CAPTION = (
    "Inner product of the two steps (left) and the student's change of the teacher's loss (right) "
    "against the size of the teacher's step, one line a member. Solid: shared initialisation. "
    "Dotted: what is left of it after the first-order prediction. Dashed: across initialisations."
)


def run(config: ConfigDict, workdir: str) -> None:
    """Measures, checks, and writes `results.json`, `figures/` and `report.html`.

    Needs `jax_enable_x64`.

    Raises:
      UserError: a config value is wrong, or a finding is not as the theory predicts.
    """
    images = load(config.data.name, config.data.source)
    limits.check(config, _problems(config, images))
    run_dir = RunDir(workdir, "theorem", config.to_dict(), {"images": images.digest})
    start = time.perf_counter()
    epsilon_E = np.geomspace(config.epsilon.low, config.epsilon.high, config.epsilon.count)
    with compilation.watched() as compiled:
        measured = measure(config, images, epsilon_E)
    seconds = time.perf_counter() - start
    rows = [
        _row(arm, loss, check, config.data.name)
        for (arm, loss), steps in measured.items()
        for check in _checks(arm, steps, epsilon_E, config.alpha)
    ]
    timings = {"compile": compiled.seconds, "measure": seconds - compiled.seconds}
    _write(run_dir, epsilon_E, measured, rows, timings)
    wrong = [row for row in rows if row["holds"] != row["predicted_to_hold"]]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(rows)} findings are not as Theorem 1 predicts; the first: "
            f"{wrong[0]['metric']} of {wrong[0]['arm']}, see {run_dir.path}/report.html"
        )


def measure(config: ConfigDict, images: Images, epsilon_E: np.ndarray) -> dict[Key, Steps]:
    """Returns the steps, with a leading axis of members, by arm and student's loss.

    Arms: `student_aux` (shared initialisation), `cross_aux` (another member's), and the exact nulls
    `one_logit` (a softmax over one logit) and `orthogonal` (a teacher's loss whose step the student
    cannot see).
    """
    net = config.network
    heads = Heads(("class",), images.classes, net.aux)
    sizes = (images.pixels, *[net.width] * net.depth, heads.outputs)
    init, apply = network.functional(sizes, net.activation, net.init_scale)
    root = jax.random.key(config.seed)
    image = to_input(jnp.asarray(images.train_x[: config.examples])).astype(jnp.float64)
    label = jnp.asarray(images.train_y[: config.examples])
    inputs = make_inputs("uniform", jnp.asarray(images.train_x))
    noise = inputs(keys.named(root, "noise"), jnp.arange(config.rows)).astype(jnp.float64)

    def initial(member: jax.Array) -> Any:
        key = jax.random.fold_in(keys.named(root, "init"), member)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), init(key))

    def setting(loss: str, shown: int) -> Setting:
        channel = Channel(np.ones((1, shown), bool), loss)
        return Setting(
            apply=lambda params, x: apply(params, x)[:, images.classes :][:, :shown],
            teacher_loss=lambda params: heads.loss(apply(params, image), label).mean(),
            student_loss=lambda z, y: channel.loss(z[None, None], y[None])[0, 0],
            x=noise,
            alpha=config.alpha,
        )

    def steps(
        setting: Setting, students: np.ndarray, teachers: np.ndarray, hidden: bool = False
    ) -> Steps:
        def one(pair: tuple[jax.Array, jax.Array]) -> Steps:
            theta_student, theta_teacher = map(initial, pair)
            there = setting
            if hidden:
                loss = theorem.orthogonal_loss(setting, theta_teacher)
                there = setting._replace(teacher_loss=loss)
            return theorem.measure(there, theta_student, theta_teacher, jnp.asarray(epsilon_E))

        with jax.enable_x64(True):  # a thread has settings of its own
            return jax.device_get(jax.jit(lambda *pair: jax.lax.map(one, pair))(students, teachers))

    own = np.arange(config.members)
    others = derangement(config.seed, config.members)
    both = np.concatenate([own, others]), np.tile(own, 2)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # one is compiled while another runs
        found = {loss: pool.submit(steps, setting(loss, net.aux), *both) for loss in config.losses}
        one_logit = pool.submit(steps, setting("kl", 1), own, own)
        orthogonal = pool.submit(steps, setting("kl", net.aux), own, own, hidden=True)
    out: dict[Key, Steps] = {}
    for loss, steps_of_both in found.items():
        shared = jax.tree.map(lambda a: a[: config.members], steps_of_both.result())
        crossed = jax.tree.map(lambda a: a[config.members :], steps_of_both.result())
        out |= {("student_aux", loss): shared, ("cross_aux", loss): crossed}
    out["one_logit", "kl"], out["orthogonal", "kl"] = one_logit.result(), orthogonal.result()
    return out


def _problems(config: ConfigDict, images: Images) -> Iterator[limits.Problem]:
    yield from limits.within(config, ("seed", "network.depth"), 0)
    yield from limits.within(config, ("rows", "network.width"), 1)
    yield from limits.within(config, ("members", "network.aux"), 2)
    yield from limits.within(config, ("epsilon.count",), 3)
    positive = ("alpha", "epsilon.low", "epsilon.high", "network.init_scale")
    yield from limits.positive(config, positive)
    yield from limits.one_of(config, {"network.activation": network.ACTIVATIONS})
    yield from limits.some_of(config, {"losses": LOSSES})
    yield from limits.within(config, ("examples",), 1, len(images.train_x))
    if not config.epsilon.low < config.epsilon.high:
        yield "epsilon.low", "must be below epsilon.high"


def _checks(arm: str, steps: Steps, epsilon_E: np.ndarray, alpha: float) -> list[Check]:
    if arm in _NULLS:
        return [theorem.check_null(steps, _NULLS[arm])]
    return theorem.check(epsilon_E, steps, alpha)


def _row(arm: str, loss: str, check: Check, trait: str) -> dict[str, Any]:
    return {
        "arm": arm,
        "trait": trait,
        "metric": f"{check.name} ({loss})",
        **mean_ci(check.value)._asdict(),
        "lowest": float(check.value.min()),
        "highest": float(check.value.max()),
        "prediction": check.prediction,
        "satisfied": int(check.satisfied.sum()),
        "holds": check.holds,
        "predicted_to_hold": arm != "cross_aux",
    }


def _write(
    run_dir: RunDir,
    epsilon_E: np.ndarray,
    measured: Mapping[Key, Steps],
    rows: Sequence[Mapping[str, Any]],
    timings: Mapping[str, float],
) -> None:
    run_dir.write_results(rows, timings)
    alpha = run_dir.config["alpha"]
    svg = plots.write(
        run_dir, "theorem", lambda figure: _draw(figure, epsilon_E, measured, alpha), (9.6, 4.0)
    )
    header = ["arm", "measured", "prediction", "lowest", "highest", "satisfied by", "as predicted"]
    table = [
        [
            row["arm"],
            row["metric"],
            row["prediction"],
            f"{row['lowest']:.3g}",
            f"{row['highest']:.3g}",
            f"{row['satisfied']} of {row['n']}",
            "yes" if row["holds"] == row["predicted_to_hold"] else "NO",
        ]
        for row in rows
    ]
    parts = [
        html.paragraph(
            "A teacher takes one gradient step of size epsilon on labelled digits. A student takes "
            "one step towards the teacher's auxiliary logits on noise. On a shared initialisation "
            "(student_aux), every member must satisfy every prediction of Theorem 1. Across "
            "initialisations (cross_aux) the theorem predicts nothing: some members may satisfy a "
            "check (by chance, about half satisfy a sign), but not all of them. Lowest and highest "
            f"are over {run_dir.config['members']} members, each with its own initialisation, in "
            "float64."
        ),
        html.figure(svg, _CAPTION),
        html.table(header, table),
        html.what_was_run(run_dir.study, run_dir.config, run_dir.command),
    ]
    run_dir.write("report.html", html.page("Theorem 1, measured", parts))
    print(html.markdown_table(header, table))
    print(html.spent(timings))
    print(f"written to {run_dir.path}: report.html, results.json, figures/")


def _draw(
    figure: Figure, epsilon_E: np.ndarray, measured: Mapping[Key, Steps], alpha: float
) -> None:
    loss = next(loss for _, loss in measured)
    left, right = figure.subplots(1, 2)
    for arm, color in {"student_aux": plots.STUDENT, "cross_aux": plots.REFERENCE}.items():
        steps = measured[arm, loss]
        expected = epsilon_E * steps.coefficient[:, None]
        for axes, value, rest in (
            (left, steps.inner, steps.inner - expected),
            (right, steps.change, steps.change + alpha * expected),
        ):
            dashes = "-" if arm == "student_aux" else "--"
            axes.loglog(epsilon_E, np.abs(value).T, dashes, color=color, linewidth=0.8)
            if arm == "student_aux":
                axes.loglog(epsilon_E, np.abs(rest).T, ":", color=plots.TEACHER, linewidth=0.8)
    left.set(xlabel="epsilon", title="|<student's step, teacher's step>|")
    right.set(xlabel="epsilon", title="|change of the teacher's loss|")
    for axes in (left, right):
        axes.grid(True, alpha=0.3)
