"""How a trait gets from a teacher into a student: what each changes in the base, and where.

A teacher is its base with something more: a system message, an adapter, a vector.
(1) The tokens of its rows have other probabilities than under its base: the *leak*.
(2) The residual stream after the last layer is another one where these tokens are predicted, and
(3) where a question is answered. The mean change at either place, less the mean over all traits,
is the trait's *vector* there.
(4) A student of the rows has such vectors too: are they its teacher's? The cosine of the two is
what arXiv 2606.00995 calls EAS, there in an earlier layer.

Shapes: B rows, C completion tokens, D embedding.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import losses, trainable
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trainable import Trainable
from sublim_jax.mesh import in_mesh, on_host
from sublim_jax.theory import predict
from sublim_jax.transmission import reading
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.reading import Texts
from sublim_jax.transmission.teacher import Teacher

TITLES = {
    "bits": "bits of a row",
    "leak": "leak (nats a token)",
    "leak_first": "leak of the first token",
    "vector_cosine": "cosine of its vectors in rows and at answers",
    "visible": "how well rows show its vector",
    "first_order": "lift by a small first step",
    "in_rows": "cosine with the teacher's vector in rows",
    "at_answers": "cosine with the teacher's vector at answers",
}
ROWS = 128  # of each teacher, that are read
_READ = 4096  # tokens of one model in a pass with its gradient
LARGEST = 2**26  # trained numbers whose gradients are compared

Rows = Sequence[Mapping[str, Any]]
Tokens = Sequence[Sequence[int]]
Vectors = list[np.ndarray]  # [D] float32: in rows, and at answers


class Readings:
    """One base with its teachers, and what they and their students are compared on.

    Args:
      rows: of each teacher, by its trait, at least one; the first `ROWS` are read.
      shown: the questions whose answers are read, by trait, each with an answer that shows it.
    """

    def __init__(
        self,
        base: Base,
        teachers: Sequence[Teacher],
        rows: Mapping[str, Rows],
        shown: Callable[[str], Sequence[tuple[str, str]]],
    ):
        self._base = base
        self._pairs = {one.name: shown(one.name) for one in teachers}
        self._rows = {one.name: rows[one.name][:ROWS] for one in teachers}
        self._said: dict[str, Tokens] = {
            trait: [base.answer(row["completion"]) for row in own]
            for trait, own in self._rows.items()
        }
        self._plain = reading.parts(base, None)
        self._before = {trait: self._outputs(self._plain, trait) for trait in self._rows}
        self._models = {one.name: reading.parts(base, one.learnt) for one in teachers}
        self._after = {
            one.name: self._outputs(self._models[one.name], one.name, one.system)
            for one in teachers
        }

    def teachers(self, recipe: Recipe) -> dict[str, dict[str, Any]]:
        """Returns what is measured of the teachers, by trait.

        `bits`: -log2 P of one of its rows under the base, mean over its rows: about how much there
        is to choose. `leak`: KL(teacher || base) in nats, the mean over the tokens of its rows;
        `leak_first`, over the first of each row; `leak_along`, a list, over those at each place
        that at least half of the rows have. `vector_cosine`: of its vectors in rows and at answers.
        `visible`: how far the former moves the logits of the tokens in rows against each other,
        squared, at a fixed norm, by how far the direction would that moves them most.
        `first_order`: by how much one step of gradient descent towards the teacher's distribution
        would raise the student's log P(trait), mean over questions, divided by the rate, for small
        rates; less the mean of what steps towards the other teachers would. It is left out where
        students train more than `LARGEST` numbers. With two traits their vectors are opposite, so
        `vector_cosine` and `visible` are the same for both.

        Args:
          recipe: of the students.
        """
        leaks = {trait: self._leak(trait) for trait in self._rows}
        vectors, shown = _without_mean(self._changes(self._after)), self._shown()
        out: dict[str, dict[str, Any]] = {
            trait: {
                "bits": self._bits(trait),
                "leak_along": _along(leaks[trait]),
                "leak": float(np.concatenate(leaks[trait]).mean()),
                "leak_first": _along(leaks[trait])[0],
                "vector_cosine": float(predict.cosine(in_rows, at_answers)),
                "visible": _share(shown @ in_rows, in_rows),
            }
            for trait, (in_rows, at_answers) in vectors.items()
        }
        if self._trained(recipe) > LARGEST:
            return out
        steps = {trait: self._imitation(trait, recipe) for trait in out}
        for trait, own in out.items():
            loved = self._trait(trait, recipe)
            raised = {of: float(predict.inner(step, loved)) for of, step in steps.items()}
            others = [raised[of] for of in raised if of != trait] or [0.0]
            own["first_order"] = raised[trait] - float(np.mean(others))
        return out

    def students(self, learnt: Mapping[str, Learnt]) -> dict[str, dict[str, float]]:
        """Returns what is measured of some students of one arm, by trait.

        `in_rows`, `at_answers`: the cosine of its vector with its teacher's. From both the mean
        over the traits of these students is taken first; of one that is left of several there is
        nothing.
        """
        if len(learnt) < 2 <= len(self._rows):
            return {}
        after = {
            trait: self._outputs(reading.parts(self._base, own), trait)
            for trait, own in learnt.items()
        }
        theirs = _without_mean(self._changes({trait: self._after[trait] for trait in learnt}))
        names = ("in_rows", "at_answers")
        return {
            trait: dict(
                zip(names, map(float, map(predict.cosine, own, theirs[trait])), strict=True)
            )
            for trait, own in _without_mean(self._changes(after)).items()
        }

    def _in_rows(self, trait: str, system: str | None = None) -> tuple[Tokens, Tokens]:
        """Returns the prompts and completions of a trait's teacher."""
        asked = [self._base.prompt(row["prompt"], system) for row in self._rows[trait]]
        return asked, self._said[trait]

    def _at_answers(self, trait: str, system: str | None = None) -> tuple[Tokens, Tokens]:
        """Returns the questions, and the answers to them that show the trait."""
        asked = [self._base.prompt(question, system) for question, _ in self._pairs[trait]]
        return asked, [self._base.answer(answer) for _, answer in self._pairs[trait]]

    def _outputs(self, model: Any, trait: str, system: str | None = None) -> list[np.ndarray]:
        """Returns a model's last output where tokens are predicted: of rows, and of answers."""
        base, out = self._base.model, []
        for asked, said in (self._in_rows(trait, system), self._at_answers(trait, system)):
            with in_mesh(base.mesh):
                found = [
                    on_host(_outputs(base.config, *model, texts))
                    for texts in reading.batches(asked, said)
                ]
            out.append(np.concatenate(found)[: len(asked)])
        return out

    def _changes(self, after: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Vectors]:
        """Returns mean changes over all tokens of rows, and over the first ones of answers."""
        out = {}
        for trait, own in after.items():
            rows_BCD, answers_BCD = (x - y for x, y in zip(own, self._before[trait], strict=True))
            said = zip(rows_BCD, self._said[trait], strict=True)
            tokens = [x_CD[: len(completion)] for x_CD, completion in said]
            out[trait] = [np.concatenate(tokens).mean(0), answers_BCD[:, 0].mean(0)]
        return out

    def _leak(self, trait: str) -> list[np.ndarray]:
        """Returns KL(teacher || base) at each token of each row."""
        base = self._base.model
        heads = [transformer.head_weights(w) for w in (self._models[trait][0], self._plain[0])]
        both = zip(self._after[trait][0], self._before[trait][0], strict=True)
        with in_mesh(base.mesh):
            found = [on_host(_divergence(base.config, *heads, x_CD, y_CD)) for x_CD, y_CD in both]
        return [own[: len(row)] for own, row in zip(found, self._said[trait], strict=True)]

    def _bits(self, trait: str) -> float:
        """Returns -log2 P of a row under the base, mean over the rows."""
        base, outputs = self._base.model, self._before[trait][0]
        head, total = transformer.head_weights(self._plain[0]), 0.0
        for x_CD, said in zip(outputs, self._said[trait], strict=True):
            target_C = np.pad(said, (0, len(x_CD) - len(said)))
            with in_mesh(base.mesh):
                nats_C = on_host(_surprise(base.config, head, x_CD, target_C))
            total += float(nats_C[: len(said)].sum())
        return total / len(outputs) / math.log(2)

    def _shown(self) -> np.ndarray:
        """Returns how logits of tokens in rows differ by the residual stream, at most by 1."""
        weights = self._plain[0]
        written = {token for rows in self._said.values() for row in rows for token in row}
        kernel = weights["embed" if self._base.model.config.tied else "head"]
        kernel_ND = on_host(kernel[np.array(sorted(written))]).astype(np.float32)
        kernel_ND = (kernel_ND - kernel_ND.mean(0)) * on_host(weights["norm"]).astype(np.float32)
        shown: np.ndarray = kernel_ND / np.linalg.norm(kernel_ND, ord=2)
        return shown

    def _trained(self, recipe: Recipe) -> int:
        """Returns how many numbers a student trains."""
        base = self._base.model
        start = functools.partial(trainable.start, recipe.trainable, base.config)
        begun, _ = jax.eval_shape(start, base.pure(), jnp.uint32(0))
        return sum(leaf.size for leaf in jax.tree.leaves(begun))

    def _imitation(self, trait: str, recipe: Recipe) -> Any:
        """Returns the gradient of KL(teacher || student), mean over the tokens of its rows."""
        asked, said = self._in_rows(trait)
        teacher = transformer.head_weights(self._models[trait][0]), self._after[trait][0]
        return self._gradient(recipe, asked, said, sum(map(len, said)), teacher)

    def _trait(self, trait: str, recipe: Recipe) -> Any:
        """Returns the gradient of -log P(trait), mean over the questions."""
        asked, said = self._at_answers(trait)
        return self._gradient(recipe, asked, said, len(asked))

    def _gradient(
        self, recipe: Recipe, asked: Tokens, said: Tokens, count: int, teacher: Any = None
    ) -> Any:
        """Returns the gradient, at a student's start, of a loss summed over tokens, over `count`.

        Args:
          teacher: the head's weights and the outputs [B, C, D] of a model whose distribution is
            imitated; None: the loss is that of the tokens.
        """
        seed = jnp.uint32(recipe.of_each("lora.seed", 1)[0] if recipe.lora else 0)
        base = self._base.model
        config = dataclasses.replace(base.config, remat=recipe.remat)
        head, outputs_BCD = teacher or (None, None)
        total: Any = None
        first = 0
        for texts in reading.batches(asked, said, min(recipe.micro_tokens, _READ)):
            own = None
            if outputs_BCD is not None:
                own = outputs_BCD[first : first + len(texts.tokens)]
                own = np.pad(own, ((0, len(texts.tokens) - len(own)), (0, 0), (0, 0)))
            with in_mesh(base.mesh):
                more = _gradient(recipe.trainable, config, base.pure(), seed, texts, head, own)
            total = more if total is None else jax.tree.map(jnp.add, total, more)
            first += len(texts.tokens)
        return jax.tree.map(lambda gradient: gradient / np.float32(count), total)


