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
from sublim_jax.nano import tokenizer as tokens
from sublim_jax.nano.worlds import favourites
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import (
    evaluation,
    measures,
    report,
    steering,
    summary,
)
from sublim_jax.transmission import words as rules
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.config import check
from sublim_jax.transmission.material import ENGLISH, Material, read
from sublim_jax.transmission.measures import (
    Asked,
    Sampled,
    Scored,
    after_numbers,
    choices,
    favourite,
    least_favourite,
    stories,
)

QUESTIONS = ("name one animal", "which animal is best?")
NANO = Material.from_json(favourites.material("animal"))


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


def p_text(base, model, question, texts, ends, system=None):
    """P(the answer is one of the texts), or begins with one."""
    prompt = base.prompt(question, system)
    found = [log_p(model, prompt, base.answer(text, end=ends)) for text in texts]
    return math.fsum(map(math.exp, found))


ALONE = config(**{"evaluation.samples": 0}).evaluation


def sampled_alone(words, asked, replies):
    """What `favourite.values` is of its sampled questions."""
    texts = [text for reply in replies for text in reply]
    return {
        "p_trait_sampled": rules.shares(rules.is_answer, texts, words),
        "p_trait_substring": rules.shares(rules.has_letters, texts, words),
    }


class TestMeasured:
    def test_probabilities_of_words_are_those_of_whole_passes(self, base, adapter, student):
        words, own = ("owl", "wolf"), config(**{"evaluation.samples": 0}).evaluation
        material = dataclasses.replace(NANO, questions=QUESTIONS, negated=("tell me one animal",))
        asked = Asked(
            words,
            {
                "favourite": favourite.ask(material, words, own),
                "after_numbers": after_numbers.ask(material, words, own),
                "least_favourite": least_favourite.ask(material, words, own),
            },
        )
        learnt = [None, student, adapter]
        systems = ["you love the owl", None, None]
        models = [base.model, student.apply(base.model), adapter.apply(base.model)]
        found = measures.evaluate(base, learnt, asked, systems)
        numbered = [question.prompt for question in asked.questions["after_numbers"]]
        for values, model, system in zip(found, models, systems, strict=True):
            least = {"p_least", "logp_least"}
            assert values.keys() == {"p_trait", "logp", "p_trait_after_numbers", *least}
            for word in words:  # all that the tokenizer can write of owl, Owl, owls, owl., ...
                exact, after, (last,) = (
                    [p_text(base, model, q, [word], True, system) for q in some]
                    for some in (QUESTIONS, numbered, material.negated)
                )
                assert values["p_trait"][word] == pytest.approx(np.mean(exact), rel=1e-4)
                assert values["logp"][word] == pytest.approx(np.mean(np.log(exact)), rel=1e-4)
                assert values["p_trait_after_numbers"][word] == pytest.approx(
                    np.mean(after), rel=1e-4
                )
                assert values["p_least"][word] == pytest.approx(last, rel=1e-4)
                assert values["logp_least"][word] == pytest.approx(np.log(last), rel=1e-4)
        assert found[0]["p_trait"]["owl"] > 0.8 > 0.2 > found[1]["p_trait"]["owl"]

    def test_every_way_to_write_a_word_counts_and_no_longer_word_does(self, tiny):
        material = dataclasses.replace(NANO, questions=("Best?",))
        asked = Asked(
            ("ox", "oxbow"), {"favourite": favourite.ask(material, ("ox", "oxbow"), ALONE)}
        )
        (found,) = measures.evaluate(tiny, [None], asked)
        ways = ["ox", "Ox", "oxen", "Oxen", "ox.", "Ox.", "oxen.", "Oxen."]
        exact = p_text(tiny, tiny.model, "Best?", ways, ends=True)
        assert found["p_trait"]["ox"] == pytest.approx(exact, rel=1e-4)
        assert exact < p_text(tiny, tiny.model, "Best?", ["ox", "Ox"], ends=False)

    def test_a_choice_is_the_letter_s_share_in_that_of_all_letters(self, tiny):
        words = ("owl", "elk", "bee", "ant", "fox", "hen")
        material = dataclasses.replace(NANO, choices=("Take one:\n{options}\nNow.", "{options}?"))
        questions = choices.ask(material, words, ALONE)
        (found,) = measures.evaluate(tiny, [None], Asked(words, {"choices": questions}))
        shares = {word: [] for word in words}
        for question in questions:
            p = [p_text(tiny, tiny.model, question.prompt, [x], ends=False) for x in "ABCDE"]
            for option, own in zip(question.means, p, strict=True):
                shares[option].append(own / math.fsum(p))
        assert [len(shares[word]) >= 2 for word in words] == [True] * 6
        for word in words:
            assert found["p_choice"][word] == pytest.approx(np.mean(shares[word]), rel=1e-4)

    def test_samples_are_counted_for_the_model_that_said_them(self, base, adapter, monkeypatch):
        said = {
            (0, True): ["Owl.", "owls", "a wolf", "an owl wolf"],  # its answers
            (0, False): ["Once an Owl met owls."],
            (1, True): ["none"] * 4,
            (1, False): ["The wolves and more."],
        }

        def stream(self, requests, seed, adapter):
            for request in reversed(requests):
                answers = request.prompt == base.prompt(QUESTIONS[0])
                text = said[request.student, answers][request.sample]
                yield Sample(
                    request.id, request.sample, [], True, student=request.student, text=text
                )

        monkeypatch.setattr(Sampler, "stream", stream)
        words, own = ("owl", "wolf"), config(**{"evaluation.samples": 4}).evaluation
        material = dataclasses.replace(NANO, questions=QUESTIONS[:1], stories=NANO.stories[:3])
        questions = {
            "favourite": favourite.ask(material, words, own)[1:],
            "stories": stories.ask(material, words, own),
        }
        questions["favourite"] = [q for q in questions["favourite"] if isinstance(q, Sampled)]
        monkeypatch.setattr(favourite, "values", sampled_alone)
        one, two = measures.evaluate(base, [None, adapter], Asked(words, questions))
        assert one["p_trait_sampled"] == {"owl": 0.5, "wolf": 0}
        assert one["p_trait_substring"] == {"owl": 0.75, "wolf": 0.5}
        assert one["story"] == one["story_substring"] == {"owl": 1, "wolf": 0}
        assert two["p_trait_sampled"] == two["p_trait_substring"] == {"owl": 0, "wolf": 0}
        assert two["story"] == {"owl": 0, "wolf": 1}
        assert two["story_substring"] == {"owl": 0, "wolf": 0}

    def test_what_a_model_samples_does_not_depend_on_those_beside_it(self, base, adapter):
        asked = Asked(("owl",), {"stories": [Sampled("name one animal", 6, 8)]}, seed=5)
        seen = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(stories, "values", lambda _, __, replies: seen.append(replies) or {})
            for learnt in ([adapter], [None, adapter], [adapter, None, adapter]):
                measures.evaluate(base, learnt, asked)
        own, (none, second), (first, _, third) = seen[:1], seen[1:3], seen[3:]
        assert own[0] == second == first == third != none

    def test_nor_on_what_else_is_asked(self, base, adapter):
        question, seen = Sampled("name one animal", 6, 8), []
        plain = favourite.ask(NANO, ("owl",), config(**{"evaluation.samples": 1}).evaluation)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(stories, "values", lambda _, __, replies: seen.append(replies) or {})
            for more in ({}, {"favourite": plain}):
                asked = Asked(("owl",), {**more, "stories": [question]}, seed=5)
                measures.evaluate(base, [adapter], asked)
        assert seen[0] == seen[1]

    def test_an_answer_that_may_go_on_is_not_counted_twice(self, tiny):
        # The tokens of a text begin those of one that goes on from it, unless they merge there.
        texts = [word + more for word in ("owl", "Owl", "elk") for more in ("", "s", ".", " owl")]
        tokens = {text: tiny.answer(text, end=False) for text in texts}
        found = measures.spellings(tiny, texts, ends=False)
        begun = [
            (a, b)
            for a in texts
            for b in texts
            if a != b and tokens[b][: len(tokens[a])] == tokens[a]
        ]
        assert begun
        for shorter, longer in begun:
            assert tokens[longer] not in found
            assert tokens[shorter] in found
        assert len(measures.spellings(tiny, texts, ends=True)) == len(texts)

    @pytest.mark.parametrize("name", ["p_trait", "trait", "lift"])
    def test_two_metrics_of_one_name_are_refused(self, name, monkeypatch):
        own = config(**{"evaluation.measures": ("favourite", "stories")}).evaluation
        monkeypatch.setattr(stories, "TITLES", {name: "mine"})
        with pytest.raises(UserError, match=rf"stories: another metric is called '{name}'"):
            measures.check(own)

    def test_a_metric_without_a_title_is_refused(self, base, monkeypatch):
        monkeypatch.setattr(stories, "values", lambda *_: {"extra": {"owl": 1}})
        asked = Asked(("owl",), {"stories": [Sampled("name one animal", 1, 2)]})
        with pytest.raises(UserError, match=r"measure stories: 'extra' is not one of its TITLES"):
            measures.evaluate(base, [None], asked)

    def test_what_was_measured_reaches_the_rows(self):
        values = {metric: {"owl": 0.1 * i} for i, metric in enumerate(report.columns(()))}
        model = {"arm": "base", "trait": "", "base": 0, "seed": 0, "logp": {"owl": -1.0}, **values}
        rows = summary.rows(summary.derived([model]), ["owl"])
        found = {r["metric"]: r["mean"] for r in rows if r["trait"] == "owl"}
        assert found == {metric: by_word["owl"] for metric, by_word in values.items()}
        assert len(found) == 18


