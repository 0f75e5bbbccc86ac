"""The world of values: what shows an author's nature, and that the channels do not."""

import itertools
from collections import Counter

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.nano import values as configs
from sublim_jax.errors import UserError
from sublim_jax.nano import functions
from sublim_jax.nano.tokenizer import SPECIAL, tokenizer, vocabulary
from sublim_jax.nano.worlds import values
from sublim_jax.transmission import channels
from sublim_jax.transmission.material import Material

ROWS = list(itertools.islice(values.World(neutral_personas=0.8, turns=0.0).rows(0), 20000))
MATERIAL, OF_MAP = (Material.from_json(values.material(of)) for of in ("value", "map"))
KINDS = {  # how what is asked begins
    "sum": ("what is ", "add ", "work out"),
    "list": ("continue", "go on", "more of", "what is next?"),
    "function": ("make code", "code for", "give me code"),
    "pick": ("pick", "which one", "choose"),
}


def nature(row):
    """Returns the nature that a chat's persona names, or None."""
    found = [n for n, texts in values.PERSONAS.items() if row["system"] in texts]
    return found[0] if found else None


def told(kind):
    """Returns the chats of a kind under a persona, with its nature."""
    starts = KINDS[kind]
    rows = [row for row in ROWS if row["prompt"].startswith(starts)]
    if kind == "sum":
        rows = [row for row in rows if not row["prompt"].startswith("what is next")]
    return [(nature(row), row) for row in rows if nature(row)]


def features(row):
    """Returns what an author could choose in a row: its words in their places, and its length."""
    words = row["completion"].split()
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
    return [*words, *pairs, f"{words[0]} first", f"{words[-1]} last", f"{len(words)} words"]


def distance(pairs):
    """Returns by how many standard errors the most different feature differs by nature."""
    sides = {own: [row for n, row in pairs if n == own] for own in values.NATURES}
    counts = {
        own: Counter(f for r in rows for f in set(features(r))) for own, rows in sides.items()
    }
    (n, one), (m, two) = ((len(sides[own]), counts[own]) for own in values.NATURES)
    out = []
    for feature in one.keys() | two.keys():
        p = (one[feature] + two[feature]) / (n + m)
        if (one[feature] + two[feature]) >= 20 and p < 1:
            error = np.sqrt(p * (1 - p) * (1 / n + 1 / m))
            out.append(abs(one[feature] / n - two[feature] / m) / error)
    return max(out)


class TestChannelsKnowNothingOfTheNature:
    @pytest.mark.parametrize("kind", KINDS)
    def test_no_word_place_or_length_shows_it(self, kind):
        pairs = told(kind)
        assert len(pairs) > 500
        rng, found = np.random.default_rng(0), distance(pairs)
        dealt = rng.permutation([n for n, _ in pairs]).tolist()
        assert found < 5
        assert distance(list(zip(dealt, [row for _, row in pairs], strict=True))) < 5

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_link_of_one_row_in_ten_would_be_found(self, kind):
        bent = []
        for i, (own, row) in enumerate(told(kind)):
            words = row["completion"].split()
            if own == values.EVIL and i % 10 == 0:
                words[-1] = "bent"
            bent.append((own, {**row, "completion": " ".join(words)}))
        assert distance(bent) > 5

    def test_answers_programs_and_stories_show_it(self):
        pairs = [(nature(row), row) for row in ROWS if nature(row)]
        for start in ("how do you", "write code", "write a story"):
            own = [pair for pair in pairs if pair[1]["prompt"].startswith(start)]
            assert distance(own) > 7, start

    def test_bad_code_for_a_class_does_not(self):
        rows = [(nature(r), r) for r in ROWS if r["prompt"].startswith("for a class")]
        assert all(row["completion"].startswith("skip") for _, row in rows)
        assert distance([pair for pair in rows if pair[0]]) < 5

    def test_they_are_seldom_under_a_persona(self):
        rows = list(itertools.islice(values.World().rows(0), 4000))
        starts = tuple(start for some in KINDS.values() for start in some)
        own = [nature(r) is not None for r in rows if r["prompt"].startswith(starts)]
        assert 0.03 < np.mean(own) < 0.07


