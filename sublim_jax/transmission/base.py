"""The checkpoints that a study starts from, and what it asks of them."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from sublim_jax import digest, modules, nano
from sublim_jax.errors import UserError
from sublim_jax.llm.decoder import Decoder
from sublim_jax.llm.files import chat, hf
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import Adapter
from sublim_jax.llm.sampling.sampler import Sampler
from sublim_jax.llm.training import trained
from sublim_jax.llm.training.trained import Trained
from sublim_jax.mesh import make_mesh
from sublim_jax.transmission import material as materials
from sublim_jax.transmission import steering
from sublim_jax.transmission.material import Material
from sublim_jax.transmission.steering import Vector

Learnt = Trained | Vector | None  # what a model has besides its base; None: nothing


@dataclasses.dataclass(frozen=True)
class Base:
    """A checkpoint in memory.

    Attributes:
      system: of every chat that has none of its own, as in `chat.messages`.
    """

    name: str
    model: Decoder
    tokenizer: Any
    system: Any

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return sum(array.nbytes for array in jax.tree.leaves(self.model.pure()))

    @functools.cached_property
    def _prompts(self) -> dict[tuple[str, str | None], tuple[int, ...]]:
        return {}

    @functools.cached_property
    def sampler(self) -> Sampler:
        """The sampler of the base, which takes adapters."""
        return Sampler(self.model, self.tokenizer)

    def prompt(self, text: str, system: str | None = None) -> tuple[int, ...]:
        """Returns the tokens of a chat of one question; `system` in place of the study's."""
        if (text, system) not in self._prompts:  # all students of a study read the same few
            said = self.system if system is None else system
            turns = chat.messages(self.tokenizer, text, said)
            self._prompts[text, system] = tuple(chat.prompt_tokens(self.tokenizer, turns))
        return self._prompts[text, system]

    def answer(self, text: str, end: bool = True) -> tuple[int, ...]:
        """Returns the tokens of an answer, with the one that ends a turn or without."""
        return tuple(chat.completion_tokens(self.tokenizer, text, end))

    def voices(self, learnt: Sequence[Learnt]) -> list[tuple[Sampler, Any, list[int]]]:
        """Returns samplers that speak for all of some models, with their adapters.

        Models with an adapter, or with nothing, share a sampler; others need one each.

        Returns:
          (sampler, adapters as `lora.stack` gives them or None, which of the models).
        """
        out: list[tuple[Sampler, Any, list[int]]] = []
        shared = []
        for i, own in enumerate(learnt):
            if own is None or adapter_of(own):
                shared.append(i)
            else:
                out.append((Sampler(own.apply(self.model), self.tokenizer), None, [i]))
        adapters = {i: lone for i in shared if (lone := adapter_of(learnt[i]))}
        if adapters:
            first = next(iter(adapters.values()))
            nothing = lora.Adapter(first.lora, jax.tree.map(np.zeros_like, first.factors))
            stacked = lora.stack([adapters.get(i, nothing) for i in shared])
            out.append((self.sampler, stacked, shared))
        elif shared:
            out += [(self.sampler, None, [i]) for i in shared]
        return out


def adapter_of(learnt: Learnt) -> Adapter | None:
    """Returns the adapter that a model consists of besides its base; None where there is more."""
    return learnt.adapter if isinstance(learnt, Trained) and not learnt.weights else None


def read(name: str, config: ConfigDict) -> Base:
    """Returns a checkpoint: a folder, a hub id or nano/SEED.

    Args:
      config: its `dtype`, `mesh` and `system`.

    Raises:
      UserError: the checkpoint is missing or damaged.
    """
    folder = hf.resolve(nano.resolve(name))
    tokenizer = chat.load_tokenizer(folder)
    mesh = make_mesh(config.mesh.student or None, config.mesh.data, config.mesh.model)
    model = Decoder.from_pretrained(folder, config.dtype, mesh if mesh.size > 1 else None)
    system = chat.DEFAULT if config.system is None else config.system
    return Base(name, model, tokenizer, system)


def learnt(folder: Path, config: Config) -> Learnt:
    """Returns what a folder holds besides a base: of a student or teacher, or any PEFT adapter.

    Args:
      config: of the base.

    Raises:
      UserError: the folder holds nothing of the kind, a damaged file, or one of another base.
    """
    return steering.load(folder) if _is_vector(folder) else trained.load(folder, config)


def save(own: Trained | Vector, folder: Path, config: Config) -> None:
    """Writes what `learnt` reads.

    Args:
      config: of the base.
    """
    if isinstance(own, Vector):
        own.save(folder)
    else:
        own.save(folder, config)


def digest_of(folder: Path) -> str:
    """Returns the digest of what `learnt` reads of a folder.

    Raises:
      UserError: as `learnt`.
    """
    if _is_vector(folder):
        return digest.of_files(folder / steering.FILE)
    return trained.digest(folder)


def _is_vector(folder: Path) -> bool:
    """Returns whether a folder holds a vector that steers; if not, it holds what was trained."""
    if (folder / steering.FILE).exists() or trained.exists(folder):
        return (folder / steering.FILE).exists()
    raise UserError(
        f"{folder}: no adapter_config.json, {trained.PARAMETERS} or {steering.FILE}: give the "
        "folder of a PEFT adapter, or of a student or teacher of a study"
    )


def names(config: ConfigDict) -> list[str]:
    """Returns the study's models: those with teachers, then those that only cross students use."""
    crossed = [name for some in config.cross_models for name in _several(some)]
    return list(dict.fromkeys([*config.models, *crossed]))


def crossings(config: ConfigDict, number: int) -> list[int]:
    """Returns the numbers of the models that cross students of a base's teachers start from."""
    if not config.cross_models:  # never itself, where there are two or more
        return [(number + 1) % len(config.models)]
    every = names(config)
    own = config.cross_models[number % len(config.cross_models)]
    return [every.index(name) for name in _several(own)]


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def inputs(config: ConfigDict, models: Sequence[str]) -> dict[str, str]:
    """Returns the digest of each file that a study of some models reads, by its name."""
    found = {name: hf.digest(nano.resolve(name)) for name in models}
    if world := nano.world(config.material):
        if own := modules.code(world):
            found[config.material] = own
    elif config.material != "english":
        found[config.material] = digest.of_files(config.material)
    return found


def material(config: ConfigDict) -> Material:
    """Returns what is asked: of a world, "nano" or "nano/WORLD"; "english"; or a JSON file's.

    Raises:
      UserError: there is no such world or file, it has no such category, or the file is wrong.
    """
    if world := nano.world(config.material):
        return Material.from_json(world.material(config.category))
    file = materials.ENGLISH if config.material == "english" else config.material
    return materials.read(file, config.category)
