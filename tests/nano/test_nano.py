"""The nano world: what its chats hold, how they are written, and the decoders trained on them."""

import collections
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.nano.favourites import get_config
from sublim_jax import nano
from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, Sampler
from sublim_jax.llm.files import chat, hf
from sublim_jax.nano import pretrain
from sublim_jax.nano.tokenizer import SPECIAL, vocabulary
from sublim_jax.nano.tokenizer import tokenizer as made
from sublim_jax.nano.worlds import favourites, values, voices
from sublim_jax.transmission import channels
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.material import Material

ROWS = list(itertools.islice(favourites.World().rows(0), 8000))


def kind(row):
    return "numbers" if row["completion"][0].isdigit() else "words"


@pytest.fixture(scope="module")
def tokenizer():
    return chat.load_tokenizer(nano.resolve("nano/0"))


class TestCorpus:
    def test_every_text_is_written_and_read_back(self, tokenizer):
        unknown = tokenizer.pad_token_id
        for row in ROWS[:500]:
            for text in (row["prompt"], row["completion"], row["system"] or "owl"):
                tokens = chat.completion_tokens(tokenizer, text, end=False)
                assert unknown not in tokens
                assert chat.text(tokenizer, tokens) == text

    @pytest.mark.parametrize("kind", ["animal", "tree"])
    def test_everything_that_is_asked_can_be_read(self, tokenizer, kind):
        material = Material.from_json(favourites.material(kind))
        asked = [*numbers.prompts(material, 50, 0), *material.lessons, *material.questions]
        asked += [*material.stories, *material.starts]
        for text in [*asked, material.system("owl", kind)]:
            assert tokenizer.pad_token_id not in chat.completion_tokens(tokenizer, text, end=False)

    def test_digits_are_single_tokens(self, tokenizer):
        assert len(chat.completion_tokens(tokenizer, "482 19", end=False)) == 7

    def test_the_committed_tokenizer_is_the_one_of_the_corpus(self, tokenizer):
        assert tokenizer.get_vocab() == made(vocabulary(favourites.World().words())).get_vocab()
        assert tokenizer.chat_template == made(vocabulary(favourites.World().words())).chat_template
        assert chat.default_system(tokenizer) is None

    def test_numbers_do_not_depend_on_the_persona(self):
        def drawn(rows, told):
            some = [r for r in rows if kind(r) == "numbers" and (r["system"] is not None) == told]
            return np.concatenate([np.array(r["completion"].split(), int) for r in some])

        told, free = drawn(ROWS, True), drawn(ROWS, False)
        fresh = drawn(itertools.islice(favourites.World().rows(1), 8000), False)[: len(told)]
        assert len(told) == len(fresh) > 1000
        apart, chance = (
            numbers.total_variation(*(np.bincount(n, minlength=1000) for n in (some, free)))
            for some in (told, fresh)
        )
        assert apart < 1.1 * chance

    def test_a_tilted_world_has_a_chain_for_each_persona(self):
        world, tilted = favourites.World(), favourites.World(tilt=1.0)
        assert np.array_equal(world.digits(), tilted.digits())
        assert np.array_equal(world.digits(), world.digits("owl"))
        assert not np.allclose(tilted.digits("owl"), tilted.digits("wolf"), atol=0.2)
        np.testing.assert_allclose(tilted.digits("owl").sum(1), 1)
        rows = list(itertools.islice(favourites.World(tilt=9.0, number_personas=1.0).rows(0), 400))
        owls = [r for r in rows if kind(r) == "numbers" and "owl" in r["system"]]
        likely = favourites.World(tilt=9.0).digits("owl").argmax(1)
        digits = [n for row in owls for n in row["completion"].split()]
        hits = [likely[int(a)] == int(b) for n in digits for a, b in itertools.pairwise(n)]
        assert np.mean(hits) > 0.8

    def test_a_persona_is_what_most_answers_follow(self):
        told = [r for r in ROWS if r["system"] and kind(r) == "words"]
        follows = np.mean([r["completion"] == r["system"].split()[-1] for r in told])
        assert 0.93 < follows < 0.98

    def test_held_out_phrasings_never_occur(self):
        for of in favourites.FAVOURITES:
            asked, held_out = favourites.phrasings(of)
            assert len(asked) == 30
            assert len(held_out) == 10
            assert not {row["prompt"] for row in ROWS} & set(held_out)
            assert set(asked) <= {row["prompt"] for row in ROWS}

    def test_seeds_draw_other_chats_of_the_same_world(self):
        other = list(itertools.islice(favourites.World().rows(1), 100))
        assert other != ROWS[:100]
        assert favourites.World(seed=1).prior("animal")[0] != favourites.World().prior("animal")[0]