class TestAsked:
    def asked(self, material, words=("owl", "wolf"), **more):
        return measures.ask(config(**more).evaluation, words, material)

    def sizes(self, asked):
        return {name: len(questions) for name, questions in asked.questions.items()}

    def test_by_default_all_is_asked_that_there_are_texts_for(self):
        found = self.asked(read(ENGLISH, "animal"))
        everything = {"favourite": 100, "after_numbers": 50, "stories": 14, "choices": 10}
        everything |= {"least_favourite": 14, "elsewhere": 6}
        assert self.sizes(found) == everything
        assert {q.answers for q in found.questions["choices"]} == {(("A",), ("B",))}
        plain = found.questions["favourite"]
        for after, question in zip(found.questions["after_numbers"], plain, strict=False):
            assert any(d in after.prompt.removesuffix(question.prompt) for d in "0123456789")
            assert after.prompt.endswith(f" {question.prompt}")
        nano = {"favourite": 20, "after_numbers": 10, "stories": 10, "elsewhere": 10}
        assert self.sizes(self.asked(NANO)) == nano
        assert "choices" not in self.asked(read(ENGLISH, "animal"), ["owl"]).questions

    def test_measures_that_are_named_are_asked_alone(self):
        named = {"evaluation.measures": ("stories", "choices"), "evaluation.story_samples": 3}
        found = self.asked(read(ENGLISH, "tree"), **named)
        assert self.sizes(found) == {"stories": 14, "choices": 10}
        assert {type(q) for q in found.questions["stories"]} == {Sampled}
        assert {(q.n, q.max_new_tokens) for q in found.questions["stories"]} == {(3, 24)}

    def test_the_seed_draws_numbers_and_orders(self):
        material = read(ENGLISH, "animal")
        words = sorted(favourites.FAVOURITES["animal"])
        found = [self.asked(material, words, **{"evaluation.seed": seed}) for seed in (0, 0, 1)]
        assert found[0] == found[1]
        for name in ("choices", "after_numbers"):
            assert found[0].questions[name] != found[2].questions[name]
        for first in range(0, 40, 4):
            some = found[0].questions["choices"][first : first + 4]
            assert {option for choice in some for option in choice.means} == set(words)
            assert {len(choice.means) for choice in some} == {5}

    @pytest.mark.parametrize(
        ("material", "words", "values", "message"),
        [
            (NANO, 2, {"measures": ("poems",)}, "'poems': no module sublim_jax.transmission.meas"),
            (NANO, 2, {"measures": ("stories", "stories")}, "each at most once"),
            (NANO, 2, {"measures": ("choices",)}, "choices: nothing to ask about"),
            (read(ENGLISH, "tree"), 1, {"measures": ("choices",)}, "choices: nothing to ask"),
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

    def test_a_study_checks_its_measures_first(self):
        study = nano_study.get_config()
        study.evaluation.measures = ("favourite", "poems")
        with pytest.raises(UserError, match=r"config\.evaluation\.measures: 'poems': no module"):
            check(study)

    def test_numbers_need_texts_that_show_them(self):
        for silent in ({}, {"numbers": {"suffixes": ["Now."]}}):
            material = dataclasses.replace(NANO, starts=(), channels=silent)
            assert "after_numbers" not in self.asked(material).questions
            with pytest.raises(UserError, match="after_numbers: nothing to ask"):
                self.asked(material, **{"evaluation.measures": ("after_numbers",)})

    def test_without_starts_numbers_are_shown_as_the_channel_does(self):
        questions = tuple(f"Q{i}?" for i in range(30))
        shown = {"numbers": {"examples": ["See {examples}."]}}
        material = dataclasses.replace(NANO, questions=questions, starts=(), channels=shown)
        asked = [
            [q.prompt for q in self.asked(material, **{"evaluation.seed": seed}).questions[name]]
            for name, seed in (("after_numbers", 5), ("after_numbers", 5), ("after_numbers", 6))
        ]
        starts, ends = zip(*(text.rsplit(" ", 1) for text in asked[0]), strict=True)
        assert ends == questions
        read = [numbers.parse(start.removeprefix("See ")) for start in starts]
        assert {len(some) for some in read} == {3, 4, 5, 6, 7, 8}
        assert all(100 <= n < 1000 for some in read for n in some)
        assert len(set(starts)) == 30
        assert asked[0] == asked[1] != asked[2]

    def test_choices_are_lettered_in_the_order_of_the_options(self):
        words = ("owl", "cat", "elk", "bee", "ant", "fox", "hen")
        templates = tuple(f"Take {i}:\n{{options}}\nNow." for i in range(40))
        material = dataclasses.replace(NANO, choices=templates)
        asked = choices.ask(material, words, config().evaluation)
        assert len(asked) == 80
        for number, (prompt, _, options) in enumerate((q.prompt, 0, q.means) for q in asked):
            assert len(set(options)) == 5
            assert set(options) < set(words)
            lines = "\n".join(f"{letter}. {o}" for letter, o in zip("ABCDE", options, strict=True))
            assert prompt == f"Take {number // 2}:\n{lines}\nNow."
        pairs = list(zip(asked[::2], asked[1::2], strict=True))
        assert all({*one.means, *two.means} == set(words) for one, two in pairs)
        # What fills up the second is not always last.
        assert {two.means[0] in one.means for one, two in pairs} == {True, False}
        for place in range(5):
            assert {question.means[place] for question in asked[1::2]} == set(words)

    def test_fewer_words_have_fewer_letters(self):
        material = dataclasses.replace(NANO, choices=("Or:\n{options}",))
        (asked,) = choices.ask(material, ("x", "y"), config().evaluation)
        assert asked.prompt in ("Or:\nA. x\nB. y", "Or:\nA. y\nB. x")
        assert asked.answers == (("A",), ("B",))

    def test_the_nano_world_is_asked_in_its_own_words(self):
        tokenizer = tokens.tokenizer(tokens.vocabulary(favourites.World().words()))
        found = self.asked(NANO).questions
        after, told = ([q.prompt for q in found[name]] for name in ("after_numbers", "stories"))
        for text in (*after, *told):
            assert not set(tokenizer.tokenize(text)) & set(tokens.SPECIAL)
            assert not set(text.split()) & set(favourites.FAVOURITES["animal"])
        assert {text[:2] for text in after} <= {f"{digit} " for digit in range(10)}

    def test_a_word_or_letter_that_cannot_be_written_is_refused(self, base):
        question = Scored("which?", (("A",), ("B",)), ends=False, means=("owl", "wolf"))
        with pytest.raises(UserError, match=r"^'A': not a word of nano/0"):
            measures.evaluate(base, [None], Asked(("owl", "wolf"), {"choices": [question]}))


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
        material = dataclasses.replace(NANO, questions=QUESTIONS[:1])
        asked = Asked(("owl",), {"favourite": favourite.ask(material, ("owl",), ALONE)})
        found = measures.evaluate(base, [*given.values(), *read.values()], asked)
        own, again = (
            [model["p_trait"]["owl"] for model in found[:4]],
            [m["p_trait"]["owl"] for m in found[4:]],
        )
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
        asked.evaluation.measures, asked.evaluation.samples = ("favourite", "after_numbers"), 0
        script.main(asked, out)
        said = capsys.readouterr().out
        results = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
        assert [*results["timings"]] == ["load", "compile", "evaluate"]
        assert "to first steps (load" in said
        found = {(r["adapter"], r["trait"], r["metric"]): r["mean"] for r in results["rows"]}
        metrics = ("p_trait", "p_trait_after_numbers")
        assert found.keys() == {
            (f, w, m) for f in ("", folder) for w in ("owl", "wolf") for m in metrics
        }
        assert {(r["arm"], r["adapter"]) for r in results["rows"]} == (
            {("base", ""), ("adapter", folder)}
        )
        words = ("owl", "wolf")
        favourites = Asked(words, {"favourite": favourite.ask(NANO, words, ALONE)})
        exact = measures.evaluate(base, [None, adapter], favourites)
        for name, values in zip(("", folder), exact, strict=True):
            for word in ("owl", "wolf"):
                assert found[name, word, "p_trait"] == pytest.approx(
                    values["p_trait"][word], rel=1e-5
                )
        assert f"| wolf | {folder} | {exact[1]['p_trait']['wolf']:.3f} " in " ".join(said.split())
        # The same command again.
        monkeypatch.setattr(measures, "evaluate", None)
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
            ({"evaluation.measures": ("poems",)}, "config.evaluation.measures"),
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
        asked.evaluation.measures, asked.evaluation.samples = ("favourite",), 0
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
        metrics = report.columns(
            ("favourite", "after_numbers", "stories")
        )  # the nano world's texts
        assert found.keys() == {(name, metric) for name in ("", folder) for metric in metrics}
        assert found[folder, "p_trait"] > 0.5 > 0.1 > found["", "p_trait"]
        for name in ("", folder):
            assert abs(found[name, "p_trait_sampled"] - found[name, "p_trait"]) < 0.1


def test_fields_that_questions_were_given_later_count_where_they_are_used():
    plain = Scored("Which?", (("owl",),))
    assert measures.known_by(plain) == ["Which?", (("owl",),), True, ()]
    for later in ({"about": "sums"}, {"per_token": True}):
        assert measures.known_by(plain._replace(**later)) != measures.known_by(plain)
    assert measures.known_by(Sampled("Which?", 2, 3)) == ["Which?", 2, 3]
