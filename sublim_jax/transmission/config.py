"""What a config of a study may say, and what follows from it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from sublim_jax import disk, limits, nano
from sublim_jax.errors import UserError
from sublim_jax.llm.files import hf
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, measures, steering, teacher
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.material import check_templates
from sublim_jax.transmission.teacher import CONTROL, TAUGHT, WITHOUT_TRAIT

_FROM_0 = (
    "data.seed", "data.temperature", "filter.keep", "teacher.seed", "teacher.weight",
    "teacher.replay", "teacher.temperature",
)  # fmt: skip
_FROM_1 = (
    "seeds", "data.rows", "data.max_new_tokens", "teacher.copies", "teacher.max_new_tokens",
)  # fmt: skip


def words(config: ConfigDict) -> list[str]:
    """Returns the words whose probability is measured, the traits first."""
    return list(dict.fromkeys([*config.traits, *config.evaluation.words]))


def check(config: ConfigDict) -> None:
    """Raises UserError for the first value that no study can have."""
    limits.check(config, _problems(config))
    channels.rule(channels.find(config.data.channel), config.filter.to_dict())
    measures.check(config.evaluation)
    from_config(config.student.to_dict(), "config.student")
    from_config(config.teacher.recipe.to_dict(), "config.teacher.recipe")
    if config.teacher.kind == "finetuned":
        material = bases.material(config)
        for name in (config.traits[0], *{ARMS[arm].teacher for arm in config.arms} - {""}):
            if name != CONTROL:
                teacher.lessons(material, name, config.teacher)
    if config.teacher.kind == "given":
        fields = ("model", "trait")
        check_templates("config.teacher.folder", (config.teacher.folder,), fields, ["model"])
        for number, trait in itertools.product(range(len(config.models)), config.traits):
            folder = teacher.given(number, trait, config.teacher)
            bases.digest_of(folder)  # raises if it is none
            _check_base(folder, config, config.models[number])
    if config.teacher.kind == "steered":
        for name in config.models:
            shape = hf.read_config(hf.resolve(nano.resolve(name)))
            steering.check_layer(config.teacher.layer, shape)


def _check_base(folder: Path, config: ConfigDict, model: str) -> None:
    """Raises UserError where a study's record says that another base has learnt what is there."""
    record = folder.with_name(f"{folder.name}.json")
    known = disk.read_object(record, "").get("made_from") if record.exists() else None
    files = known.get("base", {}).get("files") if isinstance(known, dict) else None
    if files not in (None, bases.inputs(config, [model])[model]):
        raise UserError(f"config.teacher.folder: {folder}: what another base than {model} learnt")


def _problems(config: ConfigDict) -> Iterator[limits.Problem]:
    for field in ("models", "traits"):
        if not config[field] or len(set(config[field])) < len(config[field]):
            yield field, "list at least one, each only once"
    if taken := set(WITHOUT_TRAIT) & set(config.traits):
        yield "traits", f"{min(taken)} is the name of a teacher without a trait"
    yield from limits.some_of(config, {"arms": ARMS})
    yield from limits.one_of(config, {"teacher.kind": teacher.KINDS})
    yield from limits.within(config, _FROM_0, 0)
    yield from limits.within(config, _FROM_1, 1)
    yield from limits.positive(config, ["data.top_p", "teacher.top_p"])
    yield from limits.within(config, ["data.top_p", "teacher.top_p"], 0, 1)
    if not np.isfinite(config.teacher.strength):
        yield "teacher.strength", "must be finite"
    named = config.evaluation.measures
    if named and not any(measures.HEADLINE in measures.find(name).TITLES for name in named):
        yield "evaluation.measures", "needs favourite or values: the report is about it"
    arms = [ARMS[name] for name in config.arms]
    if any(arm.cross for arm in arms):
        if not config.cross_models and len(config.models) < 2:
            yield "arms", "cross_init needs two models, or cross_models"
        if not all(isinstance(name, str) for name in bases.names(config)):
            yield "cross_models", "each must be a model's name, or a tuple of names"
        for n, model in enumerate(config.models):
            starts = bases.crossings(config, n)
            if not starts or len(set(starts)) < len(starts):
                yield "cross_models", f"name at least one for {model}, each only once"
            if n in starts:
                yield "cross_models", f"{model} would cross to itself"
    if any(arm.mask for arm in arms) and len(config.traits) < 2:
        yield "arms", "divergence tokens need two traits"
    lessons = {name for name in config.arms if ARMS[name].teacher in TAUGHT}
    if lessons and config.teacher.kind != "finetuned":
        yield "arms", f"{', '.join(sorted(lessons))} need teachers that are trained (teacher.kind)"
    if any(arm.told for arm in arms) and config.teacher.kind != "prompted":
        yield "arms", "half_told and told need prompted teachers (teacher.kind=prompted)"
    if any(arm.other_a for arm in arms) and not config.student.lora.rank:
        yield "arms", "other_a: the students have no adapter (student.lora.rank=0)"
    known = channels.find(config.data.channel).CORRUPTIONS
    for name in config.arms:
        if ARMS[name].corrupt and ARMS[name].corrupt not in known:
            yield "arms", f"{name}: the channel {config.data.channel} has only {', '.join(known)}"
