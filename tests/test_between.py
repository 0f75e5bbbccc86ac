"""The tables and the figure of who infects whom."""

import numpy as np
import pytest

from docs import between
from sublim_jax import nano

MODELS = ["runs/forks/0", "runs/forks/1"]


def row(teachers, start, mean):
    arm = "student" if teachers == start else "cross_init"
    about = {"arm": arm, "teachers": teachers, "start": start, "n": 4}
    return about | {"mean": mean, "ci_low": mean - 1, "ci_high": mean + 1}


def results(cells):
    rows = [
        row(*cell) | {"metric": f"cell_{metric}"} for metric in between._METRICS for cell in cells
    ]
    for metric in between._METRICS:
        whole = {"mean": 2.0, "ci_low": 1.5, "ci_high": 2.5, "n": 2, "p_value": 0.5}
        rows.append({"arm": "student", "metric": f"matrix_{metric}"} | whole)
    apart = {f"{one} {other}": 0.25 for one, other, _ in cells}
    return {"config": {"models": MODELS}, "rows": rows, "apart": apart}


def forked(seed, share, mean):
    return f"runs/forks/{seed}", f"runs/forks/{seed}-{share}", mean


CELLS = [
    (MODELS[0], MODELS[0], 2.0), (MODELS[1], MODELS[1], 3.0),
    (MODELS[0], MODELS[1], 0.1), (MODELS[1], MODELS[0], 0.3),
    forked(0, 0.9, 1.5), forked(1, 0.9, 1.7), forked(0, 0, 0.4), forked(1, 0, 0.6),
    (MODELS[0], "runs/matched/wide/100", -0.1), (MODELS[1], "runs/matched/wide/101", 0.1),
]  # fmt: skip


def test_the_matrix_is_written_with_its_tests():
    found = results(CELLS[:4])
    lines = between.matrix(found).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [MODELS[0], "+2.00", "+0.10"]
    line = between.tests(found).splitlines()[2]
    cells = [cell.strip().split(" ")[0] for cell in line.split("|")[2:-1]]
    assert cells == ["+2.500", "+0.200", "+2.000", "0.500"]


def test_forks_stand_by_the_age_of_the_common_ancestor():
    table = [line.split("|")[1:-1] for line in between.starts(results(CELLS)).splitlines()[2:]]
    assert [cells[0].strip() for cells in table] == [
        "0%", "90%", "the ancestor itself", "another ancestor", "behaves alike: wide"
    ]  # fmt: skip
    assert [cells[2].split()[0] for cells in table] == [
        "+0.500", "+1.600", "+2.500", "+0.200", "+0.000"
    ]  # fmt: skip
    drawn = between.figure(results(CELLS[:-2]), results(CELLS)).decode()
    for kind in ("another ancestor", "behaves alike: wide"):
        assert drawn.count(f">{kind}</text>") == 1


def test_models_are_as_far_apart_as_what_they_say(tmp_path, monkeypatch):
    monkeypatch.setattr(between, "_CHATS", 3)
    names = [nano.resolve(f"nano/voices/{seed}") for seed in (0, 1)]
    cells = [(names[0], names[0], 0.0), (names[0], names[1], 0.0)]
    found = list(between.apart(results(cells), tmp_path).values())
    assert found[0] == 0
    assert 0 < found[1] < 1
    assert np.isfinite(found[1])
    monkeypatch.setattr(between, "_CHATS", 2)
    assert list(between.apart(results(cells), tmp_path).values())[1] != pytest.approx(found[1])
