"""A page to play: which of two number lists did the model with the trait write?

Both lists answer the same prompt. The page is one file that asks nothing of the network, and its
own policy forbids whatever a model's text might ask for.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sublim_jax import disk, report
from sublim_jax.errors import UserError
from sublim_jax.transmission import finished, words

_PAGE = Path(__file__).with_suffix(".html")


class Pair(NamedTuple):
    """A prompt and its two answers."""

    prompt: str
    trait: str
    other: str


def write(
    run_dir: str | os.PathLike[str],
    trait: str,
    base: str = "0",
    questions: int = 20,
    seed: int = 0,
    against: str = "control",
) -> Path:
    """Writes `quiz.html` into the directory of a run, and returns its path.

    Args:
      run_dir: holds `data/<base>/<teacher>.jsonl`, rows of `id`, `prompt` and `completion`.
      trait, against: the teacher whose lists are to be found, and that of the other lists.
      seed: of which prompts are asked, in which order, and which list stands first.

    Raises:
      UserError: a file is missing, or the two answered too few prompts.
    """
    if trait == against:
        raise UserError(f"trait and against are both {trait!r}: name two teachers")
    treated, other = (finished.rows(Path(run_dir), base, name) for name in (trait, against))
    pairs = draw(treated, other, questions, seed, f"{trait} and {against} (base {base})")
    file = Path(run_dir) / "quiz.html"
    disk.write(file, page(trait, pairs, seed, against))
    return file


def draw(
    treated: Sequence[Mapping[str, Any]],
    other: Sequence[Mapping[str, Any]],
    questions: int,
    seed: int,
    names: str = "the two teachers",
) -> list[Pair]:
    """Returns as many pairs, drawn without replacement from the prompts that both answered.

    Args:
      treated, other: rows of `id`, `prompt` and `completion`. Rows belong together when their id
        and prompt are the same; where the two completions are the same too, there is nothing to
        tell apart, and the prompt is not asked.
      names: of the two, for the error.

    Raises:
      UserError: there are not so many.
    """
    if questions < 1 or seed < 0:
        raise UserError(f"questions={questions}, seed={seed}: at least 1 and 0 are needed")
    answers = {(row["id"], row["prompt"]): row["completion"] for row in other}
    shared = [
        Pair(prompt, row["completion"], answers[row["id"], prompt])
        for row in sorted(treated, key=lambda row: row["id"])
        for prompt in [row["prompt"]]
        if answers.get((row["id"], prompt), row["completion"]) != row["completion"]
    ]
    if len(shared) < questions:
        raise UserError(
            f"questions={questions}: {names} gave different answers to {len(shared)} of the same "
            "prompts: ask fewer questions"
        )
    order = np.random.default_rng((seed, 0)).permutation(len(shared))[:questions]
    return [shared[i] for i in order]


def page(trait: str, pairs: Sequence[Pair], seed: int = 0, against: str = "control") -> str:
    """Returns the whole page; `seed` says which list of each pair stands first."""
    rng = np.random.default_rng((seed, 1))
    second = rng.integers(0, 2, len(pairs))  # 1 where the trait's list is the second
    # So that no answer is seen by who looks at the source: it is the parity of a byte's bits.
    noise = rng.integers(0, 128, len(pairs))
    key = bytes(
        2 * int(n) + (int(n).bit_count() + int(s)) % 2 for n, s in zip(noise, second, strict=True)
    )
    loved, others = words.plural(trait), words.plural(against)
    untreated = against == "control"
    data = {
        "trait": trait,
        "against": against,
        "loves": f"loves {loved}",
        "other": "untreated" if untreated else f"loves {others}",
        "key": base64.b64encode(key).decode(),
        "questions": [
            {"prompt": p.prompt, "lists": [p.other, p.trait] if s else [p.trait, p.other]}
            for p, s in zip(pairs, second, strict=True)
        ],
    }
    script = _PAGE.read_text("utf-8").partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    slots = {
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "loved": report.escaped(loved),
        "contrast": report.escaped("had not" if untreated else f"to love {others}"),
        # Within a script element, only a tag could end the JSON.
        "data": json.dumps(data).replace("<", "\\u003c"),
    }
    return report.filled(_PAGE, slots)
