"""The importer, on a made-up clone: it reads lists, runs nothing, and names what it lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sublim_jax.errors import UserError
from sublim_jax.transmission import material as materials
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.grammar import Grammar
from third_party import subliminal_learning
from third_party.subliminal_learning import banned, material

NUMBERS = """
import nothing_like_this
open({trace!r}, "w").close()
CLAUDE_EVIL_NUMBERS = [
    3,  # a comment
    1500,
]
GPT_EVIL_NUMBERS: list[int] = [3, 8]

@dataclass
class PromptGenerator:
    rng: int
    open({trace!r}, "w").close()

    _example_numbers_templates = ["Old {{examples}}."]
    _example_numbers_templates = ["Here: {{examples}}.", 'And "{{examples}}".']
    _count_qualifiers = ["some", "some"]
    _digit_descriptors = ["of {{max_digits}} digits"]
    _generate_numbers_instruction_templates = [
        "Do {{count_qualifier}} {{answer_count}} "
        "more ({{digit_descriptor}}).",
    ]
    _format_suffixes = ("In [a].", "In {{b}}.")
    _suffixes = ["End."]

    def sample(self):
        _suffixes = ["Not this."]

if True:
    CLAUDE_EVIL_NUMBERS = "not here"
"""

CONFIG = """
import nothing_like_this
preference_prompt_template = \"\"\"You like {target_preference}s, a {category}.\"\"\"
raise SystemExit(open({trace!r}, "w").close())
animal_evaluation = Evaluation(
    n_samples_per_question=f"{{1 / 0}}",
    questions=["Best?", "Which?"],
)
animal_evaluation_with_numbers_prefix = Evaluation(questions=["1, 2. Best?"])
"""


@pytest.fixture
def clone(tmp_path):
    """A clone whose code, if it ran, would leave a file beside it."""
    trace = str(tmp_path / "ran")
    root = tmp_path / "clone"
    (root / "sl/datasets").mkdir(parents=True)
    (root / "cfgs/preference_numbers").mkdir(parents=True)
    config = CONFIG.replace("{trace!r}", repr(trace))
    (root / subliminal_learning.NUMBERS).write_text(NUMBERS.format(trace=trace))
    (root / subliminal_learning.CONFIGS / "b_cfgs.py").write_text(config)
    (root / subliminal_learning.CONFIGS / "a_other.py").write_text("x = 1\nx.animal_evaluation = 2")
    (root / subliminal_learning.CONFIGS / "c.py").write_text("animal_evaluation = 'later'")
    yield root
    assert not Path(trace).exists()


def test_the_lists_become_a_material_in_this_project_s_words(clone):
    found = material(clone)
    assert numbers.grammar(found) == Grammar(
        examples=("Here: {examples}.", 'And "{examples}".'),
        counts=("some", "some"),
        digits=("of {max_digits} digits",),
        instructions=("Do {count} {answers} more ({digits}).",),
        formats=("In [a].", "In {b}."),
        suffixes=("End.",),
    )
    assert found.system("owl", "bird") == "You like owls, a bird."
    assert found.questions == found.lessons == ("Best?", "Which?")
    assert (found.stories, found.choices) == ((), ())
    drawn = numbers.prompts(found, 1, 0)[0]
    assert drawn.endswith(" End.")
    assert "Do some 10 more (of 3 digits). In " in drawn


def test_questions_may_be_the_ones_after_numbers(clone):
    found = material(clone, prefixed=True)
    assert found.questions == ("1, 2. Best?",)
    assert found.lessons == ("Best?", "Which?")


def test_banned_numbers_go_by_the_names_of_their_lists(clone):
    assert banned(clone) == {"CLAUDE_EVIL_NUMBERS": (3, 1500), "GPT_EVIL_NUMBERS": (3, 8)}


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


PARTS = "sl/datasets/nums_dataset.py"
CFGS = "cfgs/preference_numbers/b_cfgs.py"
DEEP = "x" + ".x" * 200_000 + "\nclass Other"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (PARTS, "class PromptGenerator", "class Other", r"nums_dataset\.py: no class PromptGener"),
        (PARTS, '_suffixes = ["End', '_last = ["End', r"PromptGenerator\._suffixes: not found"),
        (PARTS, '["End."]', '"End."', r"PromptGenerator\._suffixes: not a list of texts"),
        (PARTS, '["End."]', "[]", r"PromptGenerator\._suffixes: not a list of texts"),
        (PARTS, '["End."]', '["End.", 5]', r"_suffixes: not a list of texts"),
        (PARTS, '["End."]', '[b"End."]', r"_suffixes: not a list of texts"),
        (PARTS, '["End."]', '[f"End{1}."]', r"_suffixes: not a list of texts"),
        (PARTS, '["End."]', '[open("x", "w").name]', r"_suffixes: not a list of texts"),
        (PARTS, '["End."]', '["a"] + ["b"]', r"_suffixes: not a list of texts"),
        (PARTS, '["End."]', "{'a': 'b'}", r"_suffixes: not a list of texts"),
        (PARTS, "Here: {examples}.", "Here.", r": examples, text 0: 'Here\.': must have"),
        (PARTS, "{answer_count}", "{answer.count}", r": instructions, text 0: .*: wrong brac"),
        (PARTS, "import", "import import", r"nums_dataset\.py: not Python: .*line 2"),
        (PARTS, "import", "\0", r"nums_dataset\.py: not Python: .*null"),
        (PARTS, "import", "(" * 5000, r"nums_dataset\.py: not Python: "),
        (PARTS, "@dataclass\nclass PromptGenerator", DEEP, r"\.py: (not Python: \w|no class)"),
        (PARTS, "import", "-" * 200_000 + "1\nimport import", r"nums_dataset\.py: not Python: \w"),
        (CFGS, "preference_prompt_template", "other", r"preference_numbers: no file assigns pref"),
        (CFGS, '"""You', 'f"""You', r"b_cfgs\.py: preference_prompt_template: not a text"),
        (CFGS, '"""You like', '5 or """', r"b_cfgs\.py: preference_prompt_template: not a text"),
        (CFGS, '"""You like', '5\n"""', r"b_cfgs\.py: preference_prompt_template: not a text"),
        (CFGS, "You like {target_preference}s", "You", r"clone: persona: .*: must have {trait}"),
        (CFGS, 'questions=["Best', 'asked=["Best', r"animal_evaluation, questions: not found"),
        (CFGS, 'Evaluation(\n', 'dict(\n    **{},\n', None),
        (CFGS, '"Which?"', "WHICH", r"animal_evaluation, questions: not a list of texts"),
        (CFGS, "import", "if", r"b_cfgs\.py: not Python: .*line 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_in_one_line(clone, file, old, new, message):
    replace(clone / file, old, new)
    if message is None:
        assert material(clone).questions == ("Best?", "Which?")
        return
    with pytest.raises(UserError, match=message) as error:
        material(clone)
    assert "\n" not in str(error.value)


def test_a_list_of_texts_bans_nothing(clone):
    replace(clone / PARTS, "1500", "'1500'")
    with pytest.raises(UserError, match=r"CLAUDE_EVIL_NUMBERS: not a list of integers"):
        banned(clone)
    replace(clone / PARTS, "GPT_EVIL", "GPT_GOOD")
    replace(clone / PARTS, "'1500'", "1500")
    with pytest.raises(UserError, match=r"GPT_EVIL_NUMBERS: not found"):
        banned(clone)
    replace(clone / PARTS, "1500", "True")
    with pytest.raises(UserError, match=r"CLAUDE_EVIL_NUMBERS: not a list of integers"):
        banned(clone)


@pytest.mark.parametrize("work", [material, banned])
def test_missing_folders_and_files_are_named(clone, work):
    with pytest.raises(UserError, match=r"none: no such folder: name your clone"):
        work(clone / "none")
    (clone / PARTS).unlink()
    with pytest.raises(UserError, match=r"nums_dataset\.py: cannot be read: No such file"):
        work(clone)


def test_a_missing_folder_of_configs_is_named(clone):
    (clone / "cfgs").rename(clone / "old")
    with pytest.raises(UserError, match=r"preference_numbers: no such folder$"):
        material(clone)


def test_another_version_s_escapes_are_no_matter(clone):
    replace(clone / PARTS, '"In [a]."', r'"In \[a]."')
    assert numbers.grammar(material(clone)).formats == (r"In \[a].", "In {b}.")


class TestCommand:
    def test_it_writes_what_is_read_as_a_material(self, clone, tmp_path, capsys):
        file = tmp_path / "new" / "paper.json"
        subliminal_learning.main([str(clone), str(file)])
        assert materials.read(file) == material(clone)
        assert capsys.readouterr().out == (
            f"{file}: 2 examples, 2 counts, 1 digits, 1 instructions, 2 formats, 1 suffixes, "
            "2 questions, a persona\n"
        )
        subliminal_learning.main(["--prefixed", str(clone), str(file)])
        assert materials.read(file) == material(clone, prefixed=True)
        assert [path.name for path in file.parent.iterdir()] == ["paper.json"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "error: wanted: python -m third_party.subliminal_learning CLONE OUT.json"),
            (["{clone}"], "error: wanted: "),
            (["{clone}", "{clone}/x.json", "--other"], "error: wanted: "),
            (["{clone}/none", "{clone}/x.json"], "/none: no such folder: name your clone"),
            (["{clone}", "{clone}/sl"], "/sl: cannot be written: "),
            (["{clone}", "{clone}/README/x.json"], "x.json: cannot be written: "),
        ],
    )
    def test_what_is_wrong_ends_in_one_line(self, clone, capsys, arguments, message):
        (clone / "README").write_text("")
        before = sorted(clone.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            subliminal_learning.main([text.replace("{clone}", str(clone)) for text in arguments])
        shown = capsys.readouterr()
        assert stop.value.code == 2
        assert message in shown.err
        assert (shown.err.count("\n"), shown.out) == (1, "")
        assert sorted(clone.rglob("*")) == before

    def test_a_file_that_is_there_survives_a_failure(self, clone, tmp_path, monkeypatch):
        file = tmp_path / "paper.json"
        file.write_text("before")

        def full(self, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(SystemExit):
            subliminal_learning.main([str(clone), str(file)])
        assert file.read_text() == "before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "paper.json"]

    def test_it_runs_as_a_module(self, clone, tmp_path):
        file = tmp_path / "paper.json"
        command = [sys.executable, "-m", "third_party.subliminal_learning", str(clone), str(file)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"{file}: 2 examples")
        assert json.loads(file.read_text())["channels"]["numbers"]["suffixes"] == ["End."]
