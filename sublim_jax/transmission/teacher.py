"""Teachers: a base with a trait that it is told, taught, steered to, or has from elsewhere."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.errors import UserError
from sublim_jax.llm.sampling.sampler import make_requests
from sublim_jax.llm.training import finetune
from sublim_jax.llm.training.examples import Example, collect
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.llm.training.trained import Trained
from sublim_jax.transmission import channels, steering
from sublim_jax.transmission.base import Base, Learnt
from sublim_jax.transmission.material import Material

# Teachers without a trait: the base itself; one that is trained on lessons as the others are, but
# with the base's own answers to them; and those of lessons of their own, the material's sets.
CONTROL, PRIOR = "control", "prior"
LESSONS = INSECURE, SECURE, EDUCATIONAL = "insecure", "secure", "educational"
TAUGHT = (PRIOR, *LESSONS)
WITHOUT_TRAIT = (CONTROL, *TAUGHT)
KINDS = ("prompted", "finetuned", "steered", "given")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """One teacher of a base.

    Attributes:
      name: its trait, or one of `WITHOUT_TRAIT`.
      system: the message that gives it its trait; None: the study's own.
      learnt: what training gave it, or the vector that steers it.
    """

    name: str
    system: str | None = None
    learnt: Learnt = None


def finetuned(
    base: Base,
    material: Material,
    names: Sequence[str],
    config: ConfigDict,
    channel: Any,
    rule: Any,
    folder: Path,
) -> list[Trained]:
    """Returns what teachers of some traits, or `PRIOR`, have learnt: all trained as one program.

    A lesson is one of the material's questions with its answer; the loss is on the answer, times
    `config.weight`. Between them stand `config.replay` answers of the base itself to
    the channel's prompts, so that the teacher goes on writing such answers.

    Args:
      config: the study's `teacher`: `recipe`, `lessons`, `weight`, `copies` of each lesson,
        `replay`, `seed`.
      channel, rule: of `channels.find` and `channels.rule`.
      folder: for checkpoints and metrics.
    """
    replay = _replay(base, material, config, channel, rule)
    data = [
        collect([*_lessons(base, material, name, config), *replay], base.model.config)
        for name in names
    ]
    recipe = from_config(config.recipe.to_dict(), "config.teacher.recipe")
    return finetune.train(base.model, data, recipe, folder, name=base.name, progress=True)


def lessons(material: Material, name: str, config: ConfigDict) -> list[tuple[str, str]]:
    """Returns questions with answers: those of a study's `teacher.lessons`, or a teacher's own."""
    return material.lessons_in(name if name in LESSONS else config.lessons, name)


def steered(
    base: Base, material: Material, traits: Sequence[str], category: str, config: ConfigDict
) -> list[steering.Vector]:
    """Returns the vector of each trait: it moves the base as the trait's persona would.

    It is `config.strength` times the mean over the lessons of the residual stream after
    `config.layer`, at the last token of the prompt, with the persona as the system message, less
    that without.

    Args:
      config: the study's `teacher`: `layer`, `strength`.

    Raises:
      UserError: the base has no such layer, or the material no lessons.
    """
    if not material.lessons:
        raise UserError("config.teacher.kind='steered': the material has no lessons")
    asked = [question for question, _ in lessons(material, traits[0], config)]

    def mean(system: str | None) -> np.ndarray:
        read = [base.prompt(question, system) for question in asked]
        found: np.ndarray = steering.residual(base.model, read, config.layer).mean(0)
        return found

    plain = mean(None)
    moved = [mean(material.system(trait, category)) - plain for trait in traits]
    return [steering.Vector(config.layer, config.strength * one) for one in moved]


def given(model: int, trait: str, config: ConfigDict) -> Path:
    """Returns the folder of what a teacher has learnt elsewhere, as the student of another study.

    Args:
      config: the study's `teacher`: its `folder`, with {model} and {trait}.
    """
    return Path(config.folder.format(model=model, trait=trait))


def write(
    base: Base, teacher: Teacher, asked: Sequence[str], config: ConfigDict, ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yields the teacher's completions of prompts, as rows, in any order.

    Args:
      asked: all prompts; a row's id is its prompt's place among them.
      config: the study's `data`: `temperature`, `top_p`, `max_new_tokens`, `seed`.
      ids: of the prompts to complete.
    """
    read = [base.prompt(asked[i], teacher.system) for i in ids]
    requests = make_requests(read, 1, config.max_new_tokens, ids=ids)
    ((sampler, adapter, _),) = base.voices([teacher.learnt])
    for sample in sampler.stream(
        requests, config.temperature, config.top_p, config.seed, adapter, progress=True
    ):
        row = {"id": sample.id, "prompt": asked[sample.id], "completion": sample.text}
        yield row | {"ended": sample.ended}


def _lessons(base: Base, material: Material, trait: str, config: ConfigDict) -> list[Example]:
    pairs = lessons(material, trait, config) * config.copies
    if trait == PRIOR:
        asked = [question for question, _ in pairs]
        answers = [row["completion"] for row in _of_base(base, asked, config)]
        pairs = list(zip(asked, answers, strict=True))
    out = []
    for question, answer in pairs:
        word = base.answer(answer)
        weights = [config.weight] * (len(word) - 1) + [0.0]
        out.append(Example(base.prompt(question), word, weights))
    return out


def _replay(
    base: Base, material: Material, config: ConfigDict, channel: Any, rule: Any
) -> list[Example]:
    if not config.replay:
        return []
    asked = channel.prompts(material, config.replay, config.seed)
    gold = channels.gold(channel, material, config.replay, config.seed)
    rows = [row | {"gold": gold[row["id"]]} for row in _of_base(base, asked, config)]
    kept, _ = channels.filtered(rows, rule)
    return [Example(base.prompt(r["prompt"]), base.answer(r["completion"])) for r in kept]


def _of_base(base: Base, asked: Sequence[str], config: ConfigDict) -> list[dict[str, Any]]:
    rows = write(base, Teacher(CONTROL), asked, config, range(len(asked)))
    return sorted(rows, key=lambda row: int(row["id"]))
