"""What a config of a study may say, and what follows from it."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax import nano
from sublim_jax.errors import UserError
from sublim_jax.llm.files import hf
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, measures, steering, teacher
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.teacher import PRIOR, WITHOUT_TRAIT
from sublim_jax.transmission.words import check as check_words

# The least value of each field.
_LEAST = {
    "seeds": 1,
    "data.rows": 1,
    "data.seed": 0,
    "teacher.seed": 0,
    "data.max_new_tokens": 1,
    "data.temperature": 0,
    "filter.keep": 0,
    "teacher.weight": 0,
    "teacher.copies": 1,
    "teacher.replay": 0,
    "teacher.max_new_tokens": 1,
    "teacher.temperature": 0,
}


def words(config: ConfigDict) -> list[str]:
    """Returns the words whose probability is measured, the traits first."""
    return list(dict.fromkeys([*config.traits, *config.evaluation.words]))


def check(config: ConfigDict) -> None:
    """Raises UserError for the first value that no study can have."""
    problems = []
    if not config.models or len(set(config.models)) < len(config.models):
        problems.append(("models", "name one at least, each once"))
    if set(config.arms) - set(ARMS) or len(set(config.arms)) < len(config.arms):
        problems.append(("arms", f"choose from {', '.join(ARMS)}, each at most once"))
    if not config.traits or len(set(config.traits)) < len(config.traits):
        problems.append(("traits", "name one at least, each once"))
    if taken := set(WITHOUT_TRAIT) & set(config.traits):
        problems.append(("traits", f"{min(taken)} is the name of a teacher without a trait"))
    arms = [ARMS[name] for name in config.arms if name in ARMS]
    if any(arm.cross for arm in arms) and not config.cross_models and len(config.models) < 2:
        problems.append(("arms", "cross_init needs two models, or cross_models"))
    elif any(arm.cross for arm in arms):
        own = [n for n in range(len(config.models)) if bases.crossing(config, n) == n]
        if own:
            problems.append(("cross_models", f"{config.models[own[0]]} would cross to itself"))
    if any(arm.mask for arm in arms) and len(config.traits) < 2:
        problems.append(("arms", "divergence tokens need two traits"))
    if any(arm.teacher == PRIOR for arm in arms) and config.teacher.kind in ("prompted", "steered"):
        problems.append(("arms", "prior_taught needs teachers that are trained (teacher.kind)"))
    if any(arm.told for arm in arms) and config.teacher.kind != "prompted":
        problems.append(("arms", "half_told needs teachers that are told (teacher.kind=prompted)"))
    if config.teacher.kind not in teacher.KINDS:
        problems.append(("teacher.kind", f"choose one of {', '.join(teacher.KINDS)}"))
    if not np.isfinite(config.teacher.strength):
        problems.append(("teacher.strength", "must be finite"))
    if config.evaluation.measures and "favourite" not in config.evaluation.measures:
        problems.append(("evaluation.measures", "needs favourite: the report is about it"))
    problems += [
        (field, f"must be at least {least}")
        for field, least in _LEAST.items()
        if not _get(config, field) >= least
    ]
    problems += [
        (field, "must be above 0, and at most 1")
        for field in ("data.top_p", "teacher.top_p")
        if not 0 < _get(config, field) <= 1
    ]
    for field, wish in problems:
        raise UserError(f"config.{field}={_get(config, field)!r}: {wish}")
    channel = channels.find(config.data.channel)
    channels.rule(channel, config.filter.to_dict())
    for name, arm in zip(config.arms, arms, strict=True):
        if arm.corrupt and arm.corrupt not in channel.CORRUPTIONS:
            raise UserError(f"config.arms: {name}: the channel {config.data.channel} has no such")
    if any(arm.other_a for arm in arms) and not config.student.lora.rank:
        raise UserError("config.arms: other_a: the students have no adapter (student.lora.rank=0)")
    measures.check(config.evaluation)
    check_words(words(config))
    from_config(config.student.to_dict(), "config.student")
    from_config(config.teacher.recipe.to_dict(), "config.teacher.recipe")
    if config.teacher.kind == "steered":
        for name in config.models:
            shape = hf.read_config(hf.resolve(nano.resolve(name)))
            steering.check_layer(config.teacher.layer, shape)


def _get(config: ConfigDict, field: str) -> Any:
    value: Any = config
    for part in field.split("."):
        value = value[part]
    return value
