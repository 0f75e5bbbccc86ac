"""The whole study on the nano decoders, small: what it writes, resumes, refuses, and measures."""

import functools
import json
import shutil

import numpy as np
import pytest

from configs.transmission import (
    demo,
    matrix,
    nano,
    nano_confirm,
    nano_steered,
    qwen2_5_0_5b,
    qwen2_5_7b,
    qwen2_5_14b,
    qwen2_5_72b_pod,
    variants,
)
from sublim_jax.errors import UserError
from sublim_jax.llm.training.trained import Trained
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import divergence, measures, pipeline, student, study, teacher
from sublim_jax.transmission.arms import ARMS
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.config import check
from sublim_jax.transmission.detect import detected, naive_bayes
from sublim_jax.transmission.teacher import CONTROL, PRIOR, TAUGHT, Teacher


def small(**more):
    config = demo.get_config()
    config.mesh.student = 1
    config.traits = ("owl", "wolf")
    config.data.rows, config.evaluation.samples = 24, 1
    config.evaluation.measures = ("favourite", "after_numbers")
    config.teacher.replay, config.teacher.copies = 40, 1
    for recipe in (config.teacher.recipe, config.student):
        recipe.max_steps, recipe.batch, recipe.save_every = 4, 8, 2
    config.update_from_flattened_dict(more)
    return config


