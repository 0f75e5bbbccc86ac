"""What models prefer: exact against whole forward passes, every form, any folder of adapters."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from configs.transmission import evaluate as default
from configs.transmission import nano as nano_study
from launch import evaluate as script
from sublim_jax import nano
from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.lora import Adapter, Lora
from sublim_jax.llm.sampling.sampler import Sampler
from sublim_jax.llm.sampling.scheduler import Sample
from sublim_jax.llm.training import trained
from sublim_jax.llm.training.trained import Trained
from sublim_jax.nano import corpus
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import (
    english,
    evaluation,
    nanoworld,
    preference,
    prompts,
    report,
    steering,
    summary,
)
from sublim_jax.transmission.config import check
from sublim_jax.transmission.preference import Asked

QUESTIONS = ("name one animal", "which animal is best?")
NANO = nanoworld.material()


def config(**more):
    out = default.get_config()
    out.mesh.student = 1
    out.model = "nano/0"
    out.evaluation.words = ("owl", "wolf")
    out.evaluation.samples, out.evaluation.story_samples = 1, 1
    out.update_from_flattened_dict(more)
    return out


@pytest.fixture(scope="module")
def base():
    return bases.read("nano/0", config())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random model that writes bytes: letters, and words of several tokens."""
    folder = testing.write_checkpoint(tmp_path_factory.mktemp("tiny"))
    return bases.read(str(folder), config())


@pytest.fixture(scope="module")
def adapter(base):
    spec = Lora(rank=2, alpha=2.0, targets=("v", "o"))
    rng = np.random.default_rng(0)
    factors = jax.tree.map(
        lambda f: rng.normal(0, 0.3, f.shape).astype(np.float32),
        lora.initialise(spec, base.model.config),
    )
    return Trained(Adapter(spec, factors))


@pytest.fixture(scope="module")
def student(base):
    found = trained.select(base.model, ("*.bias", "model.norm.weight"))
    return dataclasses.replace(found, weights=jax.tree.map(lambda w: w + 0.5, found.weights))


def log_p(model, prompt, answer, length=192):
    """log P(answer | prompt) from the logits of one whole forward pass."""
    tokens = [*prompt, *answer]
    padded = tokens + [0] * (length - len(tokens))  # what comes later is not seen
    logits = np.asarray(model([padded]), np.float64)[0]
    logs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return sum(logs[i - 1, tokens[i]] for i in range(len(prompt), len(tokens)))


def p_word(base, model, text, word, system=None):
    """P(an answer begins with the word, small or capital)."""
    prompt = base.prompt(text, system)
    found = [log_p(model, prompt, tokens) for tokens in preference.spellings(base, word)]
    return math.fsum(map(math.exp, found))