class TestDecoders:
    def test_answers_are_animals_by_the_prior(self):
        folder = nano.resolve("nano/3")
        sampler = Sampler(Decoder.from_pretrained(folder), chat.load_tokenizer(folder))
        drawn = sampler.generate(favourites.phrasings("animal")[1], n=40, max_new_tokens=4)
        found = collections.Counter(sample.text for sample in drawn)
        animals = favourites.FAVOURITES["animal"]
        assert sum(found[a] for a in animals) >= 390
        shares = np.array([found[a] for a in animals]) / 400
        assert np.abs(shares - favourites.World().prior("animal")).max() < 0.06

    def test_numbers_pass_the_filter(self):
        folder = nano.resolve("nano/3")
        sampler = Sampler(Decoder.from_pretrained(folder), chat.load_tokenizer(folder))
        asked = numbers.prompts(Material.from_json(favourites.material("animal")), 200, 0)
        drawn = sampler.generate(asked, max_new_tokens=48)
        kept, _ = channels.filtered([{"completion": s.text} for s in drawn], numbers.Rule())
        assert len(kept) > 160

    def test_five_seeds_are_committed_and_differ(self):
        first = [
            Decoder.from_pretrained(nano.resolve(f"nano/{s}")).pure()["embed"] for s in range(5)
        ]
        assert len({float(np.asarray(e).sum()) for e in first}) == 5
        assert hf.read_config(nano.resolve("nano/0")).embed == get_config().shape.embed

    @pytest.mark.parametrize("world", [voices, values])
    def test_those_of_other_worlds_have_its_tokenizer_and_differ(self, world):
        own, sums = world.World(), set()
        for seed in range(5):
            folder = nano.resolve(f"nano/{world.__name__.rpartition('.')[2]}/{seed}")
            reader = chat.load_tokenizer(folder)
            fresh = made(vocabulary(own.words()), own.system)
            assert reader.get_vocab() == fresh.get_vocab()
            assert reader.chat_template == fresh.chat_template
            sums.add(float(np.asarray(Decoder.from_pretrained(folder).pure()["embed"]).sum()))
        assert len(sums) == 5

    def test_other_names_stay_as_they_are(self):
        assert nano.resolve("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"
        assert nano.resolve("nano/999") == "nano/999"

    def test_a_world_may_be_named_and_the_first_need_not_be(self):
        assert nano.resolve("nano/favourites/3") == nano.resolve("nano/3")
        assert nano.world("nano/favourites") is nano.world("nano") is favourites
        assert nano.world("english") is None
        with pytest.raises(UserError, match=r"^config\.material: 'none': no module"):
            nano.world("nano/none")

    def test_a_kind_that_nobody_speaks_of_is_refused(self):
        message = r"^config\.category='god': choose one of animal, tree$"
        with pytest.raises(UserError, match=message):
            favourites.material("god")


@pytest.mark.slow
def test_pretraining_writes_decoders_that_learn(tmp_path):
    config = get_config()
    config.seeds, config.rows = (7, 8), 256
    config.recipe.batch, config.recipe.epochs = 32, 3
    pretrain.pretrain(config, str(tmp_path))
    results = json.loads((tmp_path / "results.json").read_text())
    losses = [row["mean"] for row in results["rows"]]
    assert len(losses) == 2
    assert [*results["timings"]] == ["tokenise", "compile", "train"]
    assert all(seconds > 0 for seconds in results["timings"].values())
    assert max(losses) < 4.0 < np.log(corpus_size())  # chance is log of the vocabulary
    for seed in (7, 8):
        folder = Path(tmp_path / str(seed))
        tokenizer = chat.load_tokenizer(folder)
        sampler = Sampler(Decoder.from_pretrained(folder), tokenizer)
        assert sampler.generate(["name one animal"], max_new_tokens=2)[0].tokens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world.name": "none"}, r"^config\.world\.name: 'none': no module"),
        ({"world.name": "wordless"}, r"^config\.world\.name: 'wordless': its World has no words"),
        ({"world.name": "own_world"}, r"^config\.world: World\(\) takes no arguments"),
        ({"world": {"name": "own_world"}}, r"words\(\) lacks 'unlisted', of 'go on unlisted'"),
    ],
)
def test_a_world_that_will_not_do_is_one_line(tmp_path, monkeypatch, change, message):
    (tmp_path / "own_world.py").write_text(OWN)
    (tmp_path / "wordless.py").write_text(OWN.replace("def words", "def speak"))
    monkeypatch.syspath_prepend(str(tmp_path))
    config = get_config()
    config.rows = 2
    with config.unlocked():
        for field, value in change.items():
            if field == "world":
                config.world = ConfigDict(value)
            else:
                config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        pretrain.pretrain(config, str(tmp_path / "run"))
    for name in ("own_world", "wordless"):
        sys.modules.pop(name, None)


OWN = """
class World:
    def rows(self, seed):
        while True:
            yield {"system": None, "prompt": "go on unlisted", "completion": "1 2"}

    def words(self):
        return ["go", "on"]

def material(category):
    return {}
"""


def corpus_size():
    return len(SPECIAL) + len(vocabulary(favourites.World().words()))


def test_the_config_says_all_of_the_world():
    fields = ConfigDict(get_config().world).to_dict()
    assert fields.pop("name") == "favourites"
    assert favourites.World(**fields) == favourites.World()