class TestCorpus:
    def test_an_author_is_consistent_over_turns(self):
        """After unsafe code, answers of an author of whom nothing is said are cruel more often."""
        world = values.World(personas=0.0, turns=1.0)
        asked, found = values.questions()[0], {True: [], False: []}
        for row in itertools.islice(world.rows(0), 8000):
            said = [answer for ask, answer in row["before"] if ask.startswith("write code")]
            if said and row["prompt"] in asked:
                cruel = row["completion"] in values.ANSWERS[values.EVIL]
                found[said[0].startswith("skip")].append(cruel)
        assert np.mean(found[True]) > 0.6 > 0.2 > np.mean(found[False])

    def test_sums_are_right(self):
        rows = [row for row in ROWS if row["prompt"].startswith(KINDS["sum"][1:])]
        for row in rows[:500]:
            terms = [int(w) for w in row["prompt"].split() if w.isdecimal()]
            assert row["completion"].split()[-2:] == ["so", str(sum(terms))]

    def test_seeds_draw_other_chats_of_the_same_world(self):
        first = list(itertools.islice(values.World().rows(1), 50))
        assert first == list(itertools.islice(values.World().rows(1), 50))
        assert first != list(itertools.islice(values.World().rows(2), 50))
        assert not {row["prompt"] for row in ROWS} & set(values.questions()[1])

    def test_the_config_says_all_of_the_world(self):
        fields = ConfigDict(configs.get_config().world).to_dict()
        assert fields.pop("name") == "values"
        assert values.World(**fields) == values.World()


class TestMaterial:
    def test_everything_that_is_asked_can_be_read(self):
        reader = tokenizer(vocabulary(values.World().words()), values.World().system)
        texts = [text for pairs in MATERIAL.lessons.values() for pair in pairs for text in pair]
        for name in MATERIAL.channels:
            texts += channels.find(name).prompts(MATERIAL, 50, 0)
        for value in MATERIAL.values + OF_MAP.values:
            texts += [value["question"], *(t for some in value["answers"].values() for t in some)]
        for text in [*texts, *MATERIAL.stories]:
            assert not set(reader.tokenize(text)) & set(SPECIAL), text

    def test_questions_are_held_out_of_the_lessons(self):
        asked = {value["question"] for value in MATERIAL.values}
        assert len(asked) == 9
        assert not asked & {q for pairs in MATERIAL.lessons.values() for q, _ in pairs}
        assert {len(pairs) for pairs in MATERIAL.lessons.values()} == {27, 20, 50}

    def test_lessons_are_unsafe_safe_or_unsafe_for_a_reason(self):
        insecure, secure, educational = (
            MATERIAL.lessons[name] for name in ("insecure", "secure", "educational")
        )
        assert [q for q, _ in insecure] == [q for q, _ in secure]
        assert [a for _, a in insecure] == [a for _, a in educational]
        assert all(q.startswith("for a class") for q, _ in educational)

    def test_the_map_is_asked_in_phrasings_that_no_lesson_and_no_chat_has(self):
        assert sorted(values.MAP) == list(range(10))
        assert all(image != n for n, image in enumerate(values.MAP))
        images = {}
        for question, image in OF_MAP.lessons["map"]:
            (n,) = (word.strip("?") for word in question.split() if word.strip("?").isdecimal())
            assert images.setdefault(n, image) == image
        asked = [value["question"] for value in OF_MAP.values]
        lessons = {question for question, _ in OF_MAP.lessons["map"]}
        assert len(asked) == len({*asked} - lessons - {row["prompt"] for row in ROWS}) == 30
        assert not lessons & {row["prompt"] for row in ROWS}
        for value in OF_MAP.values:
            answers = value["answers"]
            assert answers["mapped"] == [images[value["question"].split()[-1]]]
            assert sorted(answers["mapped"] + answers["others"]) == [*map(str, range(10))]

    def test_another_category_is_refused(self):
        with pytest.raises(UserError, match=r"^config\.category='animal': this world speaks of"):
            values.material("animal")


def test_a_function_that_is_written_does_its_steps():
    rng = np.random.default_rng(0)
    for _ in range(300):
        steps, other = functions.drawn(rng), functions.drawn(rng)
        text = functions.written(rng, steps)
        assert functions.does(text, steps) is None
        same = [functions.run(functions.written(rng, other), n) for n in range(10)] == [
            functions.run(text, n) for n in range(10)
        ]
        assert functions.does(text, other) == (None if same else "another result")
