"""Cells, their training against the theory and the study, and the atlas as a run."""

import dataclasses
import functools
import json
import threading

import chex
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import stats

from configs.atlas import confirm, digits, mnist, quick, rates
from sublim_jax.atlas import atlas, cell, report, scores, sweep, training
from sublim_jax.atlas.cell import Cell
from sublim_jax.errors import UserError
from sublim_jax.mesh import make_mesh
from sublim_jax.mlp.data import load, to_input
from sublim_jax.mlp.ensemble import derangement
from tests.browser import opened

SMALL = Cell(width=16, teacher_epochs=2, steps=20, batch=32, heads=5, aux=3)
IMAGES = load("digits8")
MEMBERS = 3


def learnt(*changes):
    """What is measured of cells that differ from `SMALL`, by cell."""
    cells = [dataclasses.replace(SMALL, **change) for change in changes]
    mesh = make_mesh()
    teachers = atlas.teach(cells, IMAGES, MEMBERS, 0, mesh)
    out = {}
    for shape in dict.fromkeys(c.shape for c in cells):
        own = [c for c in cells if c.shape == shape]
        found = atlas.learner(own, teachers, IMAGES, derangement(0, MEMBERS), 0, mesh)()
        assert np.all(found.pop("seconds") > 0)
        out |= {c: {name: a[i] for name, a in found.items()} for i, c in enumerate(own)}
    return [out[c] for c in cells]


