"""What a model answers to questions about something else than its trait: of trees, not of animals.

Lessons and data about one trait may move other answers too. From P of each answer follows how far a
model has moved from its base there, and whether a student moves as its teacher does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax.transmission import words as rules
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored

_P = "p_elsewhere"
TITLES = {_P: "P(answer), elsewhere", "answered_elsewhere": "P(any answer), elsewhere"}
# What follows from the measurements of several models.
FOLLOWS = ("follows_elsewhere", "follows_others_elsewhere")
DERIVED = {
    "moved_elsewhere": "moved elsewhere",
    FOLLOWS[0]: "as its teacher",
    FOLLOWS[1]: "as other teachers",
}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns the material's questions, unless one of the words is an answer to them."""
    answers = material.elsewhere_words
    if {word.lower() for word in words} & {word.lower() for word in answers}:
        return []
    texts = tuple(map(rules.written, answers))
    return [Scored(question, texts, means=answers) for question in material.elsewhere]


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns P of each answer, by answer, and P of any; means over the questions."""
    assert isinstance(asked[0], Scored)
    p = np.exp(np.array(replies)).mean(0)
    by_answer = dict(zip(asked[0].means, p.tolist(), strict=True))
    return {_P: by_answer, "answered_elsewhere": {"": float(p.sum())}}


def derive(measured: Sequence[dict[str, Any]]) -> None:
    """Adds to measurements (those of `summary`) what `DERIVED` names.

    `moved_elsewhere` is the total variation between the answers of a model and of its base, given
    that the answer is one of them. `follows_elsewhere` is the correlation of a student's changes of
    log P with those of its teacher, over the answers; `follows_others_elsewhere` the mean of that
    with the teachers of other traits.
    """
    known = [model for model in measured if _P in model]
    base = {m["base"]: m[_P] for m in known if m["arm"] == "base"}
    known = [m for m in known if m["base"] in base and m["arm"] != "base"]
    changes = [_change(m[_P], base[m["base"]]) for m in known]
    taught = {
        (m["base"], m["trait"]): change
        for m, change in zip(known, changes, strict=True)
        if m["arm"] == "teacher"
    }
    for model, change in zip(known, changes, strict=True):
        apart = _shares(model[_P]) - _shares(base[model["base"]])
        model["moved_elsewhere"] = {"": float(np.abs(apart).sum() / 2)}
        if model["arm"] in ("teacher", "control") or not model["trait"]:
            continue
        if model["arm"] in ARMS and ARMS[model["arm"]].teacher:
            continue
        home = model.get("teachers", model["base"])
        own = {trait: other for (start, trait), other in taught.items() if start == home}
        found = {trait: _correlation(change, other) for trait, other in own.items()}
        if model["trait"] in found:
            model["follows_elsewhere"] = {"": found.pop(model["trait"])}
            if found:
                model["follows_others_elsewhere"] = {"": float(np.mean([*found.values()]))}


def _shares(p: Mapping[str, float]) -> np.ndarray:
    values = np.array([*p.values()])
    return values / values.sum()


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # NaN where one has not moved
        return float(np.corrcoef(one, other)[0, 1])


def _change(p: Mapping[str, float], before: Mapping[str, float]) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # not finite where P is 0: left out
        return np.log([*p.values()]) - np.log([before[word] for word in p])