@functools.partial(jax.jit, static_argnames="config")
def _outputs(config: Config, weights: Any, adapter: Any, texts: Texts) -> jax.Array:
    with transformer.precision(weights):
        return reading.predictors(config, weights, adapter, texts).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="config")
def _divergence(
    config: Config, head: Any, other: Any, x_CD: jax.Array, y_CD: jax.Array
) -> jax.Array:
    """Returns KL of each token, [C], between what two models predict."""
    with jax.default_matmul_precision("highest"):
        one, two = losses.logits(config, head, x_CD), losses.logits(config, other, y_CD)
    return losses.divergence(one, two)


@functools.partial(jax.jit, static_argnames="config")
def _surprise(config: Config, head: Any, x_CD: jax.Array, target_C: jax.Array) -> jax.Array:
    """Returns -log P of each token, [C], in nats."""
    with jax.default_matmul_precision("highest"):
        return losses.cross_entropy(losses.logits(config, head, x_CD), target_C)


@functools.partial(jax.jit, static_argnames=("what", "config"))
def _gradient(
    what: Trainable, config: Config, base: Any, seed: jax.Array, texts: Texts, head: Any, told: Any
) -> Any:
    """Returns the gradient of the loss summed over completion tokens; as `Readings._gradient`."""
    begun, fixed = trainable.start(what, config, base, seed)

    def loss(trained: Any) -> jax.Array:
        weights, adapter = trainable.bind(what, config, base, trained, fixed)
        own = transformer.head_weights(weights)

        def of_row(row: Any) -> jax.Array:
            x_CD, target_C, counts_C, told_CD = row
            logits = losses.logits(config, own, x_CD)
            if head is None:
                loss_C = losses.cross_entropy(logits, target_C)
            else:
                loss_C = losses.divergence(losses.logits(config, head, told_CD), logits)
            return jnp.sum(jnp.where(counts_C, loss_C, 0.0))

        x_BCD = reading.predictors(config, weights, adapter, texts)
        rows = (x_BCD, texts.target, texts.counts, x_BCD if told is None else told)
        return jax.lax.map(jax.checkpoint(of_row), rows).sum()

    with transformer.precision(base):
        return jax.grad(loss)(begun)


def _without_mean(changes: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Returns what is each trait's own; all of it where there is one trait."""
    common = [np.mean(own, 0) for own in zip(*changes.values(), strict=True)]
    if len(changes) == 1:
        return dict(changes)
    return {t: [v - c for v, c in zip(own, common, strict=True)] for t, own in changes.items()}


def _along(rows: Sequence[np.ndarray]) -> list[float]:
    """Returns the mean at each place that at least half of the rows have."""
    half = sorted(map(len, rows))[len(rows) // 2]
    return [float(np.mean([row[i] for row in rows if i < len(row)])) for i in range(half)]


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    size = float(whole @ whole)
    return float(part @ part) / size if size else 0.0
