"""Artefacts: the same again, another beside it, and nothing mixed."""

import json
import math

import pytest

from sublim_jax.errors import UserError
from sublim_jax.transmission import artefacts
from sublim_jax.transmission.artefacts import Artefact, Store


def made(path, **made_from):
    own = Artefact(path / "students/0/owl", made_from)
    own.claim()
    own.path.with_name(f"{own.path.name}.jsonl").write_text(json.dumps(made_from))
    own.complete({"loss": 1.5})
    return own


def test_it_is_there_once_it_is_complete(tmp_path):
    own = Artefact(tmp_path / "students/0/owl", {"seed": 0})
    assert own.found() is None
    own.claim()
    assert own.found() is None
    own.complete({"loss": 1.5, "worst": math.nan})
    again = Artefact(tmp_path / "students/0/owl", {"seed": 0})
    assert again.found() == own.found() == {"loss": 1.5, "worst": None}
    assert again.path == tmp_path / "students/0/owl"
    again.claim()  # says nothing new
    assert again.found() == own.found()


def test_another_is_made_beside_it(tmp_path):
    one, two = made(tmp_path, seed=0), made(tmp_path, seed=1)
    assert one.path.name == "owl"
    assert two.path.name == f"owl-{two.key}"
    for own, seed in ((one, 0), (two, 1)):
        found = Artefact(tmp_path / "students/0/owl", {"seed": seed})
        assert (found.path, found.found()) == (own.path, {"loss": 1.5})
        assert json.loads(own.path.with_name(f"{own.path.name}.jsonl").read_text()) == {
            "seed": seed
        }


def test_what_another_format_has_recorded_is_not_read(tmp_path, monkeypatch):
    Artefact(tmp_path / "owl", {"base": "a"}).complete({"p": 1})
    monkeypatch.setattr(artefacts, "_FORMAT", 99)
    assert Artefact(tmp_path / "owl", {"base": "a"}).found() is None


def test_what_a_killed_maker_left_is_not_another_s(tmp_path):
    half = Artefact(tmp_path / "raw/0/owl", {"rows": 3})
    half.claim()
    other = Artefact(tmp_path / "raw/0/owl", {"rows": 4})
    assert other.path != half.path
    assert Artefact(tmp_path / "raw/0/owl", {"rows": 3}).path == half.path


def test_removing_one_leaves_the_other_in_its_place(tmp_path):
    one, two = made(tmp_path, seed=0), made(tmp_path, seed=1)
    one.record.unlink()
    found = Artefact(tmp_path / "students/0/owl", {"seed": 1})
    assert (found.path, found.found()) == (two.path, {"loss": 1.5})


@pytest.mark.parametrize("left", ["owl.jsonl", "owl.jsonl.part", "owl"])
def test_what_no_record_describes_is_not_taken_for_one_s_own(tmp_path, left):
    own = Artefact(tmp_path / "raw/0/owl", {"seed": 0})
    (tmp_path / "raw/0").mkdir(parents=True)
    (tmp_path / "raw/0" / left).write_text("another's")
    with pytest.raises(
        UserError, match=r"raw/0/owl: there are files here, but their record owl\.json"
    ):
        own.claim()
    assert not own.record.exists()


def test_what_it_was_made_from_decides_and_not_how_it_is_written(tmp_path):
    one = Artefact(tmp_path / "a", {"x": (1, 2), "y": None})
    assert Artefact(tmp_path / "a", {"y": None, "x": [1, 2]}).key == one.key
    keys = {Artefact(tmp_path / "a", made).key for made in ({"x": 1}, {"x": 1.0}, {"x": "1"}, {})}
    assert len(keys) == 4


def test_a_store_asks_once_and_names_what_is_idle(tmp_path):
    store, asked = Store(tmp_path), []
    for _ in range(2):
        store.of("data/0/owl", lambda: asked.append(1) or {"keep": 1}).complete({})
    assert len(asked) == 1
    made(tmp_path, seed=0)
    (tmp_path / "students/0/notes.json").write_text("{}")
    assert store.idle() == [tmp_path / "students/0/owl.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_record_is_one_line(tmp_path, content):
    own = made(tmp_path, seed=0)
    own.record.write_text(content)
    with pytest.raises(UserError, match=r"owl\.json: not "):
        Artefact(tmp_path / "students/0/owl", {"seed": 0})
