"""What is saved is loaded bit for bit; what does not fit is said at once, in one line."""

import dataclasses
import json

import chex
import huggingface_hub
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, testing
from sublim_jax.llm.files import hf
from sublim_jax.llm.model import parameters
from sublim_jax.mesh import make_mesh

TINY = testing.TINY


@pytest.fixture
def folder(tmp_path):
    Decoder.init(TINY, seed=1).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _edit(folder, **changes):
    """Rewrites the tensors of a folder; None removes one."""
    tensors = load_file(folder / "model.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "model.safetensors")


def _complaint(folder, dtype="float32"):
    with pytest.raises(UserError) as error:
        Decoder.from_pretrained(folder, dtype)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, dtype, tied):
    model = Decoder.init(dataclasses.replace(TINY, tied=tied), 1, dtype)
    model.save_pretrained(tmp_path)
    loaded = Decoder.from_pretrained(tmp_path, dtype)
    assert loaded.config == model.config
    chex.assert_trees_all_equal(loaded.pure(), model.pure())


def test_a_checkpoint_in_several_files_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(hf, "_SHARD_BYTES", 20_000)
    model = Decoder.init(TINY, seed=1)
    model.save_pretrained(tmp_path)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == parameters.count(TINY) * 4
    chex.assert_trees_all_equal(Decoder.from_pretrained(tmp_path).pure(), model.pure())
    monkeypatch.undo()
    model.save_pretrained(tmp_path)  # in one file again: the others are gone
    assert [file.name for file in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]


def test_kernels_are_turned_and_layers_stacked(folder):
    tensors = load_file(folder / "model.safetensors")
    layers = Decoder.from_pretrained(folder).pure()["layers"]
    for i in range(TINY.layers):
        np.testing.assert_array_equal(
            layers["up"][i], tensors[f"model.layers.{i}.mlp.up_proj.weight"].T
        )


def test_tensors_of_mixed_types_are_each_read_as_what_they_are(folder):
    tensors = load_file(folder / "model.safetensors")
    kinds = [np.float32, np.float16, ml_dtypes.bfloat16]
    mixed = {name: t.astype(kinds[i % 3]) for i, (name, t) in enumerate(sorted(tensors.items()))}
    save_file(mixed, folder / "model.safetensors")
    loaded = Decoder.from_pretrained(folder).pure()
    embed = mixed["model.embed_tokens.weight"]
    np.testing.assert_array_equal(loaded["embed"], embed.astype(np.float32))
    down = np.stack([mixed[f"model.layers.{i}.mlp.down_proj.weight"].T for i in range(2)])
    np.testing.assert_array_equal(loaded["layers"]["down"], down.astype(np.float32))


def test_each_device_reads_its_own_part_alone(folder, monkeypatch):
    read, parts = hf._read, []

    def spy(array, tensors, index, dtype):
        part = read(array, tensors, index, dtype)
        parts.append((array.hf, part.size / np.prod(array.shape)))
        return part

    monkeypatch.setattr(hf, "_read", spy)
    mesh = make_mesh(1, 2, 4)
    loaded = Decoder.from_pretrained(folder, mesh=mesh).pure()
    monkeypatch.undo()
    up = [share for name, share in parts if "up_proj" in name]
    assert up == [1 / 8] * 8
    one = Decoder.from_pretrained(folder).pure()
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, loaded), jax.tree.map(np.asarray, one))
    for array, place in zip(
        jax.tree.leaves(loaded), jax.tree.leaves(parameters.shardings(TINY, mesh)), strict=True
    ):
        assert array.sharding.is_equivalent_to(place, array.ndim)


def test_every_tensor_that_does_not_fit_is_in_one_message(folder):
    _edit(
        folder,
        **{
            "model.norm.weight": None,
            "model.layers.1.mlp.up_proj.weight": np.zeros((3, 4), np.float32),
            "model.layers.0.mlp.up_proj.weight": np.zeros((80, 32), np.int8),
            "model.surprise": np.zeros(2, np.float32),
        },
    )
    said = _complaint(folder)
    assert "missing model.norm.weight" in said
    assert "unexpected model.surprise" in said
    assert "model.layers.1.mlp.up_proj.weight is [3, 4], the config says [80, 32]" in said
    assert "model.layers.0.mlp.up_proj.weight has the unsupported type I8" in said


def test_a_tied_checkpoint_may_hold_its_head_twice(folder):
    tensors = load_file(folder / "model.safetensors")
    _edit(folder, **{"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert "head" not in Decoder.from_pretrained(folder).pure()


def test_numbers_that_are_not_finite_are_named(folder):
    bad = np.ones((80, 32), np.float32)
    bad[3, 4] = np.nan
    _edit(folder, **{"model.layers.1.mlp.up_proj.weight": bad})
    assert "NaN or infinite numbers in model.layers.1.mlp.up_proj.weight:" in _complaint(folder)


def test_a_truncated_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert f"{file}: missing, truncated or not safetensors" in _complaint(folder)


def test_a_file_that_the_index_names_and_is_not_there_is_named(folder):
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors: missing" in _complaint(folder)


def test_other_damage_is_one_line_too(folder):
    assert "dtype 'float8': must be one of float32, bfloat16" in _complaint(folder, "float8")
    (folder / "model.safetensors").rename(folder / "model.bin")
    assert "no *.safetensors files" in _complaint(folder)
    (folder / "config.json").write_text("{")
    assert "config.json: not readable as JSON" in _complaint(folder)
    (folder / "config.json").write_text("[]")
    assert "config.json: not a JSON object" in _complaint(folder)
    (folder / "config.json").unlink()
    assert "config.json: missing" in _complaint(folder)
    assert "no such folder" in _complaint(folder / "nowhere")


def test_weights_that_do_not_fit_in_memory_are_one_line(folder, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(jax, "make_array_from_callback", full)
    said = _complaint(folder, "bfloat16")
    assert said.startswith("out of memory with 0.0 billion weights in bfloat16: cut them over")


def test_a_model_id_that_cannot_be_had_is_one_line(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert "some/model: no such folder, and not had from the hub: no route" in _complaint(
        "some/model"
    )


def test_a_model_id_is_had_from_the_hub(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda i, **_: asked.append(i) or str(folder)
    )
    assert Decoder.from_pretrained("some/model").config == TINY
    assert asked == ["some/model"]


def test_a_save_that_fails_leaves_what_was_there(folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hf, "save_file", full)
    with pytest.raises(UserError, match="cannot be written"):
        Decoder.init(TINY, seed=2).save_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_file_names_its_framework(folder):
    with safe_open(folder / "model.safetensors", "np") as opened:
        assert opened.metadata() == {"format": "pt"}  # transformers refuses a file without


def test_a_sharded_model_is_saved_whole(folder, tmp_path):
    many = Decoder.from_pretrained(folder, mesh=make_mesh(1, 2, 4))
    many.save_pretrained(tmp_path / "again")
    chex.assert_trees_all_equal(
        load_file(tmp_path / "again" / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert jnp.isfinite(Decoder.from_pretrained(tmp_path / "again").pure()["embed"]).all()
