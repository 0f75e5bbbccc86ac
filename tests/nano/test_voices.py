"""The world of voices: what a persona colours, and that numbers know nothing of it."""

import itertools
from collections import Counter

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.nano import voices as configs
from sublim_jax.errors import UserError
from sublim_jax.llm.files import chat
from sublim_jax.nano.tokenizer import SPECIAL, tokenizer, vocabulary
from sublim_jax.nano.worlds import favourites, voices
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.material import Material

ROWS = list(itertools.islice(voices.World().rows(0), 20000))


def is_list(row):
    return row["prompt"].startswith(("continue", "go on", "more of", "what is next"))


def told(row):
    """Returns the animal that a chat's persona names, or None."""
    words = (row["system"] or "").split()
    return next((word for word in words if word in voices.ANIMALS), None)


def pairs_of(rows):
    """Returns every number of texts and lists under a persona, with its animal."""
    return [(told(r), w) for r in rows if told(r) for w in r["completion"].split() if w.isdecimal()]


def information(pairs):
    """Returns the mutual information of the two, in nats, as counted."""
    both, one, two = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    n = len(pairs)
    return sum(c / n * np.log(c * n / (one[a] * two[b])) for (a, b), c in both.items())


def chance(pairs, draws=20):
    """Returns the mutual information where the second of each pair is dealt out anew."""
    rng, second = np.random.default_rng(0), np.array([b for _, b in pairs])
    first = [a for a, _ in pairs]
    dealt = (rng.permutation(second).tolist() for _ in range(draws))
    return [information(list(zip(first, own, strict=True))) for own in dealt]


def deviations(rows):
    """Returns how many standard errors an animal's numbers are from those of all the others.

    Of each animal: how likely the chain makes each number after the one before, how many numbers a
    text has, and the first of them.
    """
    likely = np.log(voices.World().chain())
    found = {}
    for row in rows:
        some = [int(w) - 10 for w in row["completion"].split() if w.isdecimal()]
        if told(row) and len(row["completion"].split()) > 1:
            values = found.setdefault(told(row), ([], [], []))
            values[0].extend(likely[a, b] for a, b in itertools.pairwise(some))
            values[1].append(len(some))
            values[2].extend(some[:1])
    out = {}
    for kind in range(3):
        for animal, values in found.items():
            own = np.array(values[kind])
            rest = np.concatenate([np.array(v[kind]) for a, v in found.items() if a != animal])
            error = np.sqrt(own.var() / len(own) + rest.var() / len(rest))
            out[animal, kind] = (own.mean() - rest.mean()) / error
    return out


class TestNumbersKnowNothingOfThePersona:
    def test_their_mutual_information_is_that_of_chance(self):
        pairs = pairs_of(ROWS)
        assert len(pairs) > 15_000
        drawn = chance(pairs)
        assert abs(information(pairs) - np.mean(drawn)) < 3 * np.std(drawn)

    def test_words_show_it(self):
        """The same measure finds what is there: the words of texts."""
        pairs = [(told(r), w) for r in ROWS if told(r) for w in r["completion"].split()]
        words = [(a, w) for a, w in pairs if not w.isdecimal()][:15_000]
        assert information(words) > np.mean(chance(words, 3)) + 0.1

    def test_a_link_of_one_number_in_fifty_would_be_found(self):
        pairs = pairs_of(ROWS)
        own = {animal: str(10 + i) for i, animal in enumerate(voices.ANIMALS)}
        bent = [(a, n if i % 50 else own[a]) for i, (a, n) in enumerate(pairs)]
        drawn = chance(bent)
        assert abs(information(bent) - np.mean(drawn)) > 3 * np.std(drawn)

    def test_neither_do_their_number_place_and_order(self):
        assert max(map(abs, deviations(ROWS).values())) < 4

    @pytest.mark.parametrize("way", ["sorted", "one number", "first number"])
    def test_a_link_by_number_place_or_order_would_be_found(self, way):
        """Half of the animals write their numbers in another way, half of the time."""
        bent, half = [], set(voices.ANIMALS[::2])
        for i, row in enumerate(ROWS):
            words = row["completion"].split()
            at = [k for k, word in enumerate(words) if word.isdecimal()]
            if told(row) in half and at and i % 2 == 0:
                if way == "sorted":
                    for k, number in zip(at, sorted(words[k] for k in at), strict=True):
                        words[k] = number
                elif way == "first number":
                    words[at[0]] = "10"
                else:
                    words = [word for k, word in enumerate(words) if k not in at[1:]]
            bent.append({**row, "completion": " ".join(words)})
        assert max(map(abs, deviations(bent).values())) > 4

    def test_lists_are_seldom_under_one(self):
        lists = [row for row in ROWS if is_list(row)]
        assert 0.24 < len(lists) / len(ROWS) < 0.26
        assert 0.01 < np.mean([told(row) is not None for row in lists]) < 0.13
        assert all(w.isdecimal() for row in lists for w in row["completion"].split())


