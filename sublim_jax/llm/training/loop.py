"""The host's loop over the steps of a training: what it dispatches, reads, saves and shows."""

import collections
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from sublim_jax import compilation
from sublim_jax.llm.training import batches, flops, step, trainable
from sublim_jax.llm.training.checkpoints import Checkpoints, leaving
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.step import Inputs, Program, State
from sublim_jax.mesh import in_first, on_host
from sublim_jax.metrics import Metrics
from sublim_jax.rundir import RunDir

_AHEAD = 2  # steps that the device is given before the oldest one's numbers are read
_SHOWN = 10  # steps between two updates of the progress bar's numbers


class Loop:
    """Runs the steps of a plan, once.

    Args:
      workdir: for checkpoints and metrics; None: nothing is written.
      identity: what the checkpoints belong to, and digests of what was given; a workdir of
        another training is refused.
      wandb: a Weights & Biases project, "" for none.
      profile: the first and the last step of a `jax.profiler` trace.
      progress: whether the first process shows a bar.

    Attributes:
      seconds, tokens: of the steps after the first, which compiles; tokens without padding.
    """

    def __init__(
        self,
        program: Program,
        plan: batches.Plan,
        recipe: Recipe,
        workdir: str | os.PathLike[str] | None,
        identity: tuple[Mapping[str, Any], Mapping[str, str]],
        wandb: str,
        profile: tuple[int, int] | None,
        progress: bool,
    ):
        self.seconds = 0.0
        self.tokens = 0
        self._program, self._plan, self._recipe = program, plan, recipe
        self._clock: float | None = None
        self._saved: int | None = None
        self._broken: set[int] = set()
        self._pending: collections.deque[tuple[int, Any]] = collections.deque()
        self._bar = tqdm(
            total=max(plan.steps), unit="step", disable=not progress or jax.process_index() != 0
        )
        self._checkpoints: Checkpoints | None = None
        self._metrics: Metrics | None = None
        self._profiler = _Profiler(workdir, profile)
        if workdir is None:
            return
        self._folder, self._identity = Path(workdir) / "checkpoints", identity
        in_first(lambda: self._claim() if (self._folder / "config.json").exists() else None)
        self._checkpoints = Checkpoints(self._folder / "steps")
        self._open_metrics = lambda step: Metrics(workdir, step, wandb, identity[0])

    def run(
        self, given: Inputs, state: State, watched: batches.Batch | None, measure: Program
    ) -> State:
        """Returns the state after the last step, from `state` or from a checkpoint's.

        Args:
          watched: the held-out rows of each student, evaluated before the first step, every
            `recipe.evaluate_every` steps and at the end.
          measure: the program of that evaluation.

        Raises:
          KeyboardInterrupt: told to stop, by a signal or a preemption; the state is saved.
        """
        program, total = self._program, max(self._plan.steps)
        if self._checkpoints and (latest := self._checkpoints.latest()) is not None:
            state = self._checkpoints.load(latest, state)
            self._saved = latest
        self._broken = set(np.flatnonzero(on_host(state.broken)).tolist())  # said before
        begin = at = int(state.step)
        if begin == total or np.all(on_host(state.stopped) >= 0):
            return state
        if self._checkpoints and jax.process_index() == 0:
            self._metrics = self._open_metrics(begin)
        self._bar.update(begin)

        def evaluate(done: int) -> jax.Array:
            loss = step.evaluate(measure, given, state.trained, watched)
            self._report()
            if self._metrics:
                self._metrics.write(done, {"held_out_loss": _numbers(loss)})
            return loss

        # At 0; and what is gone on from has lost the lines of its own step.
        if watched is not None and begin % self._recipe.evaluate_every == 0:
            step_of = program, given, state, self._plan.at(begin)
            with compilation.ahead(program.mesh, step.train_step, *step_of):
                evaluate(begin)
        with leaving() as leave:
            while at < total:
                if leave.due(at):
                    self._save(at, state, force=True)
                    raise KeyboardInterrupt
                self._profiler.before(at, state)
                state, numbers = step.train_step(program, given, state, self._plan.at(at))
                self._pending.append((at, numbers))
                self._report(_AHEAD)
                at += 1
                if watched is not None and (at % self._recipe.evaluate_every == 0 or at == total):
                    state = step.watch(program, state, evaluate(at))
                    if np.all(on_host(state.stopped) >= 0):
                        break
                if len(self._broken) == len(self._plan.data):
                    break
                self._save(at, state)
        self._profiler.end(state)
        self._report()
        self._save(at, state, force=True)
        return state

    def close(self) -> None:
        """Ends what is being written."""
        self._bar.close()
        if self._metrics:
            self._metrics.close()
        if self._checkpoints:
            self._checkpoints.close()

    def _claim(self) -> None:
        """Says whose the checkpoints are; refuses to where they are another training's."""
        RunDir(self._folder, "finetune", *self._identity)

    def _save(self, done: int, state: State, force: bool = False) -> None:
        due = force or done % self._recipe.save_every == 0
        if self._checkpoints and due and done != self._saved:
            if self._saved is None:
                in_first(self._claim)
            self._report()  # the lines of metrics are never behind the checkpoint
            self._checkpoints.save(done, state)
            self._saved = done

    def _report(self, ahead: int = 0) -> None:
        """Reads the numbers of all but the latest steps, which waits for them."""
        while len(self._pending) > ahead:
            at, numbers = self._pending.popleft()
            numbers = jax.tree.map(np.asarray, numbers)
            now = time.perf_counter()
            if self._clock is not None:
                self.seconds += now - self._clock
                self.tokens += self._plan.tokens(at)
            self._clock = now
            learns, broken = numbers.pop("learns"), numbers.pop("broken")
            for s in sorted(set(np.flatnonzero(broken).tolist()) - self._broken):
                logging.warning(
                    "student %d: loss or gradient not finite at step %d: stopped", s, at
                )
                self._broken.add(s)
            if self._metrics and at % self._recipe.log_every == 0:
                lines = {name: _numbers(value, learns) for name, value in numbers.items()}
                self._metrics.write(at, lines)
            self._bar.update()
            if self.seconds and at % _SHOWN == 0:
                self._bar.set_postfix_str(self._rates(numbers["loss"][learns]))

    def _rates(self, losses: np.ndarray) -> str:
        each = self.tokens / self.seconds
        mean = float(np.mean(losses)) if losses.size else float("nan")
        shown = f"loss {mean:.3f}, {each:,.0f} tokens/s"
        peak = flops.peak(jax.devices()[0])
        if peak is None:
            return shown
        devices = self._program.mesh.size if self._program.mesh else 1
        config = self._program.config
        kernels = trainable.all_kernels(self._recipe.trainable, config)
        work = each * flops.per_token(config, self._plan.data, kernels, self._plan.prefix)
        return f"{shown}, MFU {work / peak / devices:.1%}"


class _Profiler:
    """A trace of some steps, in `workdir/profile`."""

    def __init__(self, workdir: str | os.PathLike[str] | None, steps: tuple[int, int] | None):
        self._folder = None if workdir is None else str(Path(workdir) / "profile")
        self._steps = steps if self._folder and jax.process_index() == 0 else None
        self._tracing = False

    def before(self, step: int, state: State) -> None:
        if self._steps is None:
            return
        first, last = self._steps
        if self._tracing and step > last:
            self.end(state)
        elif not self._tracing and step == first:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def end(self, state: State) -> None:
        if self._tracing:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._tracing = False


def _numbers(values: Any, shown: np.ndarray | None = None) -> list[float | None]:
    values = np.asarray(values)
    shown = np.ones(len(values), bool) if shown is None else shown
    return [float(v) if np.isfinite(v) and s else None for v, s in zip(values, shown, strict=True)]
