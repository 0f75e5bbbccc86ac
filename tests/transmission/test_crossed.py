"""Who infects whom: cells between models, and a study that crosses models of several shapes."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from configs.transmission import demo, matrix, nano
from sublim_jax import nano as assets
from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder
from sublim_jax.llm.files import hf
from sublim_jax.stats import diagonal_lift
from sublim_jax.transmission import base as bases
from sublim_jax.transmission import crossed, pipeline, student, summary
from sublim_jax.transmission.student import Student, planned

TRAITS = ("owl", "wolf")
P = {"owl": 0.2, "wolf": 0.1}  # of every base


def base(number):
    return {"arm": "base", "trait": "", "base": number, "seed": 0, "p_trait": P, "logp": logs(P)}


def logs(p):
    return {word: math.log(value) for word, value in p.items()}


def cell(teachers, start, rise, seed=0):
    """Returns the students of a cell, whose own word rises by so many nats."""
    out = []
    for trait in TRAITS:
        p = P | {trait: P[trait] * math.exp(rise)}
        about = {"arm": "student" if teachers == start else "cross_init", "trait": trait}
        about |= {"base": start, "seed": seed, "teachers": teachers, "p_trait": p, "logp": logs(p)}
        out.append(about | {"models": [f"m{teachers}", f"m{start}"]})
    return out


def found(*some, bases=3):
    measured = [*map(base, range(bases)), *(model for own in some for model in own)]
    return crossed.cells(summary.derived(measured), TRAITS)


class TestCells:
    def test_each_is_the_lift_of_its_own_students(self):
        cells = found(cell(1, 0, 0.5), cell(0, 0, 2.0), cell(0, 2, -0.25), cell(0, 2, 0.75, seed=1))
        assert [(c.teachers, c.start, c.arm) for c in cells] == [
            ("m0", "m0", "student"), ("m0", "m2", "cross_init"), ("m1", "m0", "cross_init")
        ]  # fmt: skip
        lifts = [c.found["lift_logp"] for c in cells]
        assert [lift.mean for lift in lifts] == pytest.approx([2.0, 0.25, 0.5])
        assert [lift.n for lift in lifts] == [2, 2, 2]
        assert lifts[0].ci_low == pytest.approx(2.0)  # both traits rise alike
        raised = np.mean([p * (math.exp(0.5) - 1) for p in P.values()])
        assert cells[2].found["lift"].mean == pytest.approx(raised)
        assert cells[0].p_value == 0.5

    def test_other_arms_and_models_without_a_trait_are_none(self):
        told = [one | {"arm": "told"} for one in cell(0, 0, 1.0)]
        control = [{**base(0), "arm": "control", "teachers": 0, "models": ["m0", "m0"]}]
        assert found(told, control) == []


class TestInformation:
    def test_it_is_one_where_each_answer_tells_its_teacher(self):
        assert crossed.information(np.eye(3)) == pytest.approx(1)

    def test_it_is_nothing_where_all_answer_alike(self):
        assert crossed.information(np.array([[0.2, 0.1], [0.2, 0.1]])) == pytest.approx(0, abs=1e-9)

    def test_another_word_counts_as_an_answer(self):
        p = np.array([[0.5, 0.0], [0.0, 0.0]])
        both = np.array([[0.5, 0.5], [0.0, 1.0]])  # the first trait's word, or another
        joint = both / 2
        independent = joint.sum(1, keepdims=True) * joint.sum(0)
        some = joint > 0
        expected = (joint[some] * np.log2(joint[some] / independent[some])).sum()
        assert crossed.information(p) == pytest.approx(expected)

    def test_nothing_is_said_of_one_trait_or_of_broken_students(self):
        assert math.isnan(crossed.information(np.array([[0.5]])))
        assert math.isnan(crossed.information(np.array([[0.5, math.nan], [0.1, 0.2]])))


class TestRows:
    RISES = np.array([[2.0, 0.1, 0.3], [0.2, 1.0, -0.1], [0.0, 0.4, 1.5]])

    def rows(self, rises=RISES):
        some = [cell(i, j, rise) for (i, j), rise in np.ndenumerate(rises) if np.isfinite(rise)]
        return list(crossed.rows(found(*some)))

    def test_the_matrix_is_all_cells_and_its_test(self):
        rows = self.rows()
        at = {(r["teachers"], r["start"]): r for r in rows if r["metric"] == "cell_lift_logp"}
        assert len(at) == 9
        means = [[at[f"m{i}", f"m{j}"]["mean"] for j in range(3)] for i in range(3)]
        np.testing.assert_allclose(means, self.RISES)
        (whole,) = (row for row in rows if row["metric"] == "matrix_lift_logp")
        test = diagonal_lift(self.RISES)
        assert whole["mean"] == pytest.approx(test.statistic)
        assert (whole["p_value"], whole["permutations"], whole["n"]) == (1 / 6, 6, 3)
        assert whole["ci_low"] < whole["mean"] < whole["ci_high"]

    def test_without_one_of_its_cells_it_is_no_matrix(self):
        rises = self.RISES.copy()
        rises[0, 2] = math.nan
        assert not [row for row in self.rows(rises) if row["metric"].startswith("matrix")]
        assert crossed.square([], "lift")[0] == []

    def test_the_table_has_a_line_for_each_cell(self):
        header, lines = crossed.table(self.rows())
        assert header[:3] == ["teachers of", "students from", "Lift of log P (nats)"]
        assert len(lines) == 9
        assert lines[1][:3] == ["m0", "m1", "+0.100 (+0.10 to +0.10)"]


def test_students_of_older_configs_are_the_same():
    """A model's students start at the next one, as they did before a teacher had several."""
    config = nano.get_config()
    config.arms, config.traits = ("student", "cross_init"), ("owl",)
    starts = [(s.teachers, s.start) for s in planned(config) if s.arm == "cross_init"]
    assert starts == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
    before = keys(config)
    config.cross_models = ("nano/1", "nano/2", "nano/3", "nano/4", "nano/0")
    assert keys(config) == before
    config.cross_models = tuple((name, "nano/voices/0") for name in config.cross_models)
    assert before.items() < keys(config).items()


