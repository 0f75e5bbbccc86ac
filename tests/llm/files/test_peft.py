"""Adapters as PEFT files: what comes back, and bad folders that end in one line."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.files import peft
from sublim_jax.llm.model.lora import Lora
from tests.llm.model.test_lora import an_adapter, close, same

CONFIG = testing.TINY
TENSOR = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def folder(tmp_path):
    peft.save(an_adapter(rank=4, targets=("q", "v")), tmp_path / "adapter")
    return tmp_path / "adapter"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def edit_config(folder, **changes):
    file = folder / FILES[0]
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_tensors(folder, edit):
    """Rewrites the tensors that `edit` returns for a dict of them."""
    save_file(edit(load_file(folder / FILES[1])), folder / FILES[1])


class TestFiles:
    @pytest.mark.parametrize("rslora", [False, True])
    def test_what_is_saved_is_loaded_bit_for_bit(self, tmp_path, rslora):
        spec = {"rank": 3, "alpha": 5.5, "dropout": 0.1, "rslora": rslora}
        adapter = an_adapter(targets=("down", "q", "o"), **spec)
        peft.save(adapter, tmp_path / "deep" / "down")
        back = peft.load(str(tmp_path / "deep" / "down"), CONFIG)
        assert back.base == "somebody/base"
        assert back.lora == Lora(targets=("q", "o", "down"), **spec)
        same(back.factors, adapter.factors)

    def test_jax_arrays_and_other_float_types_are_saved_as_float32(self, tmp_path):
        adapter = an_adapter(targets=("q",))
        half = jax.tree.map(lambda f: jnp.asarray(f, jnp.bfloat16), adapter.factors)
        peft.save(dataclasses.replace(adapter, factors=half), tmp_path)
        assert {t.dtype for t in load_file(tmp_path / FILES[1]).values()} == {np.dtype("float32")}
        same(peft.load(tmp_path).factors, jax.tree.map(np.float32, half))

    def test_tensors_have_peft_s_names_and_shapes(self, folder):
        tensors = load_file(folder / FILES[1])
        wanted = {TENSOR.format(i, k, f) for i in range(CONFIG.layers) for k in "qv" for f in "AB"}
        assert set(tensors) == wanted
        assert tensors[TENSOR.format(0, "v", "A")].shape == (4, CONFIG.embed)
        assert tensors[TENSOR.format(1, "v", "B")].shape == (CONFIG.kv_heads * CONFIG.head_dim, 4)
        said = json.loads((folder / FILES[0]).read_text())
        assert said["target_modules"] == ["q_proj", "v_proj"]
        assert (said["peft_type"], said["r"], said["lora_alpha"]) == ("LORA", 4, 8.0)

    def test_bfloat16_files_are_read(self, folder):
        before = load_file(folder / FILES[1])
        edit_tensors(folder, lambda t: {k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()})
        found = peft.load(folder, CONFIG).factors["q"]["a"]
        assert found.dtype == np.float32
        close(found[1], before[TENSOR.format(1, "q", "A")].T, 2.0**-8)

    @pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("broken")])
    def test_a_write_that_fails_leaves_the_old_files_whole(self, folder, monkeypatch, error):
        before = contents(folder)

        def half(tensors, file, metadata):
            Path(file).write_bytes(b"half")
            raise error

        monkeypatch.setattr(peft, "save_file", half)
        with pytest.raises(UserError, match=r"adapter: cannot be written: .*(No space|broken)"):
            peft.save(an_adapter(1, rank=2), folder)
        assert contents(folder) == before

    def test_a_config_that_cannot_be_written_leaves_the_old_files_whole(self, folder, monkeypatch):
        before = contents(folder)

        def half(file, text, encoding):
            file.write_bytes(text[:9].encode())
            raise OSError(28, "No space left")

        monkeypatch.setattr(Path, "write_text", half)
        with pytest.raises(UserError, match="No space"):
            peft.save(an_adapter(1, rank=2), folder)
        assert contents(folder) == before

    def test_new_tensors_never_stand_beside_the_old_config(self, folder, monkeypatch):
        replace, done = Path.replace, []

        def once(file, target):
            if done:
                raise OSError(5, "Input/output error")
            done.append(target)
            return replace(file, target)

        monkeypatch.setattr(Path, "replace", once)
        with pytest.raises(UserError, match=r"adapter: cannot be written: .*Input/output"):
            peft.save(an_adapter(1, rank=4, alpha=99.0, targets=("q", "v")), folder)
        assert done == [folder / FILES[1]]
        with pytest.raises(UserError, match=r"adapter_config.json: missing"):
            peft.load(folder)

    def test_a_second_save_replaces_the_first_and_leaves_nothing_else(self, folder):
        newer = an_adapter(1, rank=2, targets=("gate",))
        peft.save(newer, folder)
        assert set(contents(folder)) == set(FILES)
        same(peft.load(folder).factors, newer.factors)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/adapter: cannot be created: Not a directory"):
            peft.save(an_adapter(), tmp_path / "file" / "adapter")


def _no(name):
    return lambda folder: (folder / name).unlink()


def _text(text):
    return lambda folder: (folder / FILES[0]).write_text(text)


def _said(**changes):
    return lambda folder: edit_config(folder, **changes)


def _cut(folder):
    data = (folder / FILES[1]).read_bytes()
    (folder / FILES[1]).write_bytes(data[: len(data) // 2])


def _tensors(edit):
    return lambda folder: edit_tensors(folder, edit)


def _number(value):
    def put(tensors):
        tensors[TENSOR.format(1, "v", "B")][0, 0] = value
        return tensors

    return _tensors(put)


def _renamed(old, new):
    return _tensors(lambda tensors: {k.replace(old, new): v for k, v in tensors.items()})


def _without(part):
    return _tensors(lambda tensors: {k: v for k, v in tensors.items() if part not in k})


def _narrow(tensors):
    name = TENSOR.format(1, "q", "A")
    return tensors | {name: np.ascontiguousarray(tensors[name][:, :-2])}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no(FILES[0]), r"adapter_config.json: missing: give the folder of a PEFT adapter"),
        (_text("{"), r"adapter_config.json: not readable as JSON: "),
        (_text("[1]"), r"adapter_config.json: not the config of a LoRA adapter"),
        (_said(peft_type="IA3"), r"not the config of a LoRA adapter \(peft_type LORA\)"),
        (_said(r=None), r"adapter_config.json: lora.rank=None: must be int$"),
        (_said(r=8.5), r"adapter_config.json: lora.rank=8.5: must be int$"),
        (_said(r=math.inf), r"adapter_config.json: lora.rank=inf: must be int$"),
        (_said(r=math.nan), r"adapter_config.json: lora.rank=nan: must be int$"),
        (_said(lora_alpha="8"), r"adapter_config.json: lora.alpha='8': must be float$"),
        (_said(lora_alpha=math.nan), r"adapter_config.json: lora.alpha=nan: must be finite$"),
        (_said(lora_alpha=-math.inf), r"adapter_config.json: lora.alpha=-inf: must be finite$"),
        (_said(lora_dropout="x"), r"adapter_config.json: lora.dropout='x': must be float$"),
        (_said(use_rslora="no"), r"adapter_config.json: lora.rslora='no': must be bool$"),
        (_said(target_modules=["q_proj"]), r"_config.json: target_modules names q, the tensors ar"),
        (_said(target_modules=["q_proj", "v_proj", "mlp.up_proj"]), r"names q, v, up, the tensors"),
        (_said(use_dora=True), r"adapter_config.json: not supported: use_dora$"),
        (_said(rank_pattern={"q_proj": 2}), r"not supported: rank_pattern$"),
        (_said(alpha_pattern={"q_proj": 2}), r"not supported: alpha_pattern$"),
        (_said(modules_to_save=["lm_head"]), r"not supported: modules_to_save$"),
        (_said(layer_replication=[[0, 1]]), r"not supported: layer_replication$"),
        (_said(fan_in_fan_out=True, bias="all"), r"not supported: fan_in_fan_out, bias 'all'$"),
        (_said(trainable_token_indices=[1]), r"not supported: trainable_token_indices$"),
        (_said(lora_bias=True), r"not supported: lora_bias$"),
        (_said(lora_dropout=1.5), r"dropout=1.5: must be from 0 to below 1"),
        (_said(r=0), r"rank=0: must be at least 1"),
        (_no(FILES[1]), r"adapter_model.safetensors: missing, truncated or damaged"),
        (_cut, r"adapter_model.safetensors: missing, truncated or damaged"),
        (_tensors(lambda _: {}), r"adapter_model.safetensors: no tensors"),
        (_number(np.nan), r"layers.1.self_attn.v_proj.lora_B.weight: NaN or infinite numbers"),
        (_number(-np.inf), r"layers.1.self_attn.v_proj.lora_B.weight: NaN or infinite numbers"),
        (_renamed("v_proj", "w_proj"), r"w_proj.lora_.*: not a LoRA factor of a decoder's kernel"),
        (_renamed("lora_A", "lora_E"), r"lora_E.weight: not a LoRA factor of a decoder's kernel"),
        (_without("layers.0."), r"[ab] of [qv] is not there for all of 2 layers"),
        (_without("layers.1.self_attn.v_proj"), r"[ab] of v is not there for all of 2 layers"),
        (_without("q_proj.lora_B"), r"b of q is not there for all of 2 layers"),
        (_tensors(_narrow), r"a of q is not there for all of 2 layers, in one shape"),
        (_without("layers.1."), r"adapter: made for another base: a of q is \[1, 32, 4\]"),
        (_said(r=8), r"safetensors: [ab] of q is .*4.*: not of the rank 8"),
        (_tensors(lambda t: {k: v[0] for k, v in t.items()}), r"[ab] of q is .*: not of the rank"),
    ],
)  # fmt: skip
def test_a_bad_folder_ends_in_one_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        peft.load(folder, CONFIG)
    assert "\n" not in str(error.value)


def test_without_a_config_any_base_will_do(folder):
    assert peft.load(folder).factors["q"]["a"].shape == (2, 32, 4)
    with pytest.raises(UserError, match=r"adapter: made for another base: a of q .* \[2, 64, 4\]"):
        peft.load(folder, dataclasses.replace(CONFIG, embed=64))


def test_the_rank_is_compared_with_the_tensors_without_a_base_too(folder):
    edit_config(folder, r=8)
    with pytest.raises(UserError, match=r"safetensors: [ab] of q is .*: not of the rank 8"):
        peft.load(folder)


@pytest.mark.parametrize(
    "modules",
    [
        ["self_attn.v_proj", "q_proj", "lm_head"],
        ["c_attn", "v_proj", "q_proj"],
        ".*(q|v)_proj",
        None,
    ],
)
def test_other_ways_to_name_the_same_kernels_are_read(folder, modules):
    edit_config(folder, target_modules=modules)
    assert peft.load(folder, CONFIG).lora.targets == ("q", "v")