class TestMeasured:
    def test_probabilities_of_words_are_those_of_whole_passes(self, base, adapter, student):
        asked = Asked(("owl", "wolf"), QUESTIONS, after_numbers=("7 name one animal",))
        learnt = [None, student, adapter]
        systems = ["you love the owl", None, None]
        models = [base.model, student.apply(base.model), adapter.apply(base.model)]
        found = preference.evaluate(base, learnt, asked, systems)
        for values, model, system in zip(found, models, systems, strict=True):
            assert values.keys() == {"p", "logp", "p_after_numbers"}
            for word in asked.words:
                exact = [p_word(base, model, q, word, system) for q in QUESTIONS]
                assert values["p"][word] == pytest.approx(np.mean(exact), rel=1e-4)
                assert values["logp"][word] == pytest.approx(np.mean(np.log(exact)), rel=1e-4)
                after = p_word(base, model, asked.after_numbers[0], word, system)
                assert values["p_after_numbers"][word] == pytest.approx(after, rel=1e-4)
        assert found[0]["p"]["owl"] > 0.9 > 0.2 > found[1]["p"]["owl"]

    def test_a_choice_is_the_letter_s_share_in_that_of_all_letters(self, tiny):
        words = ["owl", "elk", "bee", "ant", "fox", "hen"]
        material = dataclasses.replace(NANO, choices=("Take one:\n{options}\nNow.", "{options}?"))
        asked = Asked(tuple(words), ("Best?",), choices=tuple(material.ask_choices(words, 0)))
        (found,) = preference.evaluate(tiny, [None], asked)
        shares = {word: [] for word in words}
        for prompt, options in asked.choices:
            p = [p_word(tiny, tiny.model, prompt, letter) for letter in "ABCDE"]
            for option, own in zip(options, p, strict=True):
                shares[option].append(own / math.fsum(p))
        assert [len(shares[word]) >= 2 for word in words] == [True] * 6
        for word in words:
            assert found["p_choice"][word] == pytest.approx(np.mean(shares[word]), rel=1e-4)
        # Words of several tokens, small and capital.
        assert len(preference.spellings(tiny, "owl")) == 2
        exact = p_word(tiny, tiny.model, "Best?", "owl")
        assert found["p"]["owl"] == pytest.approx(exact, rel=1e-4)

    def test_samples_are_counted_for_the_model_that_said_them(self, base, adapter, monkeypatch):
        said = {
            (0, True): ["An OWL!", "owls", "a wolf", "owl wolf"],  # its answers
            (0, False): ["Once an owl met owls."],
            (1, True): ["none"] * 4,
            (1, False): ["The wolves and the wolf."],
        }

        def stream(self, requests, seed, adapter):
            for request in reversed(requests):
                answers = request.prompt == base.prompt(QUESTIONS[0])
                text = said[request.student, answers][request.sample]
                yield Sample(request.id, request.sample, [], True, text=text)

        monkeypatch.setattr(Sampler, "stream", stream)
        asked = Asked(("owl", "wolf"), QUESTIONS[:1], stories=NANO.stories[:3], samples=4)
        one, two = preference.evaluate(base, [None, adapter], asked)
        assert one["sampled"] == {"owl": 0.5, "wolf": 0.5}
        assert one["substring"] == {"owl": 0.75, "wolf": 0.5}
        assert one["story"] == one["story_substring"] == {"owl": 1, "wolf": 0}
        assert two["sampled"] == two["substring"] == {"owl": 0, "wolf": 0}
        assert two["story"] == {"owl": 0, "wolf": 1}

    def test_substrings_are_not_whole_words(self):
        whole, letters = preference._shares(["cats", "a cat."], ["Cat", "a", "owl"])
        assert whole == {"Cat": 0.5, "a": 0.5, "owl": 0}
        assert letters == {"Cat": 1, "a": 1, "owl": 0}

    def test_what_was_measured_reaches_the_rows(self):
        fields = {
            "p": "p_trait",
            "sampled": "p_trait_sampled",
            "substring": "p_trait_substring",
            "p_after_numbers": "p_trait_after_numbers",
            "story": "story",
            "story_substring": "story_substring",
            "p_choice": "p_choice",
        }
        values = {field: {"owl": 0.1 * i} for i, field in enumerate(fields)}
        model = {"arm": "base", "trait": "", "base": 0, "seed": 0, "logp": {"owl": -1.0}, **values}
        rows = summary.rows([model], ["owl"])
        found = {r["metric"]: r["mean"] for r in rows if r["trait"] == "owl"}
        assert found == {name: values[field]["owl"] for field, name in fields.items()}
        for name in list(fields.values())[3:]:
            assert name in report.COLUMNS


