"""Modules found by name, and what is said of one that is none."""

import sys

import pytest

from sublim_jax import modules
from sublim_jax.errors import UserError
from sublim_jax.transmission.channels import numbers

PACKAGE = "sublim_jax.transmission.channels"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_a_package_s_own_comes_first_and_any_other_by_its_full_name(home):
    (home / "numbers.py").write_text("NOUN = 'others'")
    (home / "own_channel.py").write_text("NOUN = 'letters'")
    assert modules.find(PACKAGE, "numbers", "field", ["NOUN"]) is numbers
    assert modules.find(PACKAGE, "own_channel", "field", ["NOUN"]).NOUN == "letters"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", f"field: 'none': no module {PACKAGE}.none, and none of that name"),
        ("", "field: '': no module"),
        (".numbers", "field: '.numbers': no module"),
        ("json", "field: 'json': the module json has no NOUN"),
    ],
)
def test_what_is_none_is_one_line(name, says):
    with pytest.raises(UserError) as error:
        modules.find(PACKAGE, name, "field", ["NOUN"])
    assert str(error.value).startswith(says)


def test_what_a_module_lacks_itself_is_its_own_error(home):
    (home / "own_broken.py").write_text("import own_missing")
    with pytest.raises(ModuleNotFoundError, match="own_missing"):
        modules.find(PACKAGE, "own_broken", "field", [])


def test_the_code_of_one_s_own_counts_and_the_package_s_does_not(home):
    (home / "own_channel.py").write_text("NOUN = 'letters'")
    own = modules.find(PACKAGE, "own_channel", "field", ["NOUN"])
    before = modules.code(own)
    (home / "own_channel.py").write_text("NOUN = 'letter'")
    assert before != modules.code(own)
    assert modules.code(numbers) is None
