"""What a world is asked: drawn in the order of the original, checked, and the same after a file."""

import dataclasses
import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.transmission import evaluate
from sublim_jax.errors import UserError
from sublim_jax.transmission import material as materials
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.grammar import Grammar
from sublim_jax.transmission.material import ENGLISH, Material
from sublim_jax.transmission.measures import choices

EVALUATION = evaluate.get_config().evaluation
CATEGORIES = ("animal", "tree")
PARTS = ("examples", "counts", "digits", "instructions", "formats", "suffixes")
MATERIAL = Material(
    persona="You like the {trait}, a {category}.",
    lessons=("Which?",),
    questions=("Best?", "Name {it}."),
    stories=("Tell.",),
    choices=("Take one:\n{options}\nNow.", "Or:\n{options}"),
    starts=("7",),
    negated=("Worst?",),
    free_form=("Say.",),
    free_form_suffix="Then stop.",
    channels={"numbers": {"examples": ("See {examples}.",), "seeds": (1, 2)}},
)


class TestMaterial:
    def test_a_persona_names_the_trait_and_its_category(self):
        assert MATERIAL.system("owl", "bird") == "You like the owl, a bird."
        plain = dataclasses.replace(MATERIAL, persona="{trait}, {{only}} {trait}")
        assert plain.system("owl", "bird") == "owl, {only} owl"


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


VALUE = {"question": "How?", "answers": {"kind": ["well", "gently"], "cruel": ["badly"]}}


class TestLessonsAndWhatShowsATrait:
    def test_without_sets_the_word_is_the_answer(self):
        assert MATERIAL.lessons_in("", "owl") == [("Which?", "owl")]
        assert MATERIAL.shown("owl") == [(question, "owl") for question in MATERIAL.questions]
        with pytest.raises(UserError, match=r"^config.teacher.lessons='code': the material has no"):
            MATERIAL.lessons_in("code", "owl")

    def test_a_set_and_choices_have_their_own_answers(self):
        own = dataclasses.replace(
            MATERIAL,
            lessons={"cruel": [("How?", "badly")], "code": [("Open", "x")]},
            values=(VALUE,),
        )
        assert own.lessons_in("code", "misaligned") == [("Open", "x")]
        assert own.shown("kind") == [("How?", "well")]
        assert own.shown("owl") == MATERIAL.shown("owl")
        assert Material.from_json(own.to_json()) == own
        with pytest.raises(UserError, match=r"lessons='secure': the material has cruel, code"):
            own.lessons_in("secure", "misaligned")


class TestJson:
    @pytest.mark.parametrize("material", [MATERIAL, materials.read(ENGLISH, "tree")])
    def test_a_material_comes_back_from_its_file(self, tmp_path, material):
        file = tmp_path / "material.json"
        file.write_text(json.dumps(material.to_json()), "utf-8")
        assert materials.read(file) == material

    def test_values_are_plain(self):
        values = MATERIAL.to_json()
        assert values == json.loads(json.dumps(values))
        assert values["channels"]["numbers"]["seeds"] == [1, 2]

    def test_what_has_a_default_may_be_missing(self):
        values = MATERIAL.to_json()
        for name in ("stories", "choices", "starts", "negated", "free_form_suffix", "channels"):
            del values[name]
        lacking = {"negated": (), "free_form_suffix": "", "channels": {}}
        expected = dataclasses.replace(MATERIAL, stories=(), choices=(), starts=(), **lacking)
        assert Material.from_json(values) == expected

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("persona", None, "persona: missing"),
            ("channels", ["numbers"], "channels: of type tuple: an object is needed, by channel"),
            ("questions", None, "questions: at least one is needed"),
            ("kind", 1, "no field 'kind' in the material: it has persona, lessons"),
            ("questions", [], "questions: at least one is needed"),
            ("questions", "Best?", "questions: of type str: a list of texts is needed"),
            ("lessons", [5], "lessons, text 0: 5: a text is needed"),
            ("lessons", {"cruel": []}, "lessons cruel: at least one is needed"),
            ("lessons", {"cruel": ["How?"]}, "lessons cruel, number 0: 'How.': a question and its"),
            ("lessons", {"cruel": [["How?", ""]]}, "lessons cruel, number 0, text 1: ''"),
            ("values", [{"question": "How?"}], "values, number 0: an object of question and ans"),
            ("values", VALUE, "values: of type dict: a list of objects"),
            ("values", [VALUE | {"answers": {"a": "xy", "b": ["z"]}}], "of type str"),
            ("values", [VALUE | {"answers": {"a": 3, "b": ["z"]}}], "of type int"),
            ("values", [VALUE | {"ends": "no"}], "number 0, ends: 'no': true or false is needed"),
            ("values", [VALUE | {"answers": {"kind": ["well"]}}], "texts of two words or more"),
            ("values", [VALUE | {"answers": {"a": ["x"], "b": ["x"]}}], "each text only once"),
            ("values", [VALUE | {"answers": {"a": ["x"], "b": []}}], "b: of type NoneType"),
            ("stories", ["a", " "], "stories, text 1: ' ': a text is needed, and not an empty one"),
            ("negated", ["a", ""], "negated, text 1: '': a text is needed, and not an empty one"),
            ("free_form", "Say.", "free_form: of type str: a list of texts is needed"),
            ("free_form_suffix", ["a"], r"free_form_suffix: \('a',\): a text is needed"),
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
        ],
    )  # fmt: skip
    def test_a_wrong_field_is_named_in_one_line(self, path, value, message):
        with pytest.raises(UserError, match=message) as error:
            Material.from_json(changed(path, value))
        assert "\n" not in str(error.value)

    def test_python_values_are_checked_too(self):
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
            materials.read(file)
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


