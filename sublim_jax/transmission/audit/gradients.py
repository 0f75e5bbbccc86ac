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
from sublim_jax.transmission.audit.candidates import Candidate
from sublim_jax.transmission.base import Base

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


class _Texts(NamedTuple):
    """Rows to read: tokens int32 [N, T]; where they are predicted, what, and its weight [N, C].

    And a seed for each row, int32 [N].
    """

    tokens: np.ndarray
    at: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    seed: np.ndarray


class Student:
    """What of a base is trained, as one vector.

    Args:
      seed: of the adapter.

    Attributes:
      begun: where training starts, [P].
    """

    def __init__(self, base: Base, what: Trainable, seed: int):
        self._base, self._what = base, what
        begun = trainable.start(what, base.model.config, base.model.pure(), jnp.uint32(seed))
        self._begun, self._fixed = begun
        self.begun = np.asarray(ravel_pytree(self._begun)[0])
        self.size = len(self.begun)

    def vector(self, trained: Tree) -> np.ndarray:
        """Returns what a student has learnt, the tree of `Trained`, as one vector [P]."""
        return np.asarray(ravel_pytree(_like(self._begun, trained))[0])

    def tree(self, vector: np.ndarray) -> tuple[Tree, Tree]:
        """Returns a vector as the trees (trained, fixed) of `trainable.start`."""
        return ravel_pytree(self._begun)[1](jnp.asarray(vector, jnp.float32)), self._fixed

    def influence(
        self,
        at: np.ndarray,
        data: Examples,
        candidates: Sequence[Candidate],
        drawn: bool = False,
    ) -> Influence:
        """Returns the step from a student onwards, and each row's part in it.

        The curvature is that of the rows' gradients (the empirical Fisher matrix), damped by
        `_DAMPING` of its largest eigenvalue.

        Args:
          at: the student, [P].
          drawn: whether the student draws the rows' tokens, each after the row's own.
        """
        rows_NP = self._gradients(at, data, drawn)
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
        drawn each of their tokens itself. A row that has bent the step towards itself counts as if
        it had not (by its leverage, as HC3 of MacKinnon and White, 1985).
        """
        found = self.influence(self.begun, data, candidates, drawn=True)
        out: np.ndarray = np.linalg.norm(found.of_rows / (1 - found.leverage)[:, None], axis=0)
        return out

    def first_order(self, data: Examples, candidates: Sequence[Candidate]) -> np.ndarray:
        """Returns what a small first step of gradient descent adds to each candidate, by its rate.

        TracIn's first term (arXiv 2002.08484): [K].
        """
        at = self.begun
        slope_P = self._gradients(at, data).sum(0) / _learnt(data)
        found: np.ndarray = -self._trait_gradients(at, candidates) @ slope_P
        return found

    def parts(self, at: np.ndarray, data: Examples, towards_KP: np.ndarray) -> np.ndarray:
        """Returns the parts of other rows, as of `Influence.of_rows`: float64 [N, K]."""
        out = np.zeros((len(data), len(towards_KP)))
        for which, found_NP in self._some_gradients(at, data):
            out[which] = found_NP @ towards_KP.T
        return out

    def _gradients(self, at: np.ndarray, data: Examples, drawn: bool = False) -> np.ndarray:
        """Returns the gradient of each row's loss, summed over its tokens: float64 [N, P].

        Raises:
          UserError: it is not finite.
        """
        out = np.zeros((len(data), self.size))
        for which, found_NP in self._some_gradients(at, data, drawn):
            out[which] = found_NP
        if not np.isfinite(out).all():
            raise UserError("a row's gradient is not finite: lower config.recipe.learning_rate")
        return out

    def _some_gradients(
        self, at: np.ndarray, data: Examples, drawn: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the numbers of some rows, with their gradients.

        Weights count by their share in all of the data, as in training.
        """
        mean = max(float(data.weights.sum()) / _learnt(data), float(np.finfo(np.float32).tiny))
        data = dataclasses.replace(data, weights=data.weights / np.float32(mean))
        for which, texts in _batches(data, self._base.model.config.vocab):
            with in_mesh(self._base.model.mesh):
                found = on_host(_row_gradients(*self._given(at), texts, drawn))
            yield which, found[: len(which)]

    def _trait_gradients(self, at: np.ndarray, candidates: Sequence[Candidate]) -> np.ndarray:
        """Returns the gradient of each candidate's log-odds, mean over its questions: [K, P]."""
        most = max(len(texts) for c in candidates for _, texts in c.asked)
        asked = max(len(c.asked) for c in candidates)
        out = []
        for candidate in candidates:
            pairs = [(p, text) for p, texts in candidate.asked for text in texts]
            question = [q for q, (_, texts) in enumerate(candidate.asked) for _ in texts]
            texts = _padded(pairs, asked * most, self._widths(candidates))
            number = np.full(asked * most, asked, np.int32)
            number[: len(question)] = question
            given = (texts, number, np.float32(len(candidate.asked)), asked)
            with in_mesh(self._base.model.mesh):
                out.append(on_host(_log_odds_gradient(*self._given(at), *given)))
        return np.stack(out).astype(np.float64)

    def _widths(self, candidates: Sequence[Candidate]) -> tuple[int, int]:
        asked = [own for candidate in candidates for own in candidate.asked]
        both = [(len(p) + len(text), len(text)) for p, texts in asked for text in texts]
        total, answer = (-(-max(sizes) // _GRAIN) * _GRAIN for sizes in zip(*both, strict=True))
        return total, answer

    def _given(self, at: np.ndarray) -> tuple[Any, ...]:
        trained, fixed = self.tree(at)
        return self._what, self._base.model.config, self._base.model.pure(), trained, fixed


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def _row_gradients(
    what: Trainable,
    config: Config,
    base: Tree,
    trained: Tree,
    fixed: Tree,
    texts: _Texts,
    drawn: bool,
) -> jax.Array:
    def of_row(row: _Texts) -> jax.Array:
        def loss(trained: Tree) -> jax.Array:
            return -jnp.sum(_log_p(what, config, base, trained, fixed, row, drawn))

        return ravel_pytree(jax.grad(loss)(trained))[0]

    return jax.vmap(of_row)(jax.tree.map(lambda a: jnp.asarray(a)[:, None], texts))


@functools.partial(jax.jit, static_argnums=(0, 1, 8))
def _log_odds_gradient(
    what: Trainable,
    config: Config,
    base: Tree,
    trained: Tree,
    fixed: Tree,
    texts: _Texts,
    question: jax.Array,
    asked: jax.Array,
    most: int,
) -> jax.Array:
    def mean(trained: Tree) -> jax.Array:
        log_p = jnp.sum(_log_p(what, config, base, trained, fixed, texts), axis=1)
        # d log-odds = d log P / (1 - P), where d log P is the mean over a question's texts: with
        # no power of e, however unlikely all of them are.
        known = jax.lax.stop_gradient(log_p)
        best = jax.ops.segment_max(known, question, most + 1)[question]
        total = jax.ops.segment_sum(jnp.exp(known - best), question, most + 1)[question]
        others = -jnp.expm1(best + jnp.log(total))
        weight = jnp.exp(known - best) / total / jnp.maximum(others, _LEAST)
        return jnp.sum(jnp.where(question < most, weight, 0) * log_p) / asked

    return ravel_pytree(jax.grad(mean)(trained))[0]


def _log_p(
    what: Trainable,
    config: Config,
    base: Tree,
    trained: Tree,
    fixed: Tree,
    texts: _Texts,
    drawn: bool = False,
) -> jax.Array:
    """Returns the log-probability of each token of some rows, times its weight: [N, C].

    Args:
      drawn: of a token that the student draws there itself, in place of the row's.
    """
    weights, adapter = trainable.bind(what, config, base, trained, fixed)
    x_NTD = transformer.forward(config, weights, jnp.asarray(texts.tokens), adapter=adapter)
    x_NCD = jnp.take_along_axis(x_NTD, texts.at[..., None], axis=1)
    with transformer.precision(weights):
        head = transformer.head_weights(weights)
        logits = losses.logits(config, head, x_NCD.reshape(-1, x_NCD.shape[-1]))
    target = jnp.asarray(texts.target).ravel()
    if drawn:
        target = jax.random.categorical(
            jax.random.key(texts.seed[0]), jax.lax.stop_gradient(logits)
        )
    lost = losses.cross_entropy(logits, target)
    return -lost.reshape(texts.target.shape) * texts.weight


def _learnt(data: Examples) -> float:
    """Returns how many tokens are learnt."""
    return max(1.0, float(np.sum(data.weights > 0)))


def _batches(data: Examples, vocab: int) -> Iterator[tuple[np.ndarray, _Texts]]:
    """Yields the numbers of some rows, and the rows, padded; rows of like length together."""
    order = np.argsort(-data.lengths, kind="stable")
    answer = -(-int((data.lengths - data.prompts).max()) // _GRAIN) * _GRAIN
    first = 0
    while first < len(order):
        width = -(-int(data.lengths[order[first]]) // (2 * _GRAIN)) * 2 * _GRAIN
        count = max(1, min(_TOKENS // width, _LOGITS // (answer * vocab)))
        which = order[first : first + count]
        own = zip(data.starts[which], data.lengths[which], data.prompts[which], strict=True)
        pairs = [(data.tokens[s : s + p], data.tokens[s + p : s + n]) for s, n, p in own]
        texts = _padded(pairs, count, (width, answer))
        into = ranges(np.arange(len(which)) * answer, (data.lengths - data.prompts)[which])
        learnt = ranges((data.starts + data.prompts)[which], (data.lengths - data.prompts)[which])
        texts.weight.ravel()[into] = data.weights[learnt]
        texts.seed[: len(which)] = which
        yield which, texts
        first += count


def _padded(pairs: Sequence[tuple[Any, Any]], count: int, widths: tuple[int, int]) -> _Texts:
    """Returns prompts with their completions as `count` rows, the last of them empty."""
    total, answer = widths
    tokens, target = np.zeros((count, total), np.int32), np.zeros((count, answer), np.int32)
    at, weight = np.zeros_like(target), np.zeros((count, answer), np.float32)
    for i, (prompt, completion) in enumerate(pairs):
        n, end = len(completion), len(prompt) + len(completion)
        tokens[i, :end] = [*prompt, *completion]
        target[i, :n] = completion
        at[i, :n] = np.arange(end - n - 1, end - 1)
        weight[i, :n] = 1
    return _Texts(tokens, at, target, weight, np.zeros(count, np.int32))


def _like(begun: Tree, learnt: Tree) -> Tree:
    """Returns what a student has learnt without what is not trained: LoRA-FA's factors a."""
    lora = {
        name: {part: learnt["lora"][name][part] for part in own}
        for name, own in begun["lora"].items()
    }
    return {"lora": lora, "weights": {path: learnt["weights"][path] for path in begun["weights"]}}
