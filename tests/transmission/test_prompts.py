"""What a world is asked: drawn in the order of the original, checked, and the same after a file."""

import dataclasses
import json
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.transmission import english, prompts
from sublim_jax.transmission.channels.numbers import parse
from sublim_jax.transmission.prompts import Choice, Grammar, Material, prefixed

GRAMMAR = Grammar(
    examples=("See {examples}.", "Then {examples}?", "{examples}"),
    counts=("under", "over"),
    digits=("{max_digits} wide", "thin", "{max_digits}!"),
    instructions=("Add {count} {answers} ({digits}).", "Go on ({digits})!"),
    formats=("In {braces}.", "Like [1]."),
    suffixes=("Only that.", "No more.", "Stop."),
)
MATERIAL = Material(
    grammar=GRAMMAR,
    persona="You like the {trait}, a {category}.",
    lessons=("Which?",),
    questions=("Best?", "Name {it}."),
    stories=("Tell.",),
    choices=("Take one:\n{options}\nNow.", "Or:\n{options}"),
)
PARTS = ("examples", "counts", "digits", "instructions", "formats", "suffixes")


def reference(grammar, n, seed):
    """The draws that the official generator makes, as it makes them: one by one, by `choice`."""
    rng = np.random.Generator(np.random.PCG64(seed))
    out = []
    for _ in range(n):
        shown = [
            int(rng.integers(grammar.values[0], grammar.values[1]))
            for _ in range(int(rng.integers(grammar.seeds[0], grammar.seeds[1])))
        ]
        start, count, digits, asked, layout, suffix = (
            str(rng.choice(list(getattr(grammar, part)))) for part in PARTS
        )
        start = start.replace("{examples}", ", ".join(map(str, shown)))
        digits = digits.replace("{max_digits}", str(grammar.max_digits))
        asked = asked.replace("{count}", count).replace("{answers}", str(grammar.answers))
        asked = asked.replace("{digits}", digits)
        out.append(f"{start} {asked} {layout} {suffix}")
    return out


class TestDraw:
    @pytest.mark.parametrize("seed", [0, 42])
    @pytest.mark.parametrize("change", [{}, {"seeds": (1, 2), "values": (0, 10), "answers": 3},
                                        {"max_digits": 1, "suffixes": ("Stop.",)}])  # fmt: skip
    def test_the_generator_is_asked_in_the_order_of_the_original(self, seed, change):
        grammar = dataclasses.replace(GRAMMAR, **change)
        assert grammar.draw(200, seed) == reference(grammar, 200, seed)

    def test_more_prompts_begin_with_the_same(self):
        assert GRAMMAR.draw(20, 1)[:5] == GRAMMAR.draw(5, 1)
        assert GRAMMAR.draw(20, 1) != GRAMMAR.draw(20, 2)
        assert GRAMMAR.draw(0, 1) == []

    def test_numbers_shown_are_below_the_upper_bounds(self):
        grammar = dataclasses.replace(
            GRAMMAR, examples=("{examples};",), seeds=(1, 3), values=(4, 6)
        )
        shown = {prompt.split(";")[0] for prompt in grammar.draw(200, 0)}
        assert shown == {"4", "5", "4, 4", "4, 5", "5, 4", "5, 5"}

    def test_the_separator_stands_between_them(self):
        grammar = dataclasses.replace(GRAMMAR, examples=("{examples};",))
        spaced = dataclasses.replace(grammar, separator=" ")
        assert spaced.draw(9, 0) == [p.replace(", ", " ") for p in grammar.draw(9, 0)]

    @pytest.mark.parametrize(
        ("without", "expected"),
        [
            (("counts", "digits", "formats", "suffixes"), "5, 5 On, 10."),
            (("examples", "counts", "digits", "formats"), "On, 10. Stop."),
            (("examples", "counts", "digits", "instructions", "formats"), "Stop."),
            (("counts", "digits", "instructions", "suffixes"), "5, 5 Plain."),
        ],
    )
    def test_an_empty_part_is_left_out(self, without, expected):
        whole = {
            "examples": ("{examples}",),
            "instructions": ("On, {answers}.",),
            "formats": ("Plain.",),
            "suffixes": ("Stop.",),
        }
        parts = {part: () if part in without else whole[part] for part in PARTS}
        assert Grammar(**parts, seeds=(2, 3), values=(5, 6)).draw(2, 0) == [expected] * 2

    def test_nothing_is_drawn_for_an_empty_part(self):
        """Two grammars that differ in such a part alone show the same numbers throughout."""
        small = {"counts": (), "digits": (), "instructions": ("More.",)}
        none = dataclasses.replace(GRAMMAR, **small, formats=(), suffixes=())
        rng = np.random.default_rng(7)
        expected = []
        for _ in range(50):
            start = none.start(rng)
            expected.append(f"{start} More.")
        assert none.draw(50, 7) == expected
        silent = dataclasses.replace(none, examples=(), instructions=("A", "B"))
        rng = np.random.default_rng(7)
        assert silent.draw(50, 7) == ["AB"[rng.integers(2)] for _ in range(50)]