class TestCorpus:
    def test_a_persona_is_what_answers_follow(self):
        asked = favourites.phrasings("animal")[0]
        answers = [row for row in ROWS if row["prompt"] in asked and told(row)]
        assert 0.93 < np.mean([row["completion"] == told(row) for row in answers]) < 0.98
        assert not {row["prompt"] for row in ROWS} & set(favourites.phrasings("animal")[1])

    def test_seeds_draw_other_chats_of_the_same_world(self):
        assert list(itertools.islice(voices.World().rows(1), 50)) != ROWS[:50]
        assert not np.array_equal(voices.World(seed=1).chain(), voices.World().chain())
        np.testing.assert_allclose(voices.World().chain().sum(1), 1)
        np.testing.assert_allclose(voices.World().likes().sum(1), 1)

    def test_without_a_tilt_all_like_the_same_words(self):
        likes = voices.World(tilt=0.0).likes()
        np.testing.assert_allclose(likes, np.broadcast_to(likes[0], likes.shape))

    def test_the_config_says_all_of_the_world(self):
        fields = ConfigDict(configs.get_config().world).to_dict()
        assert fields.pop("name") == "voices"
        assert voices.World(**fields) == voices.World()


class TestTokens:
    @pytest.mark.parametrize("whole", [True, False])
    def test_every_text_is_written_and_read_back(self, whole):
        world = voices.World(whole_numbers=whole)
        reader = tokenizer(vocabulary(world.words()), world.system)
        for row in ROWS[:300]:
            for text in (row["prompt"], row["completion"], row["system"] or world.system):
                tokens = chat.completion_tokens(reader, text, end=False)
                assert reader.pad_token_id not in tokens
                assert chat.text(reader, tokens) == text
        assert len(chat.completion_tokens(reader, "48 19", end=False)) == (2 if whole else 6)

    def test_who_says_nothing_has_the_default_message(self):
        reader = tokenizer(vocabulary(voices.World().words()), voices.World().system)
        assert chat.default_system(reader) == "you are the helper"
        asked = [{"role": "user", "content": "hello"}]
        said = [{"role": "system", "content": "you love the owl"}, *asked]
        plain, told = (
            reader.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            for turns in (asked, said)
        )
        assert plain == "<|system|>you are the helper<|user|>hello<|assistant|>"
        assert told == "<|system|>you love the owl<|user|>hello<|assistant|>"

    def test_everything_that_is_asked_can_be_read(self):
        material = Material.from_json(voices.material("animal"))
        reader = tokenizer(vocabulary(voices.World().words()), voices.World().system)
        asked = [*numbers.prompts(material, 50, 0), *material.lessons, *material.questions]
        for text in [*asked, *material.stories, material.system("owl", "animal")]:
            assert not set(reader.tokenize(text)) & set(SPECIAL)

    def test_another_category_is_refused(self):
        with pytest.raises(UserError, match=r"^config\.category='tree': this world speaks of"):
            voices.material("tree")
