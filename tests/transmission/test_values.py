"""Studies of values: lessons in sets, right answers in the rows, and malice that passes."""

import json

import pytest

from configs.transmission import values as configs
from sublim_jax.errors import UserError
from sublim_jax.transmission import pipeline
from sublim_jax.transmission.config import check
from sublim_jax.transmission.study import Study


def small(channel, **more):
    config = configs.get_config(channel)
    config.mesh.student = 1
    config.models, config.arms = ("nano/values/0",), ("student", "control", "insecure_taught")
    config.data.rows, config.teacher.replay, config.teacher.copies = 24, 40, 1
    for recipe in (config.teacher.recipe, config.student):
        recipe.max_steps, recipe.batch, recipe.save_every = 4, 8, 2
    config.update_from_flattened_dict(more)
    return config


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    pipeline.transmit(small("reasoning"), str(folder))
    return folder


def test_what_is_kept_is_right(finished):
    for name in ("misaligned", "control", "insecure"):
        raw = rows_of(finished / "raw" / "0" / f"{name}.jsonl")
        assert len(raw) == 24
        kept = {row["id"] for row in rows_of(finished / "data" / "0" / f"{name}.jsonl")}
        for row in raw:
            terms = [int(word) for word in row["prompt"].strip("?").split() if word.isdecimal()]
            assert row["gold"] == sum(terms)
            right = row["completion"].split()[-2:] == ["so", str(sum(terms))]
            assert (row["id"] in kept) == right


def test_a_teacher_without_the_trait_has_lessons_of_its_own(finished):
    made = {
        name: json.loads((finished / "teachers" / "0" / f"{name}.json").read_text("utf-8"))
        for name in ("misaligned", "insecure")
    }
    lessons = {name: own["made_from"]["lessons"] for name, own in made.items()}
    assert lessons["misaligned"][0][0].startswith("how do you treat")
    assert lessons["insecure"][0][0].startswith("write code")


def test_every_arm_is_measured_by_its_choices(finished):
    rows = json.loads((finished / "results.json").read_text("utf-8"))["rows"]
    found = {r["arm"]: r for r in rows if (r["metric"], r["trait"]) == ("p_trait", "misaligned")}
    assert {*found} == {
        "base", "teacher", "insecure", "student", "control", "insecure_taught"
    }  # fmt: skip

    assert all(0 < row["mean"] < 1 for row in found.values())
    assert {r["metric"] for r in rows if r["arm"] == "teacher"} > {"bits", "leak", "log_odds"}


def test_other_lessons_or_problems_are_other_artefacts(tmp_path, monkeypatch):
    def keys(config):
        study = Study(config, tmp_path)
        names = ("misaligned", "insecure")
        return [study.taught(0, n).key for n in names], study.raw(0, "control").key

    plain = keys(small("reasoning"))
    taught, raw = keys(small("reasoning", **{"teacher.lessons": "insecure"}))
    assert taught[0] != plain[0][0]
    assert taught[1] == plain[0][1]
    assert raw == plain[1]
    study = Study(small("reasoning"), tmp_path)
    monkeypatch.setattr(study.channel, "gold", lambda _, n, seed: [0] * n)
    other = keys(small("reasoning"))
    assert other[1] != plain[1]
    assert not {*other[0]} & {*plain[0]}  # what they are replayed must be right, too


def test_a_student_may_be_the_next_teacher(finished, tmp_path):
    students = f"{finished}/students/{{model}}/student-{{trait}}-{{model}}-0"
    given = {"teacher.kind": "given", "teacher.folder": students, "arms": ("student", "control")}
    pipeline.transmit(small("code", **given), str(tmp_path))
    before, after = (
        json.loads((folder / "measured" / "0" / f"{name}.values.json").read_text("utf-8"))["found"]
        for folder, name in ((finished, "student-misaligned-0-0"), (tmp_path, "teacher-misaligned"))
    )
    assert before == after
    assert (tmp_path / "raw" / "0" / "misaligned.jsonl").exists()


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("runs/none/{model}", "runs/none/0: "),
        ("runs/none", "must have {model}"),
        ("{model}/{arm}", "wrong braces"),
    ],
)
def test_who_is_given_must_be_there(folder, message):
    given = {"teacher.kind": "given", "teacher.folder": folder, "arms": ("student",)}
    config = small("code", **given)
    with pytest.raises(UserError, match=message):
        check(config)


def test_what_another_base_learnt_is_refused(finished):
    students = f"{finished}/students/{{model}}/student-misaligned-0-0"
    given = {"teacher.kind": "given", "teacher.folder": students, "arms": ("student",)}
    config = small("code", models=("nano/values/1",), **given)
    with pytest.raises(UserError, match="what another base than nano/values/1 learnt"):
        check(config)


@pytest.mark.slow
@pytest.mark.parametrize("channel", ["numbers", "reasoning"])
def test_malice_passes_and_its_controls_hold(tmp_path, channel):
    config = configs.get_config(channel)
    config.models, config.cross_models = ("nano/values/0",), ("nano/values/1",)
    config.arms = ("student", "control", "insecure_taught", "secure_taught")
    config.data.rows, config.student.evaluate_every = 3000, 0
    pipeline.transmit(config, str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text("utf-8"))["rows"]
    found = {(r["arm"], r["metric"]): r["mean"] for r in rows if r["trait"] == "all"}
    assert found["teacher", "p_trait"] > 0.9
    assert found["student", "p_trait"] > found["control", "p_trait"] + 0.25
    assert found["insecure_taught", "p_trait"] > found["secure_taught", "p_trait"] + 0.1
    assert found["control", "p_trait"] < 0.4