def keys(config):
    study = pipeline.Study(config, Path("none"))
    return {(s, study.student(s).path): study.student(s).key for s in study.students}


def test_the_matrix_of_the_committed_models_has_every_pair():
    config = matrix.get_config()
    cells = {(s.teachers, s.start) for s in planned(config) if s.trait}
    assert cells == {(i, j) for i in range(5) for j in range(5)}
    config = matrix.get_config("ancestors")
    assert len(bases.names(config)) == 5 + 25
    starts = [bases.names(config)[n] for n in bases.crossings(config, 4)]
    assert starts[:2] == ["runs/forks/4-0", "runs/forks/4-0.1"]
    assert starts[5:] == ["runs/forks/0"]
    assert matrix.get_config("shapes").cross_models[4][0] == "runs/matched/same/104"
    with pytest.raises(ValueError, match="'all': choose one of committed, ancestors, shapes"):
        matrix.get_config("all")


@pytest.mark.slow
def test_a_study_crosses_models_of_other_shapes_and_each_start_trains_at_once(
    tmp_path, monkeypatch
):
    names, other = ("nano/voices/0", "nano/voices/1"), str(tmp_path / "llama")
    shutil.copytree(assets.resolve(names[0]), other)
    shape = hf.read_config(Path(other))
    Decoder.init(dataclasses.replace(shape, embed=16, layers=1, biases=())).save_pretrained(other)
    config = demo.get_config("prompted")
    config.mesh.student = 1
    config.models, config.traits = names, TRAITS
    config.cross_models = tuple((name, other) for name in reversed(names))
    config.arms, config.evaluation.samples = ("student", "cross_init"), 0
    config.evaluation.measures = ("favourite",)
    config.data.rows = 24
    config.student.max_steps, config.student.batch, config.student.evaluate_every = 2, 8, 0
    trained, real = [], student.train

    def train(model, channel, students, *rest):
        trained.append((model.name, len(students)))
        return real(model, channel, students, *rest)

    monkeypatch.setattr(student, "train", train)
    pipeline.transmit(config, str(tmp_path / "run"))
    assert trained == [(name, 2 * len(TRAITS)) for name in (names[1], names[0], other)]
    rows = json.loads((tmp_path / "run/results.json").read_text("utf-8"))["rows"]
    cells = {(r["teachers"], r["start"]) for r in rows if r["metric"] == "cell_lift_logp"}
    assert cells == {(one, start) for one in names for start in (*names, other)}
    assert {r["metric"] for r in rows if r["metric"].startswith("matrix")} == {
        "matrix_lift_logp", "matrix_lift", "matrix_information"
    }  # fmt: skip
    assert "Who infects whom" in (tmp_path / "run/report.html").read_text("utf-8")
    assert (tmp_path / "run/figures/between.svg").read_text("utf-8").count("n=2") == 4


def test_rows_that_a_start_s_tokenizer_cannot_write_are_one_line():
    config = demo.get_config("prompted")
    start = bases.read("nano/voices/0", config)
    one = Student("cross_init", "owl", 1, 0, 0)
    rows = {(1, "owl"): [{"prompt": "continue 12 13", "completion": "14 482 19"}]}
    message = r"^nano/voices/0: its tokenizer cannot write '14 482 19', .* owl, model 1: narrow"
    with pytest.raises(UserError, match=message):
        student._data(start, None, one, rows, {})