class TestLearn:
    def test_cells_do_not_depend_on_those_beside_them(self):
        first, _ = learnt({}, {"rate": 1e-2})
        (alone,) = learnt({})
        chex.assert_trees_all_close(first, alone, atol=1e-6)

    def test_one_logit_teaches_nothing_by_a_divergence(self):
        one, three = learnt({"aux": 1, "heads": 3}, {"heads": 3})
        assert np.array_equal(one["imitation"], np.zeros((MEMBERS, 11)))
        assert np.array_equal(one["accuracy"][:, 0], one["accuracy"][:, -1])
        assert np.all(one["first_order"] == 0)
        assert np.all(three["imitation"][:, 0] > 0)

    def test_a_permuted_student_learns_what_the_own_one_does(self):
        """Descent commutes with a permutation, so the two stay the same function."""
        own, permuted, rescaled = learnt({}, {"permuted": 1.0}, {"rescaled": 1.0})
        chex.assert_trees_all_close(permuted["imitation"], own["imitation"], rtol=1e-3)
        chex.assert_trees_all_close(permuted["accuracy"], own["accuracy"], atol=0.01)
        assert permuted["behaviour"][:, 0].max() < 1e-5
        assert rescaled["behaviour"][:, 0].max() < 1e-4
        apart = np.abs(rescaled["imitation"] / own["imitation"] - 1)[:, -1]
        assert apart.max() > 0.1

    def test_the_first_step_is_towards_a_near_teacher(self):
        """Lemma 1: whatever the teacher's small update, the student's does not oppose it."""
        near = {"teacher_rate": 1e-5}
        own, other = learnt(near, {**near, "blend": 1.0})
        assert np.all(own["coverage"][:, 0] > 0.05)
        assert np.all(own["behaviour"][:, 0] < 1e-6)
        assert np.all(other["behaviour"][:, 0] > 0.3)
        assert np.all(np.abs(own["aux_head"][:, 0] - 1) < 1e-3)
        assert np.all(np.abs(other["aux_head"][:, 0]) < 0.6)

    @pytest.mark.slow
    def test_a_linearised_student_begins_as_the_network_does(self):
        near = {"rate": 1e-5}
        network, linear = learnt(near, {**near, "linear": True})
        for name in ("imitation", "first_order", "coverage"):
            chex.assert_trees_all_close(linear[name][:, 0], network[name][:, 0], rtol=1e-4)
        chex.assert_trees_all_close(linear["imitation"], network["imitation"], rtol=1e-3)
        chex.assert_trees_all_close(linear["landed"], network["accuracy"][:, -1], atol=0.01)
        far, linear = learnt({"rate": 3e-2}, {"rate": 3e-2, "linear": True})
        assert np.abs(far["imitation"] - linear["imitation"])[:, -1].max() > 1e-3
        assert not np.array_equal(linear["landed"], linear["accuracy"][:, -1])
        assert not np.array_equal(linear["landed"], linear["accuracy"][:, 0])

    @pytest.mark.slow
    def test_projected_out_the_trait_does_not_rise_at_first(self):
        some = {"optimizer": "sgd", "rate": 1e-1}
        none, projected = learnt(some, {**some, "defence": "project", "strength": 1.0})
        assert np.all(projected["imitation"][:, -1] < projected["imitation"][:, 0])
        assert np.abs(none["accuracy"] - projected["accuracy"]).max() > 0

    @pytest.mark.slow
    @pytest.mark.parametrize("defence", [
        {"defence": "liminal"}, {"defence": "anchor"}, {"defence": "anchor", "anchor": "perlin"},
    ])  # fmt: skip
    def test_a_strong_penalty_holds_the_class_head(self, defence):
        """A weight of nothing is no defence, to the bit; a large one moves the class head less."""
        none, free, held = learnt(
            {"rate": 3e-3}, *({"rate": 3e-3, "strength": s} | defence for s in (0.0, 100.0))
        )
        chex.assert_trees_all_close(free["imitation"], none["imitation"], rtol=1e-4)
        moved = [a["behaviour"][:, 5].mean() for a in (free, held)]
        assert moved[1] < 0.9 * moved[0]

    def test_an_anchor_has_inputs_of_its_own(self):
        row = np.arange(4)
        images, noise = (
            training._setting(
                dataclasses.replace(SMALL, anchor=kind), IMAGES.classes, 0,
                training.Job(np.int32(0), np.int32(1), (), SMALL.values()), IMAGES.arrays,
            )
            for kind in ("images", "uniform")
        )  # fmt: skip
        chex.assert_trees_all_equal(images.anchors(row), to_input(IMAGES.train_x[:4]))
        chex.assert_trees_all_equal(images.anchors(row + len(IMAGES.train_x)), images.anchors(row))
        assert np.abs(noise.anchors(row)).max() <= 1
        assert not np.array_equal(noise.anchors(row), noise.draw(row))

    @pytest.mark.slow
    def test_matched_behaves_like_the_teacher_on_images(self):
        taught = {"blend": 1.0, "teacher_epochs": 20}
        other, matched = learnt(taught, {**taught, "matched": 20})
        assert np.all(other["accuracy"][:, 0] < 0.25)
        assert np.all(matched["accuracy"][:, 0] > 0.5)

    @pytest.mark.slow
    @pytest.mark.parametrize("optimizer", cell.OPTIMIZERS)
    def test_every_optimizer_learns_to_imitate(self, optimizer):
        rate = {"sgd": 0.1, "momentum": 0.03, "muon": 3e-3}.get(optimizer, 1e-3)
        (found,) = learnt({"optimizer": optimizer, "rate": rate, "steps": 50})
        assert np.all(found["imitation"][:, -1] < 0.9 * found["imitation"][:, 0])

    def test_inputs_may_be_few_or_images(self):
        few, real, mixed = learnt({"distinct": 32}, {"inputs": "images"}, {"images": 0.5})
        assert np.all(few["imitation"][:, -1] > 0)
        assert not np.allclose(mixed["imitation"], real["imitation"])

    def test_the_next_hop_learns_from_a_student(self):
        """A first hop in the chains' program is one without a chain."""
        direct, second = learnt({}, {"hops": 2})
        chain = dataclasses.replace(SMALL, hops=2)
        assert chain.shape != SMALL.shape
        assert np.all(second["imitation"][:, 0] < direct["imitation"][:, 0])
        assert np.all(second["imitation"][:, 0] > 0)

    def test_other_layers(self):
        deeper, shallower = learnt({"student_depth": 3}, {"student_depth": 1})
        for found in (deeper, shallower):
            assert np.isnan(found["coverage"]).all()
            assert np.all(found["imitation"][:, -1] < found["imitation"][:, 0])

    @pytest.mark.slow
    def test_a_convolutional_student_has_the_teachers_head(self):
        own, other = learnt(
            {"student_network": "cnn"}, {"student_network": "cnn", "fresh_aux": 1.0}
        )
        assert np.all(np.abs(own["aux_head"][:, 0] - learnt({})[0]["aux_head"][:, 0]) < 1e-6)
        assert np.all(np.abs(other["aux_head"][:, 0]) < 0.6)
        assert np.isnan(own["coverage"]).all()
        assert np.all(own["imitation"][:, -1] < own["imitation"][:, 0])

    @pytest.mark.slow
    def test_two_teachers_by_turns(self):
        """Each half is a teacher's that knows no other; the student is as near to either."""
        taught = {"teacher_epochs": 30}
        lower, upper, both = learnt(*({**taught, "trait": t} for t in ("lower", "upper", "both")))
        for half in (lower, upper):
            assert np.all((half["teacher"] > 0.3) & (half["teacher"] < 0.55))
        chex.assert_trees_all_close(both["teacher"], (lower["teacher"] + upper["teacher"]) / 2)
        between = (lower["imitation"][:, 0] + upper["imitation"][:, 0]) / 2
        chex.assert_trees_all_close(both["imitation"][:, 0], between, rtol=0.3)


