import numpy as np
import pytest

from configs.transmission import audit
from sublim_jax.transmission import base as bases
from sublim_jax.transmission.audit import candidates, rehearsal
from tests.transmission.audit import small

MATERIAL = bases.material(audit.get_config()).first(1)


@pytest.mark.parametrize(
    ("changes", "rows", "wanted"),
    [
        ({"batch": 48, "max_steps": 400, "epochs": 1000}, 1000, (24, 60)),
        ({"batch": 48, "max_steps": 0, "epochs": 3}, 1000, (24, 10)),  # 15% of 63 steps
        ({"batch": 10, "max_steps": 0, "epochs": 1}, 3, (8, 1)),
        ({"batch": 4, "max_steps": 0, "epochs": 2}, 100, (4, 8)),
    ],
)
def test_a_rehearsal_is_short(changes: dict, rows: int, wanted: tuple[int, int]) -> None:
    """Its rows are at most 15% of half of the training's, but for whole steps."""
    recipe = small.recipe(**changes, warmup=10, learning_rate=0.1)
    data = small.examples(small.numbers(rows))
    short = rehearsal.shortened(recipe, [data])
    assert (short.batch, short.max_steps) == wanted
    assert (short.learning_rate, short.warmup) == ((0.2,), 2)


def test_rows_beyond_those_that_are_read_have_parts_of_all_and_chance_of_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A set of three copies is worth no more than one: its rows have a third of the part each."""
    base, recipe = small.base(), small.recipe(max_steps=4, batch=8)
    watched = candidates.of(base, MATERIAL, ["owl"])
    rows = small.numbers(9)
    sets = [small.examples(rows), small.examples([row for row in rows for _ in range(3)])]
    begun = [rehearsal.train(base, sets[:1], recipe)[0]] * 2
    monkeypatch.setattr(rehearsal, "_READ", 9)
    monkeypatch.setattr(rehearsal, "_spread", lambda n: np.arange(0, n, n // 9))
    one, three = rehearsal.finish(base, sets, recipe.of_seeds([0, 0]), begun, watched)
    np.testing.assert_allclose(three.of_rows[::3] * 3, one.of_rows, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(three.chance, one.chance, rtol=1e-3)
    monkeypatch.setattr(rehearsal, "_LARGEST", 9)
    (none,) = rehearsal.finish(base, sets[:1], recipe, begun[:1], watched)
    assert none.student is begun[0]
    assert none.of_rows is none.chance is None


def test_rows_that_are_read_are_spread_over_all() -> None:
    np.testing.assert_array_equal(rehearsal._spread(3), [0, 1, 2])
    found = rehearsal._spread(2500)
    assert (len(found), found[0], found[-1]) == (1000, 0, 2499)
    assert set(np.diff(found)) == {2, 3}