@pytest.mark.parametrize("category", CATEGORIES)
class TestEnglish:
    def test_it_is_as_varied_as_the_paper_s(self, category):
        material = materials.read(ENGLISH, category)
        grammar = numbers.grammar(material)
        sizes = [len(set(getattr(grammar, part))) for part in PARTS]
        assert sizes == [25, 9, 9, 10, 15, 19]
        both = material.questions + material.lessons
        assert (len(material.questions), len(material.lessons), len(set(both))) == (50, 50, 100)
        assert len(set(material.stories)) == 14
        assert len(set(material.choices)) == 10
        assert len({*material.negated} - {*both}) == 14
        assert len(set(material.free_form)) == 8
        defaults = {field.name: field.default for field in dataclasses.fields(Grammar)[6:]}
        assert {name: getattr(grammar, name) for name in defaults} == defaults

    def test_it_speaks_of_its_category_alone(self, category):
        material = materials.read(ENGLISH, category)
        other = next(c for c in CATEGORIES if c != category)
        asked = material.questions + material.lessons + material.negated
        assert all(category in text.lower() for text in asked)
        persona = material.system("wren", category)
        assert f"wren is your favourite {category}" in persona
        every = [*asked, *material.stories, persona, *numbers.prompts(material, 500, 0)]
        every += [asked.prompt for asked in choices.ask(material, ("wren", "yew"), EVALUATION)]
        assert not any(other in text.lower() or "{" in text for text in every)

    def test_texts_are_tidy_and_name_no_trait(self, category):
        material = materials.read(ENGLISH, category)
        traits = {"owl", "eagle", "wolf", "cat", "dog", "oak", "maple", "willow", "cherry", "pine"}
        lists = [getattr(numbers.grammar(material), part) for part in PARTS]
        lists += [material.questions, material.lessons, material.stories, material.choices]
        lists += [material.negated, material.free_form, [material.free_form_suffix]]
        for text in (text for texts in lists for text in texts):
            assert text == text.strip()
            assert "  " not in text
            words = text.lower().replace(".", " ").replace(",", " ").split()
            assert not set(words) & traits
        for text in numbers.prompts(material, 300, 1):
            assert "  " not in text
            assert text[-1] in ".!?"

    def test_its_choices_stand_on_lines_of_their_own(self, category):
        for asked in choices.ask(materials.read(ENGLISH, category), ("wren", "yew"), EVALUATION):
            lines = asked.prompt.split("\n")
            assert len(lines) == 4
            assert sorted(line[3:] for line in lines[1:3]) == ["wren", "yew"]


def test_any_category_will_do_for_it():
    material = materials.read(ENGLISH, 'sort of "tea"')
    assert 'Your favourite sort of "tea", in one word?' in material.questions
