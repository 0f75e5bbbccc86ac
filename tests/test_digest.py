"""A digest sees every change of what it is of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sublim_jax import digest
from sublim_jax.errors import UserError
from sublim_jax.mesh import make_mesh

TREE = {
    "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": [np.arange(5), np.array([True, False])],
}


def changed(array, index):
    """Returns the array with the lowest bit of one element changed."""
    out = np.array(array)
    out.view(np.uint8).reshape(*out.shape, -1)[(*index, 0)] ^= 1
    return out


class TestArrays:
    @pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, jnp.bfloat16])
    def test_one_bit_of_one_element_changes_it(self, dtype):
        array = np.arange(24).reshape(2, 3, 4).astype(dtype)
        found = {digest.of_arrays(changed(array, i)) for i in np.ndindex(array.shape)}
        assert len(found | {digest.of_arrays(array)}) == array.size + 1

    @pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
    def test_changes_of_many_elements_do_not_cancel(self, dtype):
        array = np.linspace(-1, 1, 24).reshape(2, 3, 4).astype(dtype)
        two = array.copy()
        two[0, 0, 0], two[1, 2, 3] = -two[0, 0, 0], -two[1, 2, 3]
        others = [-array, two, (array * 2).astype(dtype), array[:, ::-1].copy()]
        assert len({digest.of_arrays(o) for o in [array, *others]}) == 5

    def test_places_shapes_and_names_count(self):
        array = np.arange(6, dtype=np.int32)
        others = [
            array[::-1].copy(), array.reshape(2, 3), array.reshape(3, 2).T.copy().reshape(-1),
            array.astype(np.float32), {"a": array}, {"b": array}, [array, array[:0]],
        ]  # fmt: skip
        assert len({digest.of_arrays(o) for o in [array, *others]}) == len(others) + 1

    def test_it_does_not_depend_on_where_the_arrays_lie(self):
        placed = {
            "a": jax.device_put(
                TREE["a"], NamedSharding(make_mesh(2, 2, 2), PartitionSpec("data", None, "model"))
            ),
            "b": TREE["b"],
        }
        assert placed["a"].addressable_shards[0].data.shape == (1, 3, 2)
        assert digest.of_arrays(placed) == digest.of_arrays(TREE)

    def test_the_host_s_sums_are_those_of_the_program(self, monkeypatch):
        arrays = [*jax.tree.leaves(TREE), jnp.arange(7, dtype=jnp.bfloat16), np.float32(3)]
        one = digest.of_arrays(arrays)
        monkeypatch.setattr(digest, "_sums", None)  # small arrays need no program
        assert digest.of_arrays(arrays) == one
        monkeypatch.undo()
        monkeypatch.setattr(digest, "_SMALL", 3)
        assert digest.of_arrays(arrays) == one == "8432bc4d71ec2728"

    def test_nan_is_a_value_like_others(self):
        one, other = np.array([np.nan, 1.0]), np.array([1.0, np.nan])
        assert digest.of_arrays(one) == digest.of_arrays(one.copy()) != digest.of_arrays(other)


class TestFiles:
    def test_content_counts_and_names_in_a_folder(self, tmp_path):
        (tmp_path / "a.json").write_text("1")
        (tmp_path / "note.md").write_text("x")
        first = digest.of_files(tmp_path, ["*.json"])
        (tmp_path / "note.md").write_text("y")
        assert digest.of_files(tmp_path, ["*.json"]) == first
        assert digest.of_files(tmp_path) != first
        (tmp_path / "a.json").write_text("2")
        second = digest.of_files(tmp_path, ["*.json"])
        (tmp_path / "a.json").rename(tmp_path / "b.json")
        assert len({first, second, digest.of_files(tmp_path, ["*.json"])}) == 3

    def test_a_file_that_cannot_be_read_is_one_line(self, tmp_path):
        with pytest.raises(UserError, match=r"none: cannot be read: No such file"):
            digest.of_files(tmp_path / "none")


def test_the_order_of_an_object_s_keys_does_not_count():
    assert digest.of_json({"a": 1, "b": [2]}) == digest.of_json({"b": [2], "a": 1})
    assert digest.of_json([1, 2]) != digest.of_json([2, 1])
