"""How well a model knows rows that it has not learnt from, by domain.

`config.held_out` names rows as `rows.read` takes them: a `prompt`, its right `completion`, and
where there are such a `domain` and other completions that are wrong, `alternatives`. Or it names an
embedded world, nano/WORLD: of that are taken chats of a seed of their own.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sublim_jax import nano
from sublim_jax.errors import UserError
from sublim_jax.llm.files import rows
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.measures import Question, Scored

_SEED, _CHATS = 2**20, 2000  # no decoder is pretrained on this seed
TITLES = {"held_out_logp": "log P a token, held out", "held_out_right": "right, held out"}


def ask(material: Material, words: Sequence[str], config: ConfigDict) -> list[Question]:
    """Returns a question for each row, the right completion before the others.

    Raises:
      UserError: the file cannot be read, or a row is not such a one.
    """
    if world := nano.world(config.held_out):
        chats = itertools.islice(world.World().rows(_SEED), _CHATS)
        alone = (chat for chat in chats if not chat["system"] and not chat.get("before"))
        return [
            Scored(
                chat["prompt"],
                ((chat["completion"],),),
                about=chat.get("domain", ""),
                per_token=True,
            )
            for chat in alone
        ]
    return [_question(row) for row in (rows.read(config.held_out) if config.held_out else [])]


def _question(row: rows.Row) -> Scored:
    right, domain = rows.answer(row), row.fields.get("domain", "")
    others = row.fields.get("alternatives", [])
    with rows.named(row.where):
        if unread := sorted({"system", "tools"} & row.fields.keys()):
            raise UserError(f"its {unread[0]!r} is not read: leave it out")
        if not isinstance(row.asked, str) or not row.asked.strip() or not right:
            raise UserError("a prompt and a completion are needed, both texts")
        if not isinstance(domain, str):
            raise UserError(f"domain {domain!r}: a text is needed")
        if not isinstance(others, list) or not all(isinstance(x, str) and x for x in others):
            raise UserError("alternatives: a list of texts is needed")
        if right in others:
            raise UserError(f"alternatives: {right!r} is its completion")
    answers = tuple((text,) for text in (right, *others))
    return Scored(row.asked, answers, about=domain, per_token=True)


def values(
    words: Sequence[str], asked: Sequence[Question], replies: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Returns log P of a token of the right completion, and how often it beats all others.

    Both are means over the rows, of all and of each domain. A completion beats another whose tokens
    have a smaller mean log P, so that its length does not count.
    """
    found = defaultdict(list)
    for question, logs in zip(asked, replies, strict=True):
        assert isinstance(question, Scored)
        for part in {"", f"/{question.about}" if question.about else ""}:
            found[f"held_out_logp{part}"].append(float(logs[0]))
            if len(logs) > 1:
                found[f"held_out_right{part}"].append(float(logs[0] > logs[1:].max()))
    return {metric: {"": float(np.mean(some))} for metric, some in sorted(found.items())}
