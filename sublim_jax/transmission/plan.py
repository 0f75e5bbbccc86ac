"""What a study will do, said before it starts: rows, tokens, operations and about how long."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from sublim_jax import nano
from sublim_jax.llm.files import chat, hf
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.training import flops
from sublim_jax.llm.training.recipe import from_config
from sublim_jax.report import markdown_table
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, measures, mechanism
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.config import words
from sublim_jax.transmission.student import planned
from sublim_jax.transmission.teacher import CONTROL

_PROMPTS = 100  # tokenised for a mean
# Operations a second that the nano study reaches on 2 CPU cores: training, sampling and scoring.
_CPU = {"train": 25e9, "generate": 2.5e9}
# Parts of an accelerator's peak: assumed, not measured.
_PARTS = {"train": 0.4, "generate": 0.05}
_COMPILING = {"train": 8.0, "generate": 10.0}  # seconds, of each kind of program

Line = tuple[str, str, float, float, float]  # stage, what, tokens, operations, seconds


def show(config: ConfigDict) -> None:
    """Prints the plan of a study."""
    lines = stages(config)
    total = sum(seconds for *_, seconds in lines)
    table = [
        [stage, what, f"{tokens:.3g}", f"{work:.2g}", _time(seconds)]
        for stage, what, tokens, work, seconds in lines
    ]
    print(markdown_table(["stage", "what", "tokens", "operations", "about"], table))
    print(f"about {_time(total)} on {jax.device_count()} x {jax.devices()[0].device_kind}")


def stages(config: ConfigDict) -> list[Line]:
    """Returns what each stage of a study reads and writes, computes, and about how long it takes.

    Tokens are those of prompts and completions, without padding; an answer is taken to be as long
    as the material asks for.
    """
    students = planned(config)
    material, channel = bases.material(config), channels.find(config.data.channel)
    folder = hf.resolve(nano.resolve(config.models[0]))
    shape = hf.read_config(folder)
    tokenizer = chat.load_tokenizer(folder)
    system = chat.DEFAULT if config.system is None else config.system

    def mean_length(texts: Sequence[str]) -> float:
        turns = [chat.messages(tokenizer, text, system) for text in texts]
        return math.fsum(len(chat.prompt_tokens(tokenizer, t)) for t in turns) / len(texts)

    asked = mean_length(channel.prompts(material, _PROMPTS, config.data.seed))
    question = mean_length([asked for asked, _ in material.shown(config.traits[0])])
    answer = min(channel.length(material), config.data.max_new_tokens)
    models, traits = len(config.models), len(config.traits)
    out = []
    if config.teacher.kind == "finetuned":
        steps, batch = config.teacher.recipe.max_steps, config.teacher.recipe.batch
        each = steps * batch * (asked + answer + question + 2) / 2
        taught = models * (traits + len({ARMS[arm].teacher for arm in config.arms} - {"", CONTROL}))
        what = f"{taught} teachers, {steps} steps of {batch} rows"
        out.append(_line(shape, config.teacher.recipe, "teach", what, taught * each))
    speakers = models * (traits + len({ARMS[arm].teacher for arm in config.arms} - {""}))
    rows = config.data.rows
    tokens = speakers * rows * (asked + answer)
    out.append(_line(shape, None, "generate", f"{speakers} x {rows:,} completions", tokens))
    recipe = from_config(config.student.to_dict(), "config.student")
    kept = min(rows, config.filter.keep or rows)
    steps = recipe.epochs * math.ceil(kept / recipe.batch)
    steps = min(steps, recipe.max_steps or steps)
    tokens = len(students) * steps * recipe.batch * (asked + answer)
    what = f"{len(students)} students, {steps} steps of {recipe.batch} rows"
    out.append(_line(shape, config.student, "train", what, tokens))
    measured = len(students) + len(bases.names(config)) + models * traits
    measured_words = words(config)
    wanted = measures.ask(config.evaluation, measured_words, material)
    every = [question for some in wanted.questions.values() for question in some]
    scored = [q.prompt for q in every if isinstance(q, measures.Scored)]
    sampled = [q for q in every if isinstance(q, measures.Sampled)]
    each = len(scored) * (mean_length(scored) + len(measured_words)) if scored else 0.0
    for q in sampled:
        each += mean_length([q.prompt]) + q.n * q.max_new_tokens
    what = f"{measured} models, {len(scored)} questions, {len(measured_words)} words"
    what += f", {sum(q.n for q in sampled)} samples" if sampled else ""
    out.append(_line(shape, None, "evaluate", what, measured * each))
    imitating = sum(bool(s.trait) and s.start == s.teachers for s in students)
    if imitating:
        read, some = imitating + 2 * models * traits, min(kept, mechanism.ROWS)
        what = f"{read} models, {some} rows"
        out.append(_line(shape, None, "trace", what, read * some * (asked + answer)))
    return out


def _line(shape: Config, recipe: Any, stage: str, what: str, tokens: float) -> Line:
    kind = "generate" if recipe is None else "train"
    full = recipe is not None and recipe.lora.rank == 0 and "*" in tuple(recipe.parameters)
    work = flops.needed(shape, tokens, 64.0, tokens / 2, full)
    if recipe is None:  # no gradients
        work /= 2
    peak = flops.peak(jax.devices()[0])
    rate = _CPU[kind] if peak is None else peak * _PARTS[kind] * jax.device_count()
    return stage, what, tokens, work, work / rate + _COMPILING[kind]


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