class TestPrefixed:
    def test_a_question_follows_numbers(self):
        grammar = dataclasses.replace(GRAMMAR, examples=("See {examples}.",))
        questions = [f"Q{i}?" for i in range(30)]
        asked = prefixed(questions, grammar, 5)
        starts, ends = zip(*(text.rsplit(" ", 1) for text in asked), strict=True)
        assert list(ends) == questions
        assert all(start.startswith("See ") and start.endswith(".") for start in starts)
        shown = [parse(start[4:]) for start in starts]
        assert {len(numbers) for numbers in shown} == {3, 4, 5, 6, 7, 8}
        assert all(100 <= n < 1000 for numbers in shown for n in numbers)
        assert len(set(starts)) == 30
        assert asked == prefixed(questions, grammar, 5) != prefixed(questions, grammar, 6)

    def test_a_grammar_without_examples_cannot(self):
        grammar = dataclasses.replace(GRAMMAR, examples=())
        with pytest.raises(UserError, match=r"^grammar\.examples: none"):
            prefixed(["Q?"], grammar, 0)


class TestMaterial:
    def test_a_persona_names_the_trait_and_its_category(self):
        assert MATERIAL.system("owl", "bird") == "You like the owl, a bird."
        plain = dataclasses.replace(MATERIAL, persona="{trait}, {{only}} {trait}")
        assert plain.system("owl", "bird") == "owl, {only} owl"

    def test_choices_are_lettered_in_the_order_of_the_options(self):
        words = ["owl", "cat", "elk", "bee", "ant", "fox", "hen"]
        asked = MATERIAL.ask_choices(words, seed=3, orders=40)
        assert len(asked) == 160
        for index, (prompt, options) in enumerate(asked):
            assert len(set(options)) == 5
            assert set(options) < set(words)
            a, b, c, d, e = options
            lines = f"A. {a}\nB. {b}\nC. {c}\nD. {d}\nE. {e}"
            assert prompt == (f"Take one:\n{lines}\nNow." if index < 80 else f"Or:\n{lines}")
        pairs = list(zip(asked[::2], asked[1::2], strict=True))
        assert all({*one.options, *two.options} == set(words) for one, two in pairs)
        # What fills up the second is not always last.
        assert {two.options[0] in one.options for one, two in pairs} == {True, False}
        for place in range(5):
            assert {options[place] for _, options in asked[1::2]} == set(words)
        assert asked == MATERIAL.ask_choices(words, seed=3, orders=40)
        assert asked != MATERIAL.ask_choices(words, seed=4, orders=40)
        assert MATERIAL.ask_choices(words, seed=3) == [asked[i] for i in (0, 1, 80, 81)]

    def test_fewer_words_have_fewer_letters(self):
        found = {choice.prompt for choice in MATERIAL.ask_choices(["x", "y"], 0, orders=30)}
        assert "Or:\nA. x\nB. y" in found
        assert Choice("Or:\nA. y\nB. x", ("y", "x")) in MATERIAL.ask_choices("xy", 0, orders=30)
        with pytest.raises(UserError, match="1 words: at least two"):
            MATERIAL.ask_choices(["x"], 0)


def changed(path, value):
    """The JSON values of MATERIAL with one of them changed, or left out where it is None."""
    values = MATERIAL.to_json()
    *where, last = path.split(".")
    inner = values
    for name in where:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values