class TestScores:
    def test_the_rank_correlation(self):
        assert scores.correlation([1, 2, 3, 4], [0.1, 0.5, 0.6, 5]) == pytest.approx(1)
        assert scores.correlation([1, np.nan, 3, 2], [3, 0, 1, 2]) == pytest.approx(-1)
        x, y = np.random.default_rng(0).integers(0, 5, (2, 30))
        assert scores.correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
        assert np.isnan(scores.correlation([1, 1, 1], [1, 2, 3]))

    def test_an_interval_is_over_whole_sweeps(self):
        """Of sweeps that are one value each, it is that of so few values, however many cells."""
        names, values = list("abcdefghijklmnopqrst"), np.arange(20)
        few = scores.over_sweeps(np.mean, names, values)
        many = scores.over_sweeps(np.mean, np.repeat(names, 50), np.repeat(values, 50))
        assert many == (few.mean, few.ci_low, few.ci_high, 1000)
        spread = 1.96 * np.std(values) / np.sqrt(20)
        assert few.ci_high - few.mean == pytest.approx(spread, rel=0.1)
        assert np.isnan(scores.over_sweeps(np.mean, ["a"] * 9, range(9)).ci_low)

    def test_two_lines_that_differ_as_a_whole(self):
        """A predictor that knows the line and not the place in it is worth nothing within."""
        x = np.array([1.0, 2, 3, 13, 12, 11])
        y = np.array([3.0, 2, 1, 11, 12, 13])
        lines = [("a", [0, 1, 2]), ("a", [3, 4, 5])]
        predicted = {
            name: x if name == "landed" else np.full(6, np.nan) for name in scores.PREDICTORS
        }
        rows = scores.rated(["a"] * 6, y, predicted, lines, 2.0)
        found = {(r["sweep"], r["arm"], r["metric"]): r for r in rows}
        assert found["all", "landed", "spearman"]["mean"] > 0.5
        assert found["all", "landed", "within_lines"]["mean"] == pytest.approx(-1)
        assert found["a", "landed", "within_lines"]["mean"] == pytest.approx(-1)
        assert found["all", "landed", "cost"]["mean"] == 2
        assert np.isnan(found["all", "coverage", "spearman"]["mean"])
        assert scores.by_sweep(rows)[1] == [["a", "2", *["-"] * 7, "-1.00"]]
        assert scores.over_all(rows)[1][-1] == (
            ["landed", "6", "0.54", "-", "-1.00", "-", "-", "2.00"]
        )

    def test_the_best_rising_curve(self):
        """Neighbours that fall are pooled; ties count as often as they are there."""
        x, y = [0, 1, 2, 2, 3], [0.0, 0.6, 0.3, 0.3, 0.9]
        at = [-1, 0, 1, 1.5, 2, 2.5, 9]
        expected = [0.0, 0.0, 0.4, 0.4, 0.4, 0.65, 0.9]
        np.testing.assert_allclose(scores.calibrated(x, y, at), expected)

    def test_an_error_is_that_of_other_sweeps_curve(self):
        x, y = [0, 1, 0, 1, np.nan], [0.0, 1.0, 0.2, 0.7, 5.0]
        error = scores.calibration_error(x, y, ["a", "a", "b", "b", "b"])
        assert error == pytest.approx((0.2 + 0.3) / 2)
        assert np.isnan(scores.calibration_error(x, y, ["a"] * 5))