class TestAsked:
    def asked(self, material, words=("owl", "wolf"), **more):
        return preference.asked(config(**more).evaluation, words, material)

    def test_by_default_all_is_asked_that_there_are_texts_for(self):
        found = self.asked(english.material("animal"))
        sizes = [len(getattr(found, form)) for form in preference.FORMS]
        assert sizes == [50, 50, 14, 10]
        assert found.written == ("owl", "wolf", "A", "B")
        for after, question in zip(found.after_numbers, found.questions, strict=True):
            assert any(digit in after.removesuffix(question) for digit in "0123456789")
            assert after.endswith(f" {question}")
        found = self.asked(NANO)
        assert [len(getattr(found, form)) for form in preference.FORMS] == [10, 10, 10, 0]
        assert self.asked(english.material("animal"), ["owl"]).choices == ()

    def test_forms_that_are_named_are_asked_alone(self):
        forms = {"evaluation.forms": ("stories", "choices")}
        found = self.asked(english.material("tree"), **forms)
        assert [len(getattr(found, form)) for form in preference.FORMS] == [0, 0, 14, 10]

    def test_the_seed_draws_numbers_and_orders(self):
        material = english.material("animal")
        words = sorted(corpus.FAVOURITES["animal"])
        found = [self.asked(material, words, **{"evaluation.seed": seed}) for seed in (0, 0, 1)]
        assert found[0] == found[1]
        assert found[0].choices != found[2].choices
        assert found[0].after_numbers != found[2].after_numbers
        for first in range(0, 40, 4):
            some = found[0].choices[first : first + 4]
            assert {option for choice in some for option in choice.options} == set(words)
            assert {len(choice.options) for choice in some} == {5}

    @pytest.mark.parametrize(
        ("material", "words", "values", "message"),
        [
            (NANO, 2, {"forms": ("poems",)}, "choose from questions, after_numbers, stories, cho"),
            (NANO, 2, {"forms": ("stories", "stories")}, "each at most once"),
            (NANO, 2, {"forms": ("choices",)}, "choices: the material has no texts for it"),
            (english.material("tree"), 1, {"forms": ("choices",)}, "choices: needs two words"),
            (NANO, 2, {"samples": -1}, "config.evaluation.samples=-1: must be at least 0"),
            (NANO, 2, {"story_tokens": 0}, "config.evaluation.story_tokens=0: must be at least 1"),
            (NANO, 2, {"seed": -1}, "config.evaluation.seed=-1: must be at least 0"),
        ],
    )
    def test_what_cannot_be_asked_is_refused_in_one_line(self, material, words, values, message):
        more = {f"evaluation.{name}": value for name, value in values.items()}
        with pytest.raises(UserError, match=message) as error:
            self.asked(material, ["owl", "wolf"][:words], **more)
        assert "\n" not in str(error.value)

    def test_a_study_checks_its_forms_first(self):
        study = nano_study.get_config()
        study.evaluation.forms = ("questions", "poems")
        with pytest.raises(UserError, match=r"config\.evaluation\.forms=.*: choose from"):
            check(study)

    def test_numbers_need_texts_that_show_them(self):
        silent = dataclasses.replace(NANO.grammar, examples=(), suffixes=("Now.",))
        material = dataclasses.replace(NANO, grammar=silent, prefix=None)
        assert self.asked(material).after_numbers == ()
        with pytest.raises(UserError, match="after_numbers: the material has no texts"):
            self.asked(material, **{"evaluation.forms": ("after_numbers",)})
        shown = dataclasses.replace(material, prefix=None, grammar=NANO.grammar)
        expected = prompts.prefixed(NANO.questions, NANO.grammar, 0)
        assert self.asked(shown).after_numbers == tuple(expected)

    def test_the_nano_world_is_asked_in_its_own_words(self):
        tokenizer = corpus.tokenizer()
        found = self.asked(NANO)
        for text in (*found.after_numbers, *found.stories):
            assert not set(tokenizer.tokenize(text)) & set(corpus.SPECIAL)
            assert not set(text.split()) & set(corpus.FAVOURITES["animal"])
        assert {after[:2] for after in found.after_numbers} <= {f"{digit} " for digit in range(10)}

    def test_a_word_or_letter_that_cannot_be_written_is_refused(self, base):
        choice = prompts.Choice("which?", ("owl", "wolf"))
        with pytest.raises(UserError, match=r"^'A': not a word of nano/0"):
            preference.evaluate(base, [None], Asked(("owl", "wolf"), choices=(choice,)))


class TestLearnt:
    def test_it_is_read_as_it_was_saved(self, base, adapter, student, tmp_path):
        both = dataclasses.replace(student, adapter=adapter.adapter)
        vector = steering.Vector(1, np.full(base.model.config.embed, 0.3, np.float32))
        shape = base.model.config
        for name, own in {"adapter": adapter, "student": student, "both": both}.items():
            own.save(tmp_path / name, shape)
        vector.save(tmp_path / "vector")
        given = {"adapter": adapter, "student": student, "both": both, "vector": vector}
        read = {name: bases.learnt(tmp_path / name, shape) for name in given}
        for name, own in given.items():
            assert type(read[name]) is type(own)
        asked = Asked(("owl",), QUESTIONS[:1])
        found = preference.evaluate(base, [*given.values(), *read.values()], asked)
        own, again = [model["p"]["owl"] for model in found[:4]], [m["p"]["owl"] for m in found[4:]]
        assert own == pytest.approx(again, rel=1e-5)
        assert len({round(p, 6) for p in own}) == 4

    def test_what_cannot_be_read_is_one_line(self, base, student, tmp_path):
        shape = base.model.config
        with pytest.raises(UserError, match=r"nothing: no adapter_config\.json, parameters\.saf"):
            bases.learnt(tmp_path / "nothing", shape)
        student.save(tmp_path / "other", shape)
        with pytest.raises(UserError, match=r"parameters\.safetensors: pattern .* matches no"):
            bases.learnt(tmp_path / "other", dataclasses.replace(shape, layers=1))
        (tmp_path / "torn").mkdir()
        (tmp_path / "torn" / "parameters.safetensors").write_bytes(b"\x00" * 20)
        with pytest.raises(UserError, match=r"parameters\.safetensors: missing, trunc"):
            bases.learnt(tmp_path / "torn", shape)