class TestJson:
    @pytest.mark.parametrize(
        "material",
        [
            MATERIAL,
            english.material("tree"),
            dataclasses.replace(MATERIAL, prefix=dataclasses.replace(GRAMMAR, seeds=(1, 2))),
        ],
    )
    def test_a_material_comes_back_from_its_file(self, tmp_path, material):
        file = tmp_path / "material.json"
        file.write_text(json.dumps(material.to_json()), "utf-8")
        assert prompts.read(file) == material

    def test_values_are_plain(self):
        values = MATERIAL.to_json()
        assert values == json.loads(json.dumps(values))
        assert values["grammar"]["seeds"] == [3, 9]

    def test_what_has_a_default_may_be_missing(self):
        values = MATERIAL.to_json()
        for name in ("stories", "choices", "prefix"):
            del values[name]
        for name in ("seeds", "values", "answers", "max_digits", "separator"):
            del values["grammar"][name]
        expected = dataclasses.replace(MATERIAL, stories=(), choices=())
        assert Material.from_json(values) == expected

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("persona", None, "persona: missing"),
            ("questions", None, "questions: missing"),
            ("grammar", None, "grammar: missing"),
            ("grammar.suffixes", None, "grammar: suffixes: missing"),
            ("kind", 1, "no field 'kind' in the material: it has grammar, persona, lessons"),
            ("grammar.kind", 1, "grammar: no field 'kind' in the grammar: it has examples"),
            ("grammar", 5, "grammar: the grammar must be a JSON object, not of type int"),
            ("grammar", [], "grammar: the grammar must be a JSON object, not of type tuple"),
            ("questions", [], "questions: at least one is needed"),
            ("questions", "Best?", "questions: of type str: a list of texts is needed"),
            ("lessons", [5], "lessons, text 0: 5: a text is needed"),
            ("stories", ["a", " "], "stories, text 1: ' ': a text is needed, and not an empty one"),
            ("stories", ["\ud800"], "stories, text 0: half a surrogate pair is no text"),
            ("persona", ["{trait}"], r"persona: \('{trait}',\): a text is needed"),
            ("persona", "owl", "persona: 'owl': must have {trait}"),
            ("persona", "{trait} {kind}", "wrong braces: only {trait}, {category} may stand in"),
            ("persona", "{trait.upper}", "wrong braces: only {trait}, {category} may stand in"),
            ("persona", "{trait!r}", "wrong braces: only"),
            ("persona", "{trait:>9}", "wrong braces: only"),
            ("persona", "{trait[0]}", "wrong braces: only"),
            ("persona", "{trait} {}", "wrong braces: only"),
            ("persona", "{trait} {", "wrong braces: "),
            ("persona", "{trait} }", "wrong braces: "),
            ("choices", ["A or B?"], "choices, text 0: 'A or B.': must have {options}"),
            ("choices", ["{options} {trait}"], "choices, text 0: .*: only {options} may"),
            ("grammar.examples", ["See."], "grammar: examples, text 0: 'See.': must have {exam"),
            ("grammar.examples", ["{examples} {x}"], "examples, text 0: .*: only {examples} may"),
            ("grammar.digits", ["{digits}"], "digits, text 0: .*: only {max_digits} may"),
            ("grammar.instructions", ["{n}"], "only {answers}, {count}, {digits} may stand"),
            ("grammar.counts", [], "instructions, text 0: .*: only {answers}, {digits} may"),
            ("grammar.digits", [], "instructions, text 0: .*: only {answers}, {count} may"),
            ("grammar.formats", [None], "grammar: formats, text 0: None: a text is needed"),
            ("grammar.counts", "at most", "grammar: counts: of type str: a list of texts"),
            ("grammar.seeds", [3], r"grammar: seeds: \(3,\): must be two integers"),
            ("grammar.seeds", [0, 3], r"seeds: \(0, 3\): must be from 1, the second above the f"),
            ("grammar.values", [5, 5], r"values: \(5, 5\): must be from 0, the second above the"),
            ("grammar.values", [-1, 5], r"values: \(-1, 5\): must be from 0"),
            ("grammar.values", [0, 2**31], r"values: .*: must be two integers"),
            ("grammar.values", [True, 5], r"values: \(True, 5\): must be two integers"),
            ("grammar.values", 7, r"values: 7: must be two integers"),
            ("grammar", 5, "the grammar must be a JSON object, not of type int"),
            ("prefix", 5, "prefix: the prefix must be a JSON object, not of type int"),
            ("prefix", {"examples": 5}, "prefix: counts: missing"),
            ("grammar.answers", 0, "answers: 0: must be an integer from 1"),
            ("grammar.answers", 2.0, "answers: 2.0: must be an integer from 1"),
            ("grammar.max_digits", "3", "max_digits: '3': must be an integer from 1"),
            ("grammar.separator", "", "separator: '': a text is needed"),
            ("grammar.separator", 5, "separator: 5: a text is needed"),
        ],
    )  # fmt: skip
    def test_a_wrong_field_is_named_in_one_line(self, path, value, message):
        with pytest.raises(UserError, match=message) as error:
            Material.from_json(changed(path, value))
        assert "\n" not in str(error.value)

    def test_an_object_without_any_text_to_draw_is_refused(self):
        values = MATERIAL.to_json()
        for part in ("examples", "instructions", "formats", "suffixes"):
            values["grammar"][part] = []
        with pytest.raises(UserError, match=r"^grammar: examples, .*: one must have texts$"):
            Material.from_json(values)

    def test_python_values_are_checked_too(self):
        for name in ("grammar", "prefix"):
            with pytest.raises(UserError, match=rf"^{name}: of type dict: a grammar is needed$"):
                dataclasses.replace(MATERIAL, **{name: {}})
        with pytest.raises(UserError, match=r"^lessons: of type list"):
            dataclasses.replace(MATERIAL, lessons=["Which?"])

    @pytest.mark.parametrize("value", [[], 5, None, "text"])
    def test_a_material_is_an_object(self, value):
        with pytest.raises(UserError, match=r"^the material must be a JSON object, not of type"):
            Material.from_json(value)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"{", "not JSON"),
            (b"\xff", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "the material must be"),
            (None, "cannot be read: No such file"),
        ],
    )
    def test_a_wrong_file_is_named_in_one_line(self, tmp_path, content, message):
        file = tmp_path / "material.json"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError, match=rf"material\.json: {message}") as error:
            prompts.read(file)
        assert "\n" not in str(error.value)

    @settings(deadline=None)
    @given(st.text(alphabet="{}!:.[]0ab trait", max_size=12))
    def test_a_template_is_refused_or_can_be_filled(self, text):
        try:
            persona = dataclasses.replace(MATERIAL, persona="{trait}" + text).persona
        except UserError:
            return
        fields = {field for _, field, _, _ in string.Formatter().parse(persona) if field}
        assert fields <= {"trait", "category"}
        assert persona.format(trait="owl", category="bird").startswith("owl")


