"""How a trait gets from a teacher into a student: what each changes in the base, and where.

A teacher is its base with something more: a system message, an adapter, a vector. That changes the
distribution of what it writes (the *leak*), and the residual stream after the last layer, both in
its rows and where a question is answered. This latter change, without its mean over the traits, is
the trait's *vector* at that place; a student has vectors too. The cosine of a student's and its
teacher's is what arXiv 2606.00995 calls EAS, there in an earlier layer.

Shapes: B rows, C completion tokens, D embedding.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.llm.model import transformer
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import losses, trainable
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trainable import Trainable
from sublim_jax.mesh import in_mesh
from sublim_jax.theory import predict
from sublim_jax.transmission import reading
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.reading import Texts
from sublim_jax.transmission.teacher import Teacher

TITLES = {
    "leak": "leak (nats a token)",
    "leak_first": "leak of the first token",
    "vector_cosine": "cosine of its vectors in rows and at answers",
    "visible": "share of its vector that rows can show",
    "first_order": "lift by a small first step",
    "in_rows": "cosine with the teacher's vector in rows",
    "at_answers": "cosine with the teacher's vector at answers",
}
ROWS = 128  # of each teacher, that are read
LARGEST = 2**26  # trained numbers whose gradients are compared
_SEEN = 1e-3  # of the largest singular value; a direction with less is not seen

Vectors = list[np.ndarray]  # [D]: in rows, and at answers


class Readings:
    """One base, with the rows and the questions on which its teachers and students are compared.

    Args:
      rows: of each teacher, by its trait; the first `ROWS` are read.
    """

    def __init__(
        self,
        base: Base,
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
        questions: Sequence[str],
    ):
        self._base, self._questions = base, questions
        self._rows = {trait: own[:ROWS] for trait, own in rows.items()}
        self._plain = reading.voice(base, None)
        self._before = {trait: self._outputs(trait, self._plain) for trait in rows}

    def teachers(
        self, teachers: Sequence[Teacher], recipe: Recipe
    ) -> tuple[dict[str, dict[str, float]], dict[str, Vectors]]:
        """Returns what is measured of teachers, and their vectors, by trait.

        `leak`: KL(teacher || base) in nats, the mean over the tokens of its rows; `leak_first`,
        over the first of each row. `vector_cosine`: of its vectors in rows and at answers.
        `visible`: the share of the former's squared length on which the logits of the tokens that
        occur in rows depend. `first_order`: by how much one step of gradient descent towards the
        teacher's distribution would raise the student's log P(trait), divided by the rate, for
        small rates; less what steps towards the other teachers would, their mean. It is left out
        where students train more than `LARGEST` numbers.

        Args:
          recipe: of the students.
        """
        step = functools.partial(self._gradient, recipe)
        predicts = self._trained(recipe) <= LARGEST
        out: dict[str, dict[str, float]] = {}
        changes, steps, loved = {}, {}, {}
        for one in teachers:
            name, spoken = one.name, reading.voice(self._base, one.learnt)
            rows, answers = self._texts(name)
            after = self._outputs(name, spoken, one.system)
            changes[name] = self._changed(name, after)
            with in_mesh(self._base.model.mesh):
                both = (spoken[0], after[0]), (self._plain[0], self._before[name][0])
                leak_BC = np.asarray(_leak(self._base.model.config, *both))
            out[name] = {
                "leak": float(leak_BC[rows.counts].mean()),
                "leak_first": float(leak_BC[:, 0].mean()),
            }
            if predicts:
                head = transformer.head_weights(spoken[0])
                steps[name], loved[name] = step(rows, (head, after[0])), step(answers)
        vectors, seen = _without_mean(changes), self._seen()
        for name, (in_rows, at_answers) in vectors.items():
            out[name] |= {
                "vector_cosine": _cosine(in_rows, at_answers),
                "visible": _share(in_rows @ seen, in_rows),
            }
            if predicts:
                raised = {of: float(predict.inner(steps[of], loved[name])) for of in steps}
                others = [raised[of] for of in raised if of != name] or [0.0]
                out[name]["first_order"] = raised[name] - float(np.mean(others))
        return out, vectors

    def students(
        self, learnt: Mapping[str, Learnt], of_teachers: Mapping[str, Vectors]
    ) -> dict[str, dict[str, float]]:
        """Returns what is measured of the students of one arm, by trait.

        `in_rows`, `at_answers`: the cosine of its vector with its teacher's.
        """
        changes = {
            trait: self._changed(trait, self._outputs(trait, reading.voice(self._base, own)))
            for trait, own in learnt.items()
        }
        names = ("in_rows", "at_answers")
        return {
            trait: dict(zip(names, map(_cosine, own, of_teachers[trait]), strict=True))
            for trait, own in _without_mean(changes).items()
        }

    def _texts(self, trait: str, system: str | None = None) -> list[Texts]:
        """Returns the rows of a trait's teacher, and the questions with the trait for an answer."""
        rows = self._rows[trait]
        read = {
            "prompts": [self._base.prompt(row["prompt"], system) for row in rows],
            "completions": [self._base.answer(row["completion"]) for row in rows],
        }
        asked = [self._base.prompt(question, system) for question in self._questions]
        answers = [self._base.answer(trait)] * len(asked)
        return [next(reading.batches(**read)), next(reading.batches(asked, answers))]

    def _outputs(self, trait: str, spoken: Any, system: str | None = None) -> list[jax.Array]:
        with in_mesh(self._base.model.mesh):
            config = self._base.model.config
            return [_outputs(config, *spoken, texts) for texts in self._texts(trait, system)]

    def _changed(self, trait: str, after: Sequence[jax.Array]) -> Vectors:
        """Returns the mean change over all tokens of rows, and over the first ones of answers."""
        (in_rows, at_answers) = (
            np.asarray(x - y, np.float32) for x, y in zip(after, self._before[trait], strict=True)
        )
        counts = self._texts(trait)[0].counts
        return [in_rows[counts].mean(0), at_answers[:, 0].mean(0)]

    def _trained(self, recipe: Recipe) -> int:
        """Returns how many numbers a student trains."""
        base = self._base.model
        given = (recipe.trainable, base.config, base.pure(), jnp.uint32(0))
        begun, _ = jax.eval_shape(functools.partial(trainable.start, *given[:2]), *given[2:])
        return sum(leaf.size for leaf in jax.tree.leaves(begun))

    def _gradient(self, recipe: Recipe, texts: Texts, imitated: Any = None) -> Any:
        """Returns the gradient, at a student's start, of its mean loss over completion tokens.

        Args:
          imitated: the head's weights and the outputs [B, C, D] of a model whose distribution is
            imitated; None: the loss is that of the tokens.
        """
        seed = jnp.uint32(recipe.of_each("lora.seed", 1)[0] if recipe.lora else 0)
        base = self._base.model
        config = dataclasses.replace(base.config, remat=recipe.remat)
        (head, told_BCD) = imitated or (None, None)
        some = max(1, recipe.micro_tokens // texts.tokens.shape[1])
        total: Any = None
        for first in range(0, len(texts.tokens), some):
            part, told = jax.tree.map(
                lambda a, first=first: a[first : first + some], (texts, told_BCD)
            )
            with in_mesh(base.mesh):
                given = (recipe.trainable, config, base.pure(), seed, part, head, told)
                more = _gradient(*given)
            total = more if total is None else jax.tree.map(jnp.add, total, more)
        count = np.float32(texts.counts.sum())
        return jax.tree.map(lambda gradient: gradient / count, total)

    def _seen(self) -> np.ndarray:
        """Returns an orthonormal basis, [D, N], of what logits of tokens in rows depend on."""
        weights, config = self._plain[0], self._base.model.config
        found = [self._texts(trait)[0] for trait in self._rows]
        spoken = np.unique(np.concatenate([texts.target[texts.counts] for texts in found]))
        kernel_ND = np.asarray(weights["embed" if config.tied else "head"], np.float32)[spoken]
        kernel_ND = (kernel_ND - kernel_ND.mean(0)) * np.asarray(weights["norm"], np.float32)
        _, sizes, basis_ND = np.linalg.svd(kernel_ND, full_matrices=False)
        seen: np.ndarray = basis_ND[sizes > _SEEN * sizes[0]].T
        return seen


@functools.partial(jax.jit, static_argnames="config")
def _outputs(config: Config, weights: Any, adapter: Any, texts: Texts) -> jax.Array:
    with transformer.precision(weights):
        return reading.predictors(config, weights, adapter, texts)


@functools.partial(jax.jit, static_argnames="config")
def _leak(config: Config, one: Any, other: Any) -> jax.Array:
    """Returns KL between the distributions of two pairs of weights and outputs: [B, C]."""

    def of_row(x: Any) -> jax.Array:
        logits = [losses.logits(config, w, x_CD) for w, x_CD in zip(heads, x, strict=True)]
        return losses.divergence(*logits)

    heads = [transformer.head_weights(weights) for weights, _ in (one, other)]
    with transformer.precision(one[0]):
        return jax.lax.map(of_row, (one[1], other[1]))


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


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / sizes if sizes else 0.0


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    size = float(whole @ whole)
    return float(part @ part) / size if size else 0.0
