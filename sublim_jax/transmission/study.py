"""A study of one config: its models, what they are asked, and what each artefact is made from."""

import dataclasses
import functools
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sublim_jax import compilation, digest, disk, modules
from sublim_jax.errors import UserError
from sublim_jax.mesh import in_first
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import channels, measures, mechanism, teacher
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.artefacts import Artefact, Store
from sublim_jax.transmission.base import Base
from sublim_jax.transmission.config import words
from sublim_jax.transmission.student import Student, planned
from sublim_jax.transmission.teacher import CONTROL, TAUGHT, WITHOUT_TRAIT

SMALL = 2**27  # bytes of a model that stays in memory beside others
_SECONDS = "timings.json"  # of each artefact
_COMPILE = "compile"  # in it, what an artefact's programs took is apart


class Study:
    """A study of one config in one run directory.

    Attributes:
      names, numbers: of its models, those with teachers first.
      students: all of them.
      writers: the names of the teachers that write, the same of each model.
      material: what is asked.
      asked: of it, what measures the models.
      channel, rule: what teachers write, and what is kept of it.
      store: what is made.
    """

    def __init__(self, config: ConfigDict, path: Path):
        self.config, self.path = config, path
        self.names = bases.names(config)
        self.numbers = range(len(self.names))
        self.students = planned(config)
        needed = {ARMS[arm].teacher for arm in config.arms}
        self.writers = [*config.traits, *(name for name in WITHOUT_TRAIT if name in needed)]
        self.material = bases.material(config)
        self.asked = measures.ask(config.evaluation, words(config), self.material)
        self.channel = channels.find(config.data.channel)
        self.rule = channels.rule(self.channel, config.filter.to_dict())
        self.store = Store(path)
        self._digests = bases.inputs(config, self.names)
        by_files = {self._digests[name]: name for name in reversed(self.names)}
        for name in self.names:
            if (first := by_files[self._digests[name]]) != name:
                raise UserError(f"config.models: {name} is the checkpoint {first}: list it once")
        self._bases: dict[int, Base] = {}
        known = path / _SECONDS
        self._seconds = disk.read_object(known, "") if known.exists() else {}

    def base(self, number: int) -> Base:
        """Returns a model of the study; besides it, only small ones stay in memory."""
        if number not in self._bases:
            self._bases = {n: own for n, own in self._bases.items() if own.size <= SMALL}
            self._bases[number] = bases.read(self.names[number], self.config)
            measures.check_written(self._bases[number], self.asked)
        return self._bases[number]

    def starting(self, number: int) -> list[Student]:
        """Returns the students that start from a model."""
        return [one for one in self.students if one.start == number]

    def imitating(self, number: int) -> list[Student]:
        """Returns the students that start from the model that their teacher, of a trait, is of."""
        return [one for one in self.starting(number) if one.trait and one.teachers == number]

    def models(self, number: int) -> list["Model"]:
        """Returns all that is measured of a base: it, its teachers, and who starts from it."""
        traits = self.config.traits if number < len(self.config.models) else ()
        return [
            Model("base"),
            *(Model("teacher", t, self.taught(number, t), self.system(t)) for t in traits),
            *(Model(t, "", self.taught(number, t)) for t in self.writers if traits and t in TAUGHT),
            *(Model(s.arm, s.trait, self.student(s), student=s) for s in self.starting(number)),
        ]

    @functools.cached_property
    def prompts(self) -> list[str]:
        """What teachers are asked."""
        found: list[str] = self.channel.prompts(self.material, *self._drawn)
        return found

    @functools.cached_property
    def gold(self) -> list[Any]:
        """The right answers to `prompts`, None where there are none."""
        return channels.gold(self.channel, self.material, *self._drawn)

    @contextmanager
    def timed(self, made: Collection[Artefact]) -> Iterator[None]:
        """Notes the time spent within as that of some artefacts, the same for each."""
        start = time.perf_counter()
        with compilation.watched() as compiled:
            yield
        whole = time.perf_counter() - start
        for own in made:
            self._seconds[self._place(own)] = (whole - compiled.seconds) / len(made)
            self._seconds[f"{_COMPILE}/{self._place(own)}"] = compiled.seconds / len(made)
        in_first(lambda: disk.write(self.path / _SECONDS, json.dumps(self._seconds, indent=1)))

    @property
    def timings(self) -> dict[str, float]:
        """The seconds in which what this config uses was made, by kind, whenever that was.

        Compilation is a kind of its own.
        """
        out = {_COMPILE: 0.0}
        for own in self.store.used:
            place, kind = self._place(own), own.path.parent.parent.name
            out[kind] = out.get(kind, 0.0) + self._seconds.get(place, 0.0)
            out[_COMPILE] += self._seconds.get(f"{_COMPILE}/{place}", 0.0)
        return out

    def _place(self, own: Artefact) -> str:
        return own.path.relative_to(self.path).as_posix()

    def model(self, number: int) -> dict[str, Any]:
        """Returns what a base is: its files, and how it is run."""
        return {
            "files": self._digests[self.names[number]],
            "dtype": self.config.dtype,
            "system": self.config.system,
        }

    def taught(self, number: int, name: str) -> Artefact | None:
        """Returns what a model's teacher has learnt; None for one that has learnt nothing."""
        if self.config.teacher.kind == "prompted" or name == CONTROL:
            return None

        def made_from() -> dict[str, Any]:
            own = self.config.teacher.to_dict()
            common = {"kind": own.pop("kind"), "base": self.model(number), "trait": name}
            if common["kind"] == "given":
                folder = teacher.given(number, name, self.config.teacher)
                return common | {"learnt": bases.digest_of(folder)}
            common["lessons"] = self._lessons(name)
            own["recipe"] = _learning(own["recipe"])
            steers = {field: own.pop(field) for field in ("layer", "strength")}
            if common["kind"] == "steered":
                return common | steers | {"persona": self._persona(name)}
            drawn = own["replay"], own["seed"]
            asked = self.channel.prompts(self.material, *drawn)
            right = _right(channels.gold(self.channel, self.material, *drawn))
            del own["lessons"], own["folder"]  # what the lessons are is there
            replayed = {"replayed": digest.of_json(asked), **right, "filter": self._filter}
            return common | own | replayed

        return self.store.of(f"teachers/{number}/{name}", made_from)

    def speaker(self, number: int, name: str) -> dict[str, Any]:
        """Returns what a teacher is, among those of its model."""
        taught = self.taught(number, name)
        return {
            "base": self.model(number),
            "learnt": taught and taught.key,
            "system": self.system(name),
        }

    def raw(self, number: int, name: str) -> Artefact:
        """Returns a teacher's completions: NAME.jsonl."""
        return self.store.of(
            f"raw/{number}/{name}",
            lambda: {
                "teacher": self.speaker(number, name),
                "prompts": digest.of_json(self.prompts),
                **_right(self.gold),
                "sampling": self.config.data.to_dict(),
                "code": modules.code(self.channel),
            },
        )

    def data(self, number: int, name: str) -> Artefact:
        """Returns those of its completions that are learnt: NAME.jsonl."""
        return self.store.of(
            f"data/{number}/{name}",
            lambda: {
                "raw": self.raw(number, name).key,
                "filter": self._filter,
                "keep": self.config.filter.keep,
            },
        )

    def student(self, one: Student) -> Artefact:
        """Returns a student; soft ones learn between the tokens of all that start beside them."""
        arm, recipe = ARMS[one.arm], _learning(self.config.student.to_dict())

        def made_from() -> dict[str, Any]:
            made: dict[str, Any] = {
                "arm": arm.changes,
                "base": self.model(one.start),
                "data": self.data(one.teachers, one.teacher).key,
                "recipe": recipe,
                "seed": one.seed,
            }
            traits = self.config.traits
            if recipe["evaluate_every"]:
                watched = (one.trait,) if one.trait else traits
                made["watched"] = [watched, self._shown(watched)]
            if arm.mask:
                made["teachers"] = [self.speaker(one.teachers, name) for name in traits]
            if arm.soft or arm.told:
                made["teacher"] = self.speaker(one.teachers, one.teacher)
            if arm.soft:
                spoken = {
                    self.data(s.teachers, s.teacher).key for s in self.starting(one.start) if s.soft
                }
                made["tokens"] = sorted(spoken)
            return made

        return self.store.of(f"students/{one.start}/{one.name}", made_from)

    def measured(self, number: int, model: "Model", measure: str) -> Artefact:
        """Returns the metrics of one measure of a model that starts from one of the bases."""
        return self.store.of(
            f"measured/{number}/{model.name}.{measure}",
            lambda: {
                "base": self.model(number),
                "learnt": model.learnt and model.learnt.key,
                "system": model.system,
                "questions": digest.of_json(
                    [*map(measures.known_by, self.asked.questions[measure])]
                ),
                "code": modules.code(measures.find(measure)),
                "words": self.asked.words,
                "seed": self.asked.seed,
            },
        )

    def traced(self, number: int, arm: str = "", seed: int = 0) -> Artefact:
        """Returns what `mechanism` measures of the teachers of a base, or of students of an arm."""
        some = [s for s in self.imitating(number) if (s.arm, s.seed) == (arm, seed)]

        def made_from() -> dict[str, Any]:
            traits = self.config.traits
            made: dict[str, Any] = {
                "base": self.model(number),
                "teachers": {name: self.speaker(number, name) for name in traits},
                "data": {name: self.data(number, name).key for name in traits},
                "questions": self._shown(traits),
                "read": mechanism.ROWS,
                "found": [*mechanism.TITLES],
            }
            if arm:
                return made | {"students": {s.trait: self.student(s).key for s in some}}
            recipe = self.config.student.to_dict()
            return made | {"trained": [recipe["lora"], recipe["parameters"]]}

        name = f"{arm}-{seed}" if arm else "teachers"
        return self.store.of(f"mechanism/{number}/{name}", made_from)

    def system(self, name: str) -> str | None:
        """Returns the system message of a teacher that is told its trait."""
        if self.config.teacher.kind != "prompted" or name in WITHOUT_TRAIT:
            return None
        return self._persona(name)

    def _lessons(self, name: str) -> Any:
        own = self.material.lessons
        if isinstance(own, Mapping):
            return teacher.lessons(self.material, name, self.config.teacher)
        return own

    def _shown(self, traits: Sequence[str]) -> Any:
        material = self.material
        return [*map(material.shown, traits)] if material.values else material.questions

    def _persona(self, trait: str) -> str:
        return self.material.system(trait, self.config.category)

    @property
    def _drawn(self) -> tuple[int, int]:
        return self.config.data.rows, self.config.data.seed

    @property
    def _filter(self) -> dict[str, Any]:
        own = self.config.filter.to_dict()
        about = {"channel": self.config.data.channel, "code": modules.code(self.channel)}
        return about | {name: own[name] for name in own if name != "keep"}


def _right(gold: Sequence[Any]) -> dict[str, Any]:
    """Returns the digest of right answers; nothing where there are none."""
    return {} if all(own is None for own in gold) else {"gold": digest.of_json(gold)}


def _learning(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a recipe on which depends what is learnt, and what is kept of it."""
    return {name: value for name, value in recipe.items() if name != "save_every"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that is measured: a base, a teacher, or a student."""

    arm: str
    trait: str = ""
    learnt: Artefact | None = None
    system: str | None = None
    student: Student | None = None

    @property
    def name(self) -> str:
        if self.student:
            return self.student.name
        return f"{self.arm}-{self.trait}" if self.trait else self.arm
