"""What a config of a study may say, and what follows from it."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax import nano
from sublim_jax.errors import UserError
from sublim_jax.llm.files import hf
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.transmission import english, preference, steering, student, teacher
from sublim_jax.transmission.teacher import CONTROL


def words(config: ConfigDict) -> list[str]:
    """Returns the words whose probability is measured, the traits first."""
    return list(dict.fromkeys([*config.traits, *config.evaluation.words]))


def check(config: ConfigDict) -> None:
    """Raises UserError for the first value that no study can have."""
    problems = []
    if not config.models:
        problems.append(("models", "name one at least"))
    if set(config.arms) - set(student.ARMS) or len(set(config.arms)) < len(config.arms):
        problems.append(("arms", f"choose from {', '.join(student.ARMS)}, each at most once"))
    if not config.traits or len(set(config.traits)) < len(config.traits):
        problems.append(("traits", "name one at least, each once"))
    if CONTROL in config.traits:
        problems.append(("traits", f"{CONTROL} is the untreated teacher's name"))
    if "cross_init" in config.arms and not config.cross_models and len(config.models) < 2:
        problems.append(("arms", "cross_init needs two models, or cross_models"))
    if any(arm.startswith("divergence") for arm in config.arms) and len(config.traits) < 2:
        problems.append(("arms", "divergence tokens need two traits"))
    if "half_told" in config.arms and config.teacher.kind != "prompted":
        problems.append(("arms", "half_told needs teachers that are told (teacher.kind=prompted)"))
    if config.category not in english.CATEGORIES:
        problems.append(("category", f"choose one of {', '.join(english.CATEGORIES)}"))
    if config.teacher.kind not in teacher.KINDS:
        problems.append(("teacher.kind", f"choose one of {', '.join(teacher.KINDS)}"))
    if not np.isfinite(config.teacher.strength):
        problems.append(("teacher.strength", "must be finite"))
    if config.evaluation.forms and "questions" not in config.evaluation.forms:
        problems.append(("evaluation.forms", "needs questions: the report is about them"))
    counts = {"seeds": config.seeds, "numbers.rows": config.numbers.rows}
    problems += [(name, "must be at least 1") for name, n in counts.items() if n < 1]
    for field, wish in problems:
        raise UserError(f"config.{field}={_get(config, field)!r}: {wish}")
    preference.check(config.evaluation)
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