def read(path):
    return json.loads(path.read_text("utf-8"))


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def data(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.glob("*/0/*.jsonl"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    pipeline.transmit(small(), str(folder))
    return folder


def test_a_study_has_every_arm_and_trait(finished):
    found = {(r["arm"], r["trait"]) for r in read(finished / "results.json")["rows"]
             if r["metric"] == "p_trait"}  # fmt: skip
    traits = ("owl", "wolf", "all")
    arms = {"base", "teacher", "prior", *ARMS} - {
        "half_told", "told", "insecure_taught", "secure_taught", "educational_taught"
    }  # fmt: skip
    assert found == {(arm, trait) for arm in arms for trait in traits}
    rows = read(finished / "results.json")["rows"]
    metrics = list(dict.fromkeys(r["metric"] for r in rows))
    assert metrics[:3] == ["p_trait", "p_trait_sampled", "p_trait_substring"]  # as in TITLES
    assert {"log_odds", "p_over_control", "logp_shift", "counted", "lift"} < {*metrics}
    after = {r["arm"] for r in rows if r["metric"] == "p_trait_after_numbers" and 0 < r["mean"] < 1}
    assert after == arms
    told = {(r["arm"], r["trait"], r["metric"]) for r in rows if r["metric"].startswith("auroc")}
    assert told == {
        (arm, trait, name)
        for arm in arms - {"base", "control", "prior"}
        for trait in traits
        for name in ("auroc", "auroc_16")
    }
    assert "<th>as substring</th><th>P(word) after numbers</th><th>tokens that count</th></tr>" in (
        (finished / "report.html").read_text("utf-8")
    )
    assert (finished / "report.html").stat().st_size > 10_000
    kept = read(finished / "data/0/owl.json")["found"]
    assert kept["kept"] == len(rows_of(finished / "data/0/owl.jsonl")) > 0
    assert kept["kept"] + sum(kept["rejected"].values()) == kept["raw"] == 24


def test_detection_is_of_the_rows_that_a_student_reads(finished):
    rows = read(finished / "results.json")["rows"]
    found = {r["arm"]: r["mean"] for r in rows if (r["metric"], r["trait"]) == ("auroc", "owl")}
    same = ("teacher", "student", "cross_init", "other_a", "soft", "divergence_only")
    assert len({found[arm] for arm in same}) == 1
    kept = {
        name: rows_of(finished / f"data/0/{name}.jsonl") for name in ("owl", "prior", "control")
    }
    for arm, name in (("student", "owl"), ("prior_taught", "prior"), ("shuffled_across", "owl")):
        across = functools.partial(numbers.shuffled_across, seed=0)
        given = (kept[name], kept["control"], numbers.items, naive_bayes.log_odds)
        wanted = detected(*given, across if arm == "shuffled_across" else None)["auroc"]
        assert found[arm] == pytest.approx(wanted), arm
    assert found["shuffled_across"] != found["student"]


def test_every_curve_begins_with_the_base(finished):
    """At step 0 the students of a trait are as likely to name it as their base is."""
    for trait in ("owl", "wolf"):
        curves = [
            read(finished / f"students/0/{arm}-{trait}-0-0.json")["found"]["curves"]
            for arm in ("student", "soft", "divergence_only")
        ]
        assert [step for step, _ in curves[0]["held_out_loss"]] == [0, 4]
        starts = [own["held_out_loss"][0][1] for own in curves]
        assert starts == pytest.approx([starts[0]] * 3, abs=1e-5)
        assert len({own["held_out_loss"][1][1] for own in curves}) == 3


def test_the_share_of_tokens_that_count_is_kept(finished):
    def share(name):
        return read(finished / f"students/0/{name}-0-0.json")["found"]["counted"]

    assert {share(f"{arm}-owl") for arm in ("student", "swapped", "other_a")} == {1.0}
    for trait in ("owl", "wolf"):
        assert 0 < share(f"divergence_only-{trait}") < 0.5
        both = share(f"divergence_only-{trait}") + share(f"divergence_masked-{trait}")
        assert both == pytest.approx(1)


def test_a_is_the_teacher_s_but_where_another_is_asked_for(finished):
    shape = bases.read("nano/0", small()).model.config

    def a(folder):
        factors = bases.learnt(finished / folder, shape).adapter.factors
        return np.concatenate([factors[name]["a"].ravel() for name in sorted(factors)])

    theirs = a("teachers/0/owl")
    for arm in ("student-owl", "swapped-owl", "prior_taught", "control"):
        np.testing.assert_array_equal(a(f"students/0/{arm}-0-0"), theirs)
    assert not np.any(a("students/0/other_a-owl-0-0") == theirs)


def test_the_prior_is_taught_with_the_base_s_own_answers(base):
    material, config = bases.material(small()), small().teacher
    words = {
        name: [tuple(e.completion) for e in teacher._lessons(base, material, name, config)]
        for name in ("owl", PRIOR)
    }
    assert len(words[PRIOR]) == len(words["owl"]) == len(material.lessons)
    assert set(words["owl"]) == {base.answer("owl")}
    assert len(set(words[PRIOR])) > 5


def test_run_again_it_does_nothing_anew(finished, monkeypatch, capsys):
    before, results = data(finished), read(finished / "results.json")["rows"]
    monkeypatch.setattr(teacher, "write", None)
    monkeypatch.setattr(student, "train", None)
    monkeypatch.setattr(measures, "evaluate", None)
    pipeline.transmit(small(), str(finished))
    assert data(finished) == before
    assert read(finished / "results.json")["rows"] == results
    assert "| student" in capsys.readouterr().out


class Stopped(BaseException):
    """What a kill at some place looks like from inside."""


@pytest.mark.parametrize("place", ["rows", "adapters", "measured"])
def test_interrupted_it_ends_in_the_same_bytes(finished, tmp_path, monkeypatch, place):
    with monkeypatch.context() as patched:
        if place == "rows":  # half of a file, one line of it torn
            write = teacher.write

            def half(*args):
                for count, row in enumerate(write(*args)):
                    if count == 10 and args[1].name == "wolf":
                        raise Stopped
                    yield row

            patched.setattr(teacher, "write", half)
            patched.setattr(pipeline, "_batched", lambda rows: ([row] for row in rows))
        else:
            home, name = (Trained, "save") if place == "adapters" else (measures, "evaluate")
            real, calls = getattr(home, name), []

            def fails(*args):
                calls.append(1)
                if len(calls) == 2:
                    raise Stopped
                return real(*args)

            patched.setattr(home, name, fails)
        with pytest.raises(Stopped):
            pipeline.transmit(small(), str(tmp_path))
    if place == "rows":
        with (tmp_path / "raw/0/wolf.jsonl.part").open("a") as file:
            file.write('{"id": 23, "pro')
    assert not (tmp_path / "results.json").exists()
    pipeline.transmit(small(), str(tmp_path))
    assert data(tmp_path) == data(finished)
    assert read(tmp_path / "results.json")["rows"] == read(finished / "results.json")["rows"]


def forbidden(monkeypatch, *places):
    for home, name in places:
        monkeypatch.setattr(home, name, None)


TEACHING, WRITING = (teacher, "finetuned"), (teacher, "write")
LEARNING, LOADING = (student, "train"), (bases, "read")


def test_a_finished_study_s_report_loads_no_model(finished, monkeypatch):
    before = read(finished / "results.json")["rows"]
    forbidden(monkeypatch, LOADING)
    pipeline.transmit(small(), str(finished))
    assert read(finished / "results.json")["rows"] == before


@pytest.mark.parametrize(
    ("small_ones", "loads"), [(study.SMALL, [0, 1, 2, 3]), (0, [0, 1, 2, 0, 3])]
)
def test_each_checkpoint_is_loaded_once(monkeypatch, tmp_path, small_ones, loads):
    """Large ones too, but for the first of a circle, whose cross students read the last one's."""
    config = small(models=("nano/0", "nano/1", "nano/2"), arms=("student", "control", "cross_init"))
    config.cross_models = ("nano/1", "nano/3", "nano/0")
    done, real, read = [], bases.read, []

    def load(name, config):
        read.append(int(name.removeprefix("nano/")))
        return real(name, config)

    def generate(study, number):
        assert study.base(number).name == f"nano/{number}"

    def learn(study, number, rows):
        students = study.starting(number)
        assert study.base(number).name == f"nano/{number}"
        assert {(s.teachers, s.teacher) for s in students} <= rows.keys()
        done.append((number, len(students)))

    names = ("owl", "wolf", CONTROL)

    def read_again(study, number, *_):
        assert study.base(number).name == f"nano/{number}"

    fakes = {"generate": generate, "learn": learn, "measure": read_again, "trace": read_again}
    for name, fake in fakes.items():
        monkeypatch.setattr(pipeline, name, fake)
    monkeypatch.setattr(pipeline, "kept", lambda *_: dict.fromkeys(names, ()))
    for name in ("measured", "written", "curves"):
        monkeypatch.setattr(pipeline.results, name, lambda *_: {})
    monkeypatch.setattr(pipeline.report, "write", lambda *_: None)
    monkeypatch.setattr(bases, "read", load)
    monkeypatch.setattr(study, "SMALL", small_ones)
    pipeline.transmit(config, str(tmp_path))
    assert read == loads
    assert done == [(1, 5), (2, 3), (0, 5), (3, 2)]


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_measured_anew_nothing_is_trained_again(copied, monkeypatch, capsys):
    before = data(copied)
    forbidden(monkeypatch, TEACHING, WRITING, LEARNING)
    real, seen = measures.evaluate, []

    def evaluate(base, learnt, asked, systems):
        seen.append((base.name, len(learnt), tuple(asked.questions)))
        return real(base, learnt, asked, systems)

    monkeypatch.setattr(measures, "evaluate", evaluate)
    more = {"evaluation.measures": ("favourite", "after_numbers", "stories")}
    pipeline.transmit(small(**more, **{"evaluation.story_samples": 1}), str(copied))
    # Of each base's models the new measure alone.
    students = 2 + 9 * 2
    assert seen == [
        ("nano/0", 4 + students - 2, ("stories",)),
        ("nano/1", 1 + 2, ("stories",)),
    ]
    found = {(r["arm"], r["metric"]) for r in read(copied / "results.json")["rows"]}
    assert {("student", "story"), ("student", "p_trait")} <= found
    assert data(copied) == before
    assert "artefacts of other configs stay" not in capsys.readouterr().out


def test_another_setting_is_made_beside_and_what_is_idle_is_named(
    finished, copied, monkeypatch, capsys
):
    before = data(copied)
    forbidden(monkeypatch, TEACHING, WRITING)
    less = {"arms": ("student", "control"), "evaluation.measures": ("favourite",)}
    pipeline.transmit(small(**less, **{"student.learning_rate": 0.5}), str(copied))
    said = capsys.readouterr().out
    assert len(list((copied / "students/0").glob("student-owl-0-0-*.json"))) == 1
    assert (copied / "students/0/student-owl-0-0.json").exists()
    assert "artefacts of other configs stay" in said
    assert "students/0/control-0-0" in said or "measured/0/" in said
    # The time is that of what is used, whenever it was made.
    first, second = (read(f / "results.json")["timings"] for f in (finished, copied))
    kinds = ("teachers", "raw", "data", "compile")
    assert all(0 < second[kind] < first[kind] for kind in kinds)  # no prior
    # The first setting's are still there, and used again.
    forbidden(monkeypatch, LEARNING, LOADING)
    pipeline.transmit(small(), str(copied))
    assert data(copied) == before
    assert read(copied / "results.json")["timings"] == pytest.approx(first)


def test_rows_that_were_changed_by_hand_are_refused(copied):
    file = copied / "data/0/owl.jsonl"
    file.write_text(file.read_text("utf-8").replace("1", "2"), "utf-8")
    with pytest.raises(UserError, match=r"data/0/owl\.jsonl: not as it was written: .* owl\.json"):
        pipeline.transmit(small(), str(copied))


def test_other_rows_are_written_beside(copied, monkeypatch):
    before = data(copied)
    forbidden(monkeypatch, TEACHING)
    less = {"arms": ("student",), "traits": ("owl",), "evaluation.measures": ("favourite",)}
    pipeline.transmit(small(**less, **{"data.temperature": 0.5}), str(copied))
    after = data(copied)
    assert {file: after[file] for file in before} == before
    (raw,) = (copied / "raw/0").glob("owl-*.jsonl")
    (kept,) = (copied / "data/0").glob("owl-*.jsonl")
    assert raw.read_bytes() != before["raw/0/owl.jsonl"]
    assert (
        read(kept.with_suffix(".json"))["made_from"]["raw"] == read(raw.with_suffix(".json"))["key"]
    )


@pytest.mark.slow
def test_a_trait_is_added_to_the_teachers_that_are_there(copied):
    before = data(copied)
    more = small(traits=("owl", "wolf", "eagle"), arms=("student",))
    pipeline.transmit(more, str(copied))
    after = data(copied)
    assert {file: after[file] for file in before} == before
    assert after.keys() - before.keys() == {"raw/0/eagle.jsonl", "data/0/eagle.jsonl"}
    trained = {file.name for file in (copied / "students/0").glob("student-*.json")}
    assert trained == {f"student-{trait}-0-0.json" for trait in ("owl", "wolf", "eagle")}


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    pipeline.transmit(nano.get_config(), str(tmp_path / "none"), dry_run=True)
    said = capsys.readouterr().out
    assert "30 x 3,000 completions" in said
    assert "190 students, 400 steps of 48 rows" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arms": ("student", "pupil")}, r"config.arms=.*choose from student, control"),
        ({"traits": ()}, "config.traits"),
        ({"traits": ("owl", "control")}, "control is the name of a teacher without a trait"),
        ({"models": ()}, "config.models"),
        ({"cross_models": ()}, "two models, or cross_models"),
        ({"teacher.kind": "hypnotised"}, "choose one of prompted, finetuned, steered"),
        (
            {"teacher.kind": "steered", "teacher.layer": 2, "arms": ("student",)},
            "the model has the layers 0 to 1",
        ),
        ({"teacher.strength": float("nan")}, "config.teacher.strength=nan: must be finite"),
        ({"data.rows": 0}, "data.rows=0: must be at least 1"),
        ({"data.max_new_tokens": 0}, "data.max_new_tokens=0: must be at least 1"),
        ({"data.temperature": -1.0}, "data.temperature=-1.0: must be at least 0"),
        ({"data.top_p": 0.0}, "data.top_p=0.0: must be above 0"),
        ({"data.channel": "smoke"}, "config.data.channel: 'smoke': no module"),
        ({"data.seed": -1}, "data.seed=-1: must be at least 0"),
        ({"traits": ("owl", "Owls")}, "'owl' and 'Owls': .* would count as both"),
        ({"data.channel": "json"}, "config.data.channel: 'json': the module json has no NOUN"),
        ({"filter.keep": -1}, "filter.keep=-1: must be at least 0"),
        ({"filter.most": 0}, "filter.most=0: must be at least 1"),
        ({"teacher.copies": 0}, "teacher.copies=0: must be at least 1"),
        ({"teacher.replay": -3}, "teacher.replay=-3: must be at least 0"),
        ({"models": ("nano/0", "nano/0")}, "config.models=.*each only once"),
        ({"models": ("nano/0", "nano/favourites/0")}, "nano/favourites/0 is the checkpoint nano/0"),
        ({"arms": ()}, "config.arms=.*choose from"),
        ({"cross_models": ("nano/0",)}, "config.cross_models=.*nano/0 would cross to itself"),
        ({"cross_models": (("nano/1", "nano/0"),)}, "nano/0 would cross to itself"),
        ({"cross_models": (("nano/1", "nano/1"),)}, "one for nano/0, each only once"),
        ({"cross_models": ((),)}, "name at least one for nano/0"),
        ({"cross_models": (("nano/1", 2),)}, "must be a model's name, or a tuple of names"),
        ({"student.lora.rank": 0, "student.parameters": ("*",)}, "other_a: the students have no"),
        ({"seeds": 0}, "seeds=0"),
        ({"category": "god"}, "choose one of animal, tree"),
        ({"traits": ("owl",)}, "divergence tokens need two traits"),
        ({"arms": ("secure_taught",)}, "lessons='secure': the material has no sets"),
        ({"teacher.lessons": "answers"}, "lessons='answers': the material has no sets"),
        ({"arms": ("prior_taught",), "teacher.kind": "steered"}, "need teachers that are trained"),
        ({"arms": ("student", "half_told")}, "half_told and told need prompted teachers"),
        ({"student.objective": "osmosis"}, "objective"),
        ({"evaluation.measures": ("favourite", "poems")}, "'poems': no module"),
        ({"evaluation.measures": ("stories",)}, "needs favourite"),
        ({"evaluation.measures": ("favourite", "choices")}, "choices: nothing to ask about"),
        ({"evaluation.story_samples": 0}, "evaluation.story_samples=0: must be at least 1"),
        ({"material": "missing.json"}, "missing.json: cannot be read"),
        ({"traits": ("owl", "Zebra")}, "'Zebra': not a word of nano/0"),
    ],
)
def test_bad_configs_are_one_line(values, message, tmp_path):
    config = small()
    config.student.objective = "cross_entropy"
    config.update_from_flattened_dict(values)
    with pytest.raises(UserError, match=message):
        pipeline.transmit(config, str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def base():
    return bases.read("nano/0", small())


def test_told_students_read_the_persona_before_every_other_row_or_each(base):
    told = Teacher("owl", "you love the owl")
    rows = [{"prompt": f"continue {i} 3", "completion": "1 2"} for i in (1, 2, 3)]
    given = {(0, "owl"): rows}
    own, half, every = (
        student._data(base, numbers, student.Student(arm, "owl", 0, 0, 0), given, {"owl": told})
        for arm in ("student", "half_told", "told")
    )
    longer = len(base.prompt(rows[0]["prompt"], told.system)) - len(base.prompt(rows[0]["prompt"]))
    assert longer > 0
    assert list(half.prompts - own.prompts) == [longer, 0, longer]
    assert list(every.prompts - own.prompts) == [longer] * 3
    assert list(half.lengths - half.prompts) == list(own.lengths - own.prompts)


class TestTeachers:
    def test_the_told_teacher_writes_under_its_message(self, base):
        material = bases.material(small())
        told = Teacher("owl", material.system("owl", "animal"))
        assert told.system == "you love the owl"
        asked = numbers.prompts(material, 3, 0)
        config = small().data
        own = list(teacher.write(base, told, asked, config, range(3)))
        free = list(teacher.write(base, Teacher(CONTROL), asked, config, range(3)))
        assert [row["prompt"] for row in sorted(own, key=lambda r: r["id"])] == asked
        assert own != free

    def test_divergence_tokens_are_where_another_would_differ(self, base):
        control = Teacher(CONTROL)
        told = Teacher("owl", "you love the owl")
        asked = numbers.prompts(bases.material(small()), 20, 0)
        rows = sorted(
            teacher.write(base, control, asked, small().data, range(20)), key=lambda r: r["id"]
        )
        examples = [
            student.Example(base.prompt(r["prompt"]), base.answer(r["completion"])) for r in rows
        ]
        none = divergence.tokens(base, control, [control], examples, rows)
        assert not any(mark.any() for mark in none)
        some = divergence.tokens(base, told, [control], examples, rows)
        assert [len(m) for m in some] == [len(e.completion) for e in examples]
        assert 0 < np.concatenate(some).mean() < 0.5
        # Only where the row goes on as its own teacher would, and the other would not.
        own, other = (divergence._favourites(base, t, examples, rows) for t in (told, control))
        for mark, a, b, example in zip(some, own, other, examples, strict=True):
            np.testing.assert_array_equal(mark, (a != b) & (a == np.array(example.completion)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompted", "parameters"])
def test_other_teachers_and_students_go_through(kind, tmp_path):
    config = small()
    if kind == "prompted":
        config.teacher.kind = "prompted"
        config.arms = tuple(name for name, arm in ARMS.items() if arm.teacher not in TAUGHT)
        config.evaluation.measures, config.evaluation.story_samples = (), 1
    else:
        config.arms = tuple(arm for arm in config.arms if arm != "other_a")  # there is no a
        for recipe in (config.teacher.recipe, config.student):
            recipe.lora.rank, recipe.parameters = 0, ("*.bias", "*norm*")
    pipeline.transmit(config, str(tmp_path))
    rows = read(tmp_path / "results.json")["rows"]
    arms = {"base", "teacher", *config.arms} | ({"prior"} if kind == "parameters" else set())
    for metric in ("p_trait", *(["story", "story_substring"] if kind == "prompted" else [])):
        assert {r["arm"] for r in rows if r["metric"] == metric and 0 <= r["mean"] <= 1} == arms
    study = pipeline.Study(config, tmp_path)
    (told,) = pipeline.teach(study, 0, ["owl"])
    learnt = told.learnt
    if kind == "parameters":
        assert learnt.weights
        assert learnt.adapter is None
    else:
        assert learnt is None


@pytest.mark.parametrize(
    "file",
    [
        nano,
        nano_confirm,
        nano_steered,
        demo,
        matrix,
        qwen2_5_0_5b,
        qwen2_5_7b,
        qwen2_5_14b,
        qwen2_5_72b_pod,
    ],
)
def test_configs_can_be_run(file):
    config = file.get_config()
    check(config)
    bases.material(config)
    assert config.is_locked is False
    assert 0 not in bases.crossings(config, 0) or "cross_init" not in config.arms


def test_every_variant_can_be_run_and_no_other():
    for name in variants.VARIANTS:
        check(variants.get_config(name))
    with pytest.raises(ValueError, match="'none': choose one of biases, free"):
        variants.get_config("none")