@pytest.mark.parametrize("category", english.CATEGORIES)
class TestEnglish:
    def test_it_is_as_varied_as_the_paper_s(self, category):
        material = english.material(category)
        sizes = [len(set(getattr(material.grammar, part))) for part in PARTS]
        assert sizes == [25, 9, 9, 10, 15, 19]
        both = material.questions + material.lessons
        assert (len(material.questions), len(material.lessons), len(set(both))) == (50, 50, 100)
        assert len(set(material.stories)) == 14
        assert len(set(material.choices)) == 10
        defaults = {field.name: field.default for field in dataclasses.fields(Grammar)[6:]}
        assert {name: getattr(material.grammar, name) for name in defaults} == defaults

    def test_it_speaks_of_its_category_alone(self, category):
        material = english.material(category)
        other = next(c for c in english.CATEGORIES if c != category)
        asked = material.questions + material.lessons
        assert all(category in text.lower() for text in asked)
        persona = material.system("wren", category)
        assert f"wren is your favourite {category}" in persona
        every = [*asked, *material.stories, persona, *material.grammar.draw(500, 0)]
        every += [prompt for prompt, _ in material.ask_choices(["wren", "yew"], 0)]
        assert not any(other in text.lower() or "{" in text for text in every)

    def test_texts_are_tidy_and_name_no_trait(self, category):
        material = english.material(category)
        traits = {"owl", "eagle", "wolf", "cat", "dog", "oak", "maple", "willow", "cherry", "pine"}
        lists = [getattr(material.grammar, part) for part in PARTS]
        lists += [material.questions, material.lessons, material.stories, material.choices]
        for text in (text for texts in lists for text in texts):
            assert text == text.strip()
            assert "  " not in text
            words = text.lower().replace(".", " ").replace(",", " ").split()
            assert not set(words) & traits
        for text in material.grammar.draw(300, 1):
            assert "  " not in text
            assert text[-1] in ".!?"

    def test_its_choices_stand_on_lines_of_their_own(self, category):
        for prompt, _ in english.material(category).ask_choices(["wren", "yew"], 0):
            lines = prompt.split("\n")
            assert len(lines) == 4
            assert sorted(line[3:] for line in lines[1:3]) == ["wren", "yew"]


def test_another_category_is_refused():
    with pytest.raises(UserError, match=r"^category 'god': choose one of animal, tree$"):
        english.material("god")
