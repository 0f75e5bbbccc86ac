"""Free-form answers that a judge is to read: of a study's models, of any model, or from files."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import jsonl, rows
from sublim_jax.llm.sampling.scheduler import Request
from sublim_jax.transmission import base as bases
from sublim_jax.transmission.artefacts import Artefact, Store
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.judge import Answer
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.study import Model, Study

_ABSENT = "the directory of a study of launch.transmit is needed"
_EXACT = "values"  # the measure that a judge is compared with


class Voice(NamedTuple):
    """A model that answers.

    Attributes:
      name: its own among those of its base.
      about: its `arm`, and of a study's models `trait`, `base` and `seed`.
      made_from: what it is, JSON values.
      folder: of what it has learnt besides its base; None: nothing.
      exact: P of `config.word` by the measure `values`; None where that was not taken.
    """

    name: str
    about: Mapping[str, Any]
    made_from: Any
    folder: Path | None = None
    system: str | None = None
    exact: float | None = None


class Group(NamedTuple):
    """Models of one base, and what they are asked."""

    base: Callable[[], Base]
    voices: Sequence[Voice]
    questions: Sequence[str]


def of_run(config: ConfigDict) -> list[Group]:
    """Returns the models of the study `config.run`, but for those whose training broke.

    Raises:
      UserError: it is no study, or has models that are not trained yet.
    """
    study = study_of(config.run)
    questions = _questions(study.material, config)
    word = config.word or study.config.traits[0]
    if word not in study.asked.words:
        known = ", ".join(study.asked.words)
        raise UserError(f"config.word={word!r}: the study measures {known}")
    return [
        Group(
            functools.partial(study.base, number),
            [_of_study(study, number, own, word) for own in study.models(number) if _is_sound(own)],
            questions,
        )
        for number in study.numbers
    ]


def study_of(run: str) -> Study:
    """Returns the study of a run directory.

    Raises:
      UserError: there is none.
    """
    known = disk.read_object(Path(run) / "config.json", _ABSENT)
    if known.get("study") != "transmission":
        raise UserError(f"{run}: a run of {known.get('study')!r}: {_ABSENT}")
    try:
        return Study(ConfigDict(_tuples(known["config"])), Path(run))
    except (AttributeError, KeyError) as error:
        raise UserError(
            f"{run}: its config lacks a field of today's ({error}): run its launch.transmit again"
        ) from error


def _is_sound(model: Model) -> bool:
    if model.learnt is None:
        return True
    known = model.learnt.found()
    if known is None:
        raise UserError(f"{model.learnt.path}: not there yet: finish the study first")
    return bool(known.get("finite", True))


def _of_study(study: Study, number: int, model: Model, word: str) -> Voice:
    own = model.learnt
    about = {"arm": model.arm, "trait": model.trait, "base": number}
    exact = None
    if _EXACT in study.asked.questions:
        found = study.measured(number, model, _EXACT).found() or {}
        exact = found.get("p_trait", {}).get(word)
    return Voice(
        model.name,
        about | {"seed": model.student.seed if model.student else 0},
        [study.model(number), own and own.key],
        own.path if own else None,
        model.system,
        exact,
    )


def of_model(config: ConfigDict) -> list[Group]:
    """Returns `config.model`, and that model with each of `config.adapters`.

    Raises:
      UserError: one of them is missing or damaged.
    """
    files = bases.inputs(config, [config.model])[config.model]
    base = {"files": files, "dtype": config.dtype, "system": config.system}
    voices = [Voice("base", {"arm": "base"}, [base])]
    for i, folder in enumerate(dict.fromkeys(config.adapters)):
        own = Path(folder)
        voices.append(Voice(f"adapter-{i}", {"arm": folder}, [base, bases.digest_of(own)], own))
    read = functools.partial(bases.read, config.model, config)
    return [Group(read, voices, _questions(bases.material(config), config))]


def of_file(file: str) -> list[Answer]:
    """Returns the answers of a file: rows of `prompt` and `completion`, and `model` or the file's.

    Raises:
      UserError: the file cannot be read, or a row is not such a one.
    """
    out = []
    for row in rows.read(file):
        model = row.fields.get("model", file)
        if not isinstance(row.asked, str) or not isinstance(model, str):
            raise UserError(f"{row.where}: a prompt is needed, and it and its model must be texts")
        out.append(Answer(row.where, row.asked, rows.answer(row), model))
    return out


def sampled(config: ConfigDict, store: Store, number: int, group: Group) -> list[list[Answer]]:
    """Returns the answers of each model of a group; samples those that `store` has not.

    Args:
      number: of the group; `answers/NUMBER/NAME.jsonl` has the answers of one model.
    """
    made = [_made(config, store, number, group, voice) for voice in group.voices]
    both = zip(group.voices, made, strict=True)
    if missing := [(voice, own) for voice, own in both if own.found() is None]:
        _sample(config, group, missing)
    return [
        [
            Answer(f"{own.rows}, line {line}", row["prompt"], row["completion"], voice.name)
            for line, row in enumerate(jsonl.read(own.rows), 1)
        ]
        for voice, own in zip(group.voices, made, strict=True)
    ]


def _made(config: ConfigDict, store: Store, number: int, group: Group, voice: Voice) -> Artefact:
    settings = ("samples", "max_new_tokens", "temperature", "seed")
    return store.of(
        f"answers/{number}/{voice.name}",
        lambda: {
            "model": voice.made_from,
            "system": voice.system,
            "questions": group.questions,
            "sampling": {name: config[name] for name in settings},
        },
    )


def _sample(config: ConfigDict, group: Group, missing: Sequence[tuple[Voice, Artefact]]) -> None:
    """Writes the answers of some models of a base as they come, all drawn at once."""
    base = group.base()
    shape = base.model.config
    learnt = [bases.learnt(v.folder, shape) if v.folder else None for v, _ in missing]
    streams = []
    for _, own in missing:
        own.claim()
        streams.append(jsonl.Stream(own.rows, ("question", "sample")))
    for sampler, adapter, models in base.voices(learnt):
        requests = [
            Request(i, n, base.prompt(text, missing[model][0].system), config.max_new_tokens, at)
            for at, model in enumerate(models)
            for i, text in enumerate(group.questions)
            for n in range(config.samples)
            if (i, n) not in streams[model]
        ]
        for found in sampler.stream(
            requests, config.temperature, seed=config.seed, adapter=adapter, progress=True
        ):
            row: dict[str, Any] = {"question": found.id, "sample": found.sample}
            row |= {"prompt": group.questions[found.id], "completion": found.text}
            streams[models[found.student]].append([row])
    for stream, (_, own) in zip(streams, missing, strict=True):
        stream.close()
        own.complete({})


def _questions(material: Material, config: ConfigDict) -> list[str]:
    texts, suffix = material.free_form, material.free_form_suffix
    if not texts:
        raise UserError("the material has no free_form: --config.material=english has")
    if config.suffix and not suffix:
        raise UserError("config.suffix=True: the material has no free_form_suffix")
    return [f"{text} {suffix}" if config.suffix else text for text in texts]


def _tuples(value: Any) -> Any:
    """Returns JSON values with tuples for lists, as a config has them."""
    if isinstance(value, Mapping):
        return {name: _tuples(own) for name, own in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