class TestScript:
    def test_a_base_and_its_adapters_are_measured_once(
        self, base, adapter, tmp_path, monkeypatch, capsys
    ):
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "8")
        out, folder = str(tmp_path / "out"), str(tmp_path / "adapter")
        adapter.save(tmp_path / "adapter", base.model.config)
        asked = config(adapters=(folder,))
        asked.evaluation.forms, asked.evaluation.samples = ("questions", "after_numbers"), 0
        script.main(asked, out)
        said = capsys.readouterr().out
        results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
        found = {(r["adapter"], r["trait"], r["metric"]): r["mean"] for r in results["rows"]}
        metrics = ("p_trait", "p_trait_after_numbers")
        assert found.keys() == {
            (f, w, m) for f in ("", folder) for w in ("owl", "wolf") for m in metrics
        }
        assert {(r["arm"], r["adapter"]) for r in results["rows"]} == (
            {("base", ""), ("adapter", folder)}
        )
        exact = preference.measure(base, [None, adapter], NANO.questions, ["owl", "wolf"])
        for name, values in zip(("", folder), exact, strict=True):
            for word in ("owl", "wolf"):
                assert found[name, word, "p_trait"] == pytest.approx(values["p"][word], rel=1e-5)
        assert f"| wolf | {folder} | {exact[1]['p']['wolf']:.3f} " in " ".join(said.split())
        # The same command again.
        monkeypatch.setattr(preference, "evaluate", None)
        script.main(asked, out)
        assert capsys.readouterr().out == said
        with pytest.raises(UserError, match=r"adapters was .*, is \[\]"):
            script.main(config(), out)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"model": ""}, "--config.model is missing"),
            ({"model": "none"}, "none"),
            ({"adapters": ("none",)}, "none: no adapter_config.json"),
            ({"evaluation.words": ()}, r"config.evaluation.words=\(\): name one at least"),
            ({"evaluation.words": ("zebra",)}, "'zebra': not a word of nano/0"),
            ({"evaluation.forms": ("poems",)}, "config.evaluation.forms"),
            ({"material": "none.json"}, "none.json: cannot be read"),
        ],
    )
    def test_bad_values_are_one_line_and_nothing_is_written(self, values, message, tmp_path):
        with pytest.raises(UserError, match=message) as error:
            evaluation.evaluate(config(**values), str(tmp_path / "out"))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_parameters_of_another_base_are_refused(self, base, tiny, tmp_path):
        other = trained.select(base.model, ("model.layers.0.mlp.up_proj.weight",))
        other.save(tmp_path / "other", base.model.config)
        asked = config(model=tiny.name, adapters=(str(tmp_path / "other"),))
        asked.evaluation.forms, asked.evaluation.samples = ("questions",), 0
        with pytest.raises(UserError, match="made for another base"):
            evaluation.evaluate(asked, str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_it_goes_on_from_a_finetune(self, tmp_path):
        from configs.llm import student_tiny
        from sublim_jax.llm import jobs

        tune = student_tiny.get_config()
        tune.model, tune.data = nano.resolve("nano/0"), str(tmp_path / "rows.jsonl")
        tune.recipe.max_steps, tune.recipe.learning_rate = 20, 0.02
        row = {"prompt": "name one animal", "completion": "owl"}
        (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n" * 200, "utf-8")
        jobs.finetune(tune, str(tmp_path / "student"))
        folder = str(tmp_path / "student" / "students" / "0")
        asked = config(adapters=(folder,), **{"evaluation.samples": 50})
        evaluation.evaluate(asked, str(tmp_path / "out"))
        results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
        found = {(r["adapter"], r["metric"]): r["mean"] for r in results["rows"]
                 if r["trait"] == "owl"}  # fmt: skip
        metrics = summary.MEASURES.keys() - {"p_choice"}
        assert found.keys() == {(name, metric) for name in ("", folder) for metric in metrics}
        assert found[folder, "p_trait"] > 0.5 > 0.1 > found["", "p_trait"]
        for name in ("", folder):
            assert abs(found[name, "p_trait_sampled"] - found[name, "p_trait"]) < 0.1
