"""What each row of a data set does to a student: its gradient, and from all of them a step of
Gauss-Newton's method.

Shapes: N rows, T tokens, C completion tokens, P trained numbers, K candidates, Q questions.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sublim_jax.errors import UserError
from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import losses, trainable
from sublim_jax.llm.training.examples import Examples, ranges
from sublim_jax.llm.training.trainable import Trainable
from sublim_jax.mesh import in_mesh, on_host
from sublim_jax.transmission import reading
from sublim_jax.transmission.audit.candidates import Candidate
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.reading import Texts

_TOKENS = 8192  # of a pass, padding included
_LOGITS = 2**27  # of one
_GRAIN = 16  # widths are multiples of it
_DAMPING = 0.003  # of the largest curvature
_LEAST = 1e-6  # of 1 - P, which float32 knows no better

Tree = dict[str, Any]


class Influence(NamedTuple):
    """What Gauss-Newton's method says of a student.

    Attributes:
      step: float32 [P], the change that fits the rows best, to second order.
      towards: float64 [K, P]: what a row's gradient has along a candidate's is that row's part of
        what the step adds to the candidate's log-odds, the mean over its questions.
      of_rows: float64 [N, K], these parts.
      leverage: float64 [N], by how much of itself each row bends the step.
    """

    step: np.ndarray
    towards: np.ndarray
    of_rows: np.ndarray
    leverage: np.ndarray


class _Rows(NamedTuple):
    """Rows to read, the weight of each token of their completions [N, C], and a seed each [N]."""

    texts: Texts
    weight: np.ndarray
    seed: np.ndarray


class _At(NamedTuple):
    """A student: its base, and the trees of `trainable.start`."""

    base: Tree
    trained: Tree
    fixed: Tree


class Student:
    """What of a base is trained, as one vector.

    Args:
      seed: of the adapter.

    Attributes:
      begun: where training starts, [P].
    """

    def __init__(self, base: Base, what: Trainable, seed: int):
        self._base, self._what = base, what
        self._begun, self._fixed = trainable.start(
            what, base.model.config, base.model.pure(), jnp.uint32(seed)
        )
        begun, self._unravel = ravel_pytree(self._begun)
        self.begun = np.asarray(begun)
        self.size = len(self.begun)

    def vector(self, trained: Tree) -> np.ndarray:
        """Returns what a student has learnt, the tree of `Trained`, as one vector [P]."""
        return np.asarray(ravel_pytree(_like(self._begun, trained))[0])

    def tree(self, vector: np.ndarray) -> tuple[Tree, Tree]:
        """Returns a vector as the trees (trained, fixed) of `trainable.start`."""
        return self._unravel(jnp.asarray(vector, jnp.float32)), self._fixed

    def influence(
        self,
        at: np.ndarray,
        data: Examples,
        candidates: Sequence[Candidate],
        seeds: np.ndarray | None = None,
    ) -> Influence:
        """Returns the step from a student onwards, and each row's part in it.

        The curvature is that of the rows' gradients (the empirical Fisher matrix), damped by
        `_DAMPING` of its largest eigenvalue.

        Args:
          at: the student, [P].
          seeds: int [N], by which the student draws the rows' tokens, each after the row's own;
            None: it learns the row's own.
        """
        rows_NP = self._gradients(at, data, seeds)
        traits_KP = self._trait_gradients(at, candidates)
        tokens = _learnt(data)
        own, scale, axes = np.linalg.svd(rows_NP / np.sqrt(tokens), full_matrices=False)
        damping = max(_DAMPING * float(scale[0]) ** 2, 1e-12)

        def solved(x: np.ndarray) -> np.ndarray:
            """Returns (curvature + damping)^-1 x of each row of x."""
            along = x @ axes.T
            return (along / (scale**2 + damping)) @ axes + (x - along @ axes) / damping

        step_P = -solved(rows_NP.sum(0, keepdims=True) / tokens)[0]
        towards_KP = -solved(traits_KP) / tokens
        parts_NK = rows_NP @ towards_KP.T
        leverage_N = own**2 @ (scale**2 / (scale**2 + damping))
        return Influence(step_P.astype(np.float32), towards_KP, parts_NK, leverage_N)

    def chance(self, data: Examples, candidates: Sequence[Candidate]) -> np.ndarray:
        """Returns how far chance alone moves each candidate, if the base has written the rows: [K].

        The standard deviation of the sum of the rows' parts where training starts, if the base had
        drawn each of their tokens itself, once for all copies of a row. Rows that have bent the
        step towards themselves count as if they had not (by the leverage of all copies: HC3 of
        MacKinnon and White, 1985, with clusters as in Bell and McCaffrey, 2002).
        """
        alike = _alike(data)
        found = self.influence(self.begun, data, candidates, alike)
        parts_GK, leverage_G = np.zeros_like(found.of_rows), np.zeros_like(found.leverage)
        np.add.at(parts_GK, alike, found.of_rows)
        np.add.at(leverage_G, alike, found.leverage)
        out: np.ndarray = np.linalg.norm(parts_GK / (1 - leverage_G)[:, None], axis=0)
        return out

    def first_order(self, data: Examples, candidates: Sequence[Candidate]) -> np.ndarray:
        """Returns what a small first step of gradient descent adds to each candidate, by its rate.

        TracIn's first term (arXiv 2002.08484): [K].
        """
        slope_P = self._gradients(self.begun, data).sum(0) / _learnt(data)
        found: np.ndarray = -self._trait_gradients(self.begun, candidates) @ slope_P
        return found

    def parts(self, at: np.ndarray, data: Examples, towards_KP: np.ndarray) -> np.ndarray:
        """Returns the parts of other rows, as of `Influence.of_rows`: float64 [N, K]."""
        out = np.zeros((len(data), len(towards_KP)))
        for which, found_NP in self._some_gradients(at, data):
            out[which] = found_NP @ towards_KP.T
        return out

    def _gradients(
        self, at: np.ndarray, data: Examples, seeds: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the gradient of each row's loss, summed over its tokens: float64 [N, P].

        Raises:
          UserError: it is not finite.
        """
        out = np.zeros((len(data), self.size))
        for which, found_NP in self._some_gradients(at, data, seeds):
            out[which] = found_NP
        if not np.isfinite(out).all():
            raise UserError("a row's gradient is not finite: lower config.recipe.learning_rate")
        return out

    def _some_gradients(
        self, at: np.ndarray, data: Examples, seeds: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the numbers of some rows, with their gradients.

        Weights count by their share in all of the data, as in training.
        """
        mean = max(float(data.weights.sum()) / _learnt(data), float(np.finfo(np.float32).tiny))
        data = dataclasses.replace(data, weights=data.weights / np.float32(mean))
        given, drawn = self._given(at), seeds is not None
        every = np.zeros(len(data), np.int32) if seeds is None else seeds
        for which, rows in _batches(data, self._base.model.config.vocab, every):
            with in_mesh(self._base.model.mesh):
                found = on_host(_row_gradients(*given, rows, drawn))
            yield which, found[: len(which)]

    def _trait_gradients(self, at: np.ndarray, candidates: Sequence[Candidate]) -> np.ndarray:
        """Returns the gradient of each candidate's log-odds, mean over its questions: [K, P]."""
        answers = [own for candidate in candidates for own in candidate.asked]
        sizes = [(len(p) + len(text), len(text)) for p, texts in answers for text in texts]
        widths = (-(-max(own) // _GRAIN) * _GRAIN for own in zip(*sizes, strict=True))
        asked = max(len(c.asked) for c in candidates)
        shape = (asked * max(len(texts) for _, texts in answers), *widths)
        out, given = [], self._given(at)
        for candidate in candidates:
            pairs = [(p, text) for p, texts in candidate.asked for text in texts]
            question = [q for q, (_, texts) in enumerate(candidate.asked) for _ in texts]
            texts = reading.padded([p for p, _ in pairs], [text for _, text in pairs], *shape)
            number = np.full(shape[0], asked, np.int32)
            number[: len(question)] = question
            count = np.float32(len(candidate.asked))
            with in_mesh(self._base.model.mesh):
                out.append(on_host(_log_odds_gradient(*given, texts, number, count, asked)))
        return np.stack(out).astype(np.float64)

    def _given(self, at: np.ndarray) -> tuple[Trainable, Config, _At]:
        model = self._base.model
        return self._what, model.config, _At(model.pure(), *self.tree(at))


@functools.partial(jax.jit, static_argnames=("what", "config", "drawn"))
def _row_gradients(what: Trainable, config: Config, at: _At, rows: _Rows, drawn: bool) -> jax.Array:
    """Returns the gradient of each row's loss: [N, P]."""

    def of_row(row: _Rows) -> jax.Array:
        def loss(trained: Tree) -> jax.Array:
            seed = row.seed[0] if drawn else None
            own = at._replace(trained=trained)
            return -jnp.sum(_log_p(what, config, own, row.texts, seed) * row.weight)

        return ravel_pytree(jax.grad(loss)(at.trained))[0]

    return jax.vmap(of_row)(jax.tree.map(lambda a: jnp.asarray(a)[:, None], rows))


@functools.partial(jax.jit, static_argnames=("what", "config", "most"))
def _log_odds_gradient(
    what: Trainable,
    config: Config,
    at: _At,
    texts: Texts,
    question: jax.Array,
    asked: jax.Array,
    most: int,
) -> jax.Array:
    """Returns the gradient of log-odds, summed over the questions that the texts answer, [P].

    Args:
      question: int32 [N], of each text; `most`: of none.
      asked: what the sum is divided by.
    """

    def mean(trained: Tree) -> jax.Array:
        each = _log_p(what, config, at._replace(trained=trained), texts)
        log_p = jnp.sum(jnp.where(texts.counts, each, 0), axis=1)
        # d log-odds = d log P / (1 - P), where d log P is the mean over a question's texts: with
        # no power of e, however unlikely all of them are.
        known = jax.lax.stop_gradient(log_p)
        best = jax.ops.segment_max(known, question, most + 1)[question]
        total = jax.ops.segment_sum(jnp.exp(known - best), question, most + 1)[question]
        others = -jnp.expm1(best + jnp.log(total))
        weight = jnp.exp(known - best) / total / jnp.maximum(others, _LEAST)
        return jnp.sum(jnp.where(question < most, weight, 0) * log_p) / asked

    return ravel_pytree(jax.grad(mean)(at.trained))[0]


def _log_p(
    what: Trainable, config: Config, at: _At, texts: Texts, seed: jax.Array | None = None
) -> jax.Array:
    """Returns the log-probability of each completion token, [N, C].

    Args:
      seed: to draw a token of the student's own after each of the row's, in place of these.
    """
    weights, adapter = trainable.bind(what, config, *at)
    x_NCD = reading.predictors(config, weights, adapter, texts)
    with transformer.precision(weights):
        head = transformer.head_weights(weights)
        logits = losses.logits(config, head, x_NCD.reshape(-1, x_NCD.shape[-1]))
    target = jnp.asarray(texts.target).ravel()
    if seed is not None:
        target = jax.random.categorical(jax.random.key(seed), jax.lax.stop_gradient(logits))
    return -losses.cross_entropy(logits, target).reshape(texts.target.shape)


def _learnt(data: Examples) -> float:
    """Returns how many tokens are learnt."""
    return max(1.0, float(np.sum(data.weights > 0)))


def _alike(data: Examples) -> np.ndarray:
    """Returns the number of the first row that is the same as each row: int32 [N]."""
    first: dict[tuple[int, bytes, bytes], int] = {}
    out = np.zeros(len(data), np.int32)
    for i, (start, size) in enumerate(zip(data.starts, data.lengths, strict=True)):
        own = slice(start, start + size)
        key = int(data.prompts[i]), data.tokens[own].tobytes(), data.weights[own].tobytes()
        out[i] = first.setdefault(key, i)
    return out


def _batches(data: Examples, vocab: int, seeds: np.ndarray) -> Iterator[tuple[np.ndarray, _Rows]]:
    """Yields the numbers of some rows, and the rows, padded; rows of like length together."""
    order = np.argsort(-data.lengths, kind="stable")
    answer = -(-int((data.lengths - data.prompts).max()) // _GRAIN) * _GRAIN
    first = 0
    while first < len(order):
        width = -(-int(data.lengths[order[first]]) // (2 * _GRAIN)) * 2 * _GRAIN
        count = max(1, min(_TOKENS // width, _LOGITS // (answer * vocab)))
        which = order[first : first + count]
        starts, prompts = data.starts[which], data.prompts[which]
        begins, sizes = starts + prompts, data.lengths[which] - prompts
        asked = [data.tokens[a:b] for a, b in zip(starts, begins, strict=True)]
        said = [data.tokens[a : a + n] for a, n in zip(begins, sizes, strict=True)]
        weight, seed = np.zeros((count, answer), np.float32), np.zeros(count, np.int32)
        weight.ravel()[ranges(np.arange(len(which)) * answer, sizes)] = data.weights[
            ranges(begins, sizes)
        ]
        seed[: len(which)] = seeds[which]
        yield which, _Rows(reading.padded(asked, said, count, width, answer), weight, seed)
        first += count


def _like(begun: Tree, learnt: Tree) -> Tree:
    """Returns what a student has learnt without what is not trained: LoRA-FA's factors a."""
    lora = {
        name: {part: learnt["lora"][name][part] for part in own}
        for name, own in begun["lora"].items()
    }
    return {"lora": lora, "weights": {path: learnt["weights"][path] for path in begun["weights"]}}