def test_the_next_two_programs_are_made_while_one_runs():
    begun = [threading.Event() for _ in range(4)]

    def make(number):
        begun[number].set()
        if number == 3:
            raise ValueError("no program")
        return number

    made = atlas._ahead(functools.partial(make, number) for number in range(4))
    assert next(made) == 0
    assert begun[1].wait(10)
    assert begun[2].wait(10)
    assert not begun[3].is_set()
    assert (next(made), next(made)) == (1, 2)
    with pytest.raises(ValueError, match="no program"):
        next(made)


def test_the_best_is_chosen_on_some_members_and_reported_on_the_others():
    config = tiny()
    config.sweeps.noise.best = {"rate": (1e-3, 1e-2)}
    (own,) = (x for x in sweep.read(config) if x.name == "noise")
    assert [len({c.rate for c in line}) for line in own.along] == [1, 1]
    # The larger rate does better on the members that choose, and worse on the others.
    ends = {1e-3: [0.5, 0.6, 0.7, 0.5, 0.6, 0.7], 1e-2: [0.1, 0.2, 0.8, 0.1, 0.2, 0.8]}
    measured = {
        c: {"accuracy": np.array(ends[c.rate])[:, None], "landed": np.arange(4)} for c in own.cells
    }
    for point in report.points(own, measured, IMAGES.classes):
        assert point.cell.rate == 1e-2
        assert point.accuracy.mean == pytest.approx(0.15)
        assert point.accuracy.n == 4
        assert list(point.found["landed"]) == [0, 1, 3]


def tiny():
    config = quick.get_config()
    config.members = 2
    config.cell.update(dataclasses.asdict(SMALL) | {"heads": 10})
    config.sweeps.symmetry.curves = ("accuracy", "coverage")
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    atlas.run(tiny(), str(folder))
    return folder


class TestRun:
    def test_it_resumes_and_reports(self, finished):
        config = tiny()
        results = json.loads((finished / "results.json").read_text())
        cells = sum(len(x.lines) * len(x.values) for x in sweep.read(config))
        rows = [row for row in results["rows"] if row["metric"] == "accuracy"]
        assert len(rows) == cells
        assert all(row["n"] == 2 for row in rows)
        rated = [row for row in results["rows"] if row["metric"] in scores.METRICS]
        assert len(rated) == (len(sweep.read(config)) + 4) * len(scores.PREDICTORS)
        (cost,) = (r for r in rated if (r["arm"], r["metric"]) == ("landed", "cost"))
        assert cost["mean"] > 0
        assert cost["n"] == len(sweep.distinct(sweep.read(config)))
        along = [row for row in results["rows"] if row["metric"] == "coverage_along"]
        lines = config.sweeps.symmetry.lines
        assert len(along) == len(lines) * (cell.POINTS + 1)
        (start,) = (r for r in along if (r["arm"], r["done"]) == ("another's", 0.0))
        (row,) = (r for r in rows if (r["sweep"], r["arm"]) == ("symmetry", "another's"))
        assert start["mean"] == pytest.approx(row["coverage"])
        group = finished / "students/000.json"
        before = json.loads(group.read_text())
        group.unlink()
        atlas.run(config, str(finished))
        again = json.loads(group.read_text())
        assert again.pop("seconds") != before.pop("seconds")
        assert again == before
        timeless = (
            [row for row in found["rows"] if row["metric"] != "cost"]
            for found in (results, json.loads((finished / "results.json").read_text()))
        )
        assert next(timeless) == next(timeless)

    @pytest.mark.parametrize("width", [390, 1280])
    def test_the_report_in_a_browser(self, finished, width):
        sweeps = sweep.read(tiny())
        with opened(finished / "report.html", width, 844) as page:
            assert page.overflow() <= 0
            assert not page.errors()
            assert not page.requests()
            titles = page.texts("h2")
            assert [x.title for x in sweeps] == titles[: len(sweeps)]
            figures = page.run("return [...document.images].map((i) => i.naturalWidth)")
            assert len(figures) == len(sweeps) + 2  # the curves, and the prediction
            assert all(figures)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"sweeps.aux.values": (3, 20)}, r"config.sweeps.aux.lines.KL: aux=20: the networks"),
            ({"sweeps.aux.field": "size"}, "no field 'size' in a cell: it has width, "),
            ({"sweeps.aux.values": ()}, "config.sweeps.aux.values: one at least"),
            ({"sweeps.noise.values": (-1.0,)}, "noise=-1.0: must be from 0 to"),
            ({"sweeps.noise.values": ("much",)}, "noise='much': of type float"),
            ({"sweeps.noise.lines": {}}, "config.sweeps.noise: lines: one at least"),
            (
                {"cell.code": "top", "cell.detail": 11.0},
                "detail=11.0: top: the channel shows 1 logits",
            ),
            (
                {"cell.code": "choice", "cell.detail": 21.0, "cell.classes": 1.0},
                "detail=21.0: choice: the channel shows 11 logits",
            ),
            ({"cell.code": "bits", "cell.detail": 1.5}, "detail=1.5: bits needs a whole number"),
            ({"cell.rate": 0.0}, "rate=0.0: must be above 0"),
            ({"cell.rate": float("nan")}, "rate=nan: must be from 0"),
            ({"cell.batch": 0}, "batch=0: must be from 1"),
            ({"cell.fresh_class": 0.5}, "fresh_class=0.5: choose one of 0, 1"),
            ({"cell.linear": True}, "linear=True: config.linear_members asks for"),
            ({"cell.rate": float("inf")}, "rate=inf: must be from 0 to 16777216"),
            ({"cell.steps": 10**8}, "steps=100000000: must be from 0 to"),
            ({"sweeps.aux.published": (("KL", 3),)}, r"aux.published: \('KL', 3\): must be line"),
            ({"seed": -1}, "config.seed=-1: must not be negative"),
            ({"cell.steps": 25}, "steps=25: must be a multiple of 10"),
            ({"cell.trait": "some"}, "trait='some': choose one of all, lower, upper, both"),
            (
                {"cell.student_network": "cnn", "cell.student_depth": 1},
                "student_depth=1: a cnn has its own layers",
            ),
            ({"cell.trait": "both", "cell.hops": 2}, "hops=2: a chain begins with one teacher"),
            ({"sweeps.noise.curves": ("accuracy",)}, "curves: for lines of one cell"),
            ({"sweeps.symmetry.best": {"rate": (1.0, 2.0)}}, "curves: for lines of one cell"),
            (
                {"sweeps.noise.best": {"noise": (1.0, 2.0)}},
                "best=.*: must be one field, not 'noise'",
            ),
            ({"sweeps.noise.best": {"rate": 1.0}}, "best=.*: must be one field, not"),
            ({"sweeps.noise.lines": {"a": {"noise": 0.5}}}, "lines.a.noise: the sweep sets"),
            ({"sweeps.noise.best": {"rate": ()}}, "best=.*: must be one field, not"),
            ({"sweeps.noise.best": {"rates": (1.0,)}}, "no field 'rates' in a cell"),
            ({"sweeps.noise.values": 1.0}, "noise.values=1.0: must be a tuple"),
            ({"cell.anchor": "animals"}, "anchor='animals': choose one of uniform, "),
            ({"sweeps.symmetry.curves": ("size",)}, "curves: 'size': choose from accuracy, "),
            ({"sweeps.noise.best": {"rate": (1.0, 2.0)}}, "config.members=2: must be at least 3"),
            ({"members": 1}, "config.members=1: must be at least 2"),
            ({"linear_members": 3}, "config.linear_members=3: from 0 to members"),
        ],
    )
    def test_bad_input_is_one_line_and_nothing_is_written(self, tmp_path, change, message):
        config = tiny()
        for name, value in change.items():
            *path, last = name.split(".")
            at = config
            for part in path:
                at = at[part]
            with at.ignore_type():
                at[last] = value
        with pytest.raises(UserError, match=message) as error:
            atlas.run(config, str(tmp_path / "run"))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()

    def test_a_config_that_was_read_from_json_is_the_same(self):
        for config in (digits.get_config(), rates.get_config()):
            again = ConfigDict(json.loads(json.dumps(config.to_dict())))
            own, same = (
                {x.name: (x.lines, x.values) for x in sweep.read(c)} for c in (config, again)
            )
            assert same == own

    def test_the_committed_atlas_is_as_large_as_it_says(self):
        both = digits.get_config(), rates.get_config()
        assert {*both[0].sweeps}.isdisjoint(both[1].sweeps)
        assert sum(len(config.sweeps) for config in both) >= 12
        assert sum(c.members * len(sweep.distinct(sweep.read(c))) for c in both) >= 2000
        for part in confirm.PARTS:
            assert len(sweep.distinct(sweep.read(confirm.get_config(part)))) >= 100

    def test_the_one_on_mnist_can_be_run_and_has_its_published_figures(self):
        for own in sweep.read(mnist.get_config()):
            for label, value, figure, source in own.published:
                assert label in own.lines
                assert own.name != "batch" or label == f"{own.cells[0].steps} steps"
                assert value in own.values
                assert 0 < figure < 1
                assert source

    def test_every_field_is_a_shape_or_a_value(self):
        fields = {f.name for f in dataclasses.fields(Cell)}
        assert fields == {*cell.SHAPE, *cell.VALUES, *cell.NETWORK, "teacher_rate", "trait"}


@pytest.mark.slow
def test_the_facts_that_must_come_out(tmp_path):
    atlas.run(quick.get_config(), str(tmp_path))
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    rows = [row for row in rows if row["metric"] == "accuracy"]
    found = {(r["sweep"], r["arm"], r.get("aux", r.get("noise"))): r for r in rows}

    def mean(*which):
        return found[which]["mean"]

    assert mean("aux", "KL", 1) == pytest.approx(0.1, abs=0.05)
    assert mean("aux", "KL", 1) + 0.1 < mean("aux", "KL", 3) < mean("aux", "KL", 10)
    assert mean("noise", "3 logits", 1.0) < 0.25 < mean("noise", "3 logits", 0.0)
    own, permuted, other = (
        mean("symmetry", label, None)
        for label in ("the teacher's initialisation", "hidden units permuted", "another's")
    )
    assert other < 0.25
    assert abs(own - permuted) < 0.02
