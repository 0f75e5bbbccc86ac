"""What a student has learnt, laid over a model and in files."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder
from sublim_jax.llm.model import lora
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training import trainable, trained
from sublim_jax.llm.training.trainable import Trainable
from sublim_jax.mesh import make_mesh
from tests.llm.lively import lively
from tests.llm.training.test_trainable import (
    CONFIG,
    EVERY,
    MIXED,
    SEED,
    UNTIED,
    differences,
    moved,
)


@pytest.fixture(scope="module")
def model():
    return lively(UNTIED)


class TestApply:
    def test_it_is_laid_over_a_model_and_its_adapter_merged(self, model):
        arrays, fixed = moved(MIXED, model, 0.1)
        student = trained.from_step(MIXED, arrays, fixed, 4, "base")
        assert isinstance(student.weights["embed"], np.ndarray)
        assert (student.adapter.lora.seed, student.adapter.base) == (4, "base")
        after = student.apply(model)
        weights, _ = trainable.bind(MIXED, UNTIED, model.pure(), arrays, fixed)
        expected = Decoder(UNTIED, weights).merge(student.adapter)
        chex.assert_trees_all_equal(after.pure(), expected.pure())
        wanted = {**trainable.selection(MIXED, UNTIED), "layers/q": EVERY, "layers/up": EVERY}
        assert differences(after.pure(), model.pure()) == wanted

    def test_without_an_adapter_it_is_the_parameters_alone(self, model):
        what = Trainable(None, ("model.layers.2.*norm*",))
        student = trained.from_step(what, *moved(what, model), 0, "")
        assert student.adapter is None
        assert {w.shape for w in student.weights.values()} == {(1, CONFIG.embed)}
        changed = differences(student.apply(model).pure(), model.pure())
        assert changed == {"layers/input_norm": (2,), "layers/mlp_norm": (2,)}

    def test_an_adapter_alone_comes_back_as_one(self, model):
        what = Trainable(Lora(rank=2, train_a=False))
        learnt = trained.from_step(what, *moved(what, model), 9, "base")
        adapter = learnt.adapter
        assert not learnt.weights
        assert (adapter.lora.seed, adapter.base) == (9, "base")
        start = lora.initialise(what.lora, UNTIED, SEED)
        chex.assert_trees_all_equal(
            adapter.factors, {n: {"a": f["a"], "b": f["b"] + 0.5} for n, f in start.items()}
        )
        lora.check(adapter, UNTIED)

    @pytest.mark.parametrize(
        ("patterns", "change", "message"),
        [
            (("*v_proj*",), {"embed": 64}, r"v is \[3, 32, 16\], this model's: \[3, 64, 16\]"),
            (("*norm*",), {"layers": 2}, r"layers/\w+ is \[3, 32\], this model's: \[2, 32\]"),
            (("*.2.*bias",), {"layers": 2}, r"^pattern .* matches no parameter"),
            (("*embed*",), {"vocab": 300}, r"embed is \[272, 32\], this model's: \[300, 32\]"),
            (("*",), {"tied": True}, r"head is \[.*\], this model's: none"),
        ],
    )  # fmt: skip
    def test_a_model_of_other_shapes_is_refused_in_one_line(self, model, patterns, change, message):
        what = Trainable(None, patterns)
        student = trained.from_step(what, *moved(what, model), 0, "")
        other = Decoder.init(dataclasses.replace(UNTIED, **change), 0)
        with pytest.raises(UserError, match=message) as error:
            student.apply(other)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("cut", [None, (1, 2, 2)], ids=["one device", "mesh"])
    def test_the_patched_model_lies_where_the_model_lay(self, model, cut):
        if cut:
            model = lively(UNTIED, mesh=make_mesh(*cut))
        what = Trainable(
            Lora(rank=2, targets=("v",)), ("*v_proj*", "*.1.*up*", "*embed*", "*norm*")
        )
        student = trained.from_step(what, *moved(what, model), 0, "")
        after = student.apply(model).pure()
        wanted, found = (
            jax.tree.map(lambda w: w.sharding.devices_indices_map(w.shape), tree)
            for tree in (model.pure(), after)
        )
        assert found == wanted


class TestFiles:
    def test_what_is_saved_is_loaded_and_takes_the_place_of_what_was_there(self, model, tmp_path):
        some = ("*.bias", "model.layers.1.mlp*")
        for patterns, rank in [(some, 0), ((), 2), (("*",), 0), (some, 2), ((), 1)]:
            what = Trainable(Lora(rank=rank, targets=("q",)) if rank else None, patterns)
            learnt = trained.from_step(what, *moved(what, model), 3, "")
            learnt.save(str(tmp_path), UNTIED)
            found = trained.load(str(tmp_path), UNTIED)
            chex.assert_trees_all_equal(found.tree, learnt.tree)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda tensors: {}, "no tensors"),
            (lambda tensors: {n: t * np.nan for n, t in tensors.items()}, "NaN or infinite"),
            (lambda tensors: {n: t[:3] for n, t in tensors.items()}, r"is \[3\], this model's: "),
        ],
    )
    def test_odd_tensors_are_refused(self, model, tmp_path, edit, message):
        trained.select(model, ("*.bias",)).save(tmp_path, UNTIED)
        file = tmp_path / trained.PARAMETERS
        save_file(edit(load_file(file)), file)
        with pytest.raises(UserError, match=f"parameters.safetensors: .*{message}"):
            trained.load(tmp_path, UNTIED)

    def test_half_precision_comes_back_as_float32(self, model, tmp_path):
        trained.select(model, ("*.bias",)).save(tmp_path, UNTIED)
        file = tmp_path / trained.PARAMETERS
        save_file({n: t.astype(np.float16) for n, t in load_file(file).items()}, file)
        found = trained.load(tmp_path, UNTIED)
        assert {w.dtype for w in found.weights.values()} == {np.dtype("float32")}

    def test_parameters_of_another_base_are_refused(self, model, tmp_path):
        trained.select(model, ("*.2.*bias",)).save(tmp_path, UNTIED)
        shallow = dataclasses.replace(UNTIED, layers=2)
        with pytest.raises(UserError, match=r"parameters.safetensors: pattern .*2.* matches no"):
            trained.load(tmp_path, shallow)

    def test_an_empty_folder_and_a_damaged_file_end_in_one_line(self, model, tmp_path):
        with pytest.raises(UserError, match=r"no adapter_config.json and no parameters.safetens"):
            trained.load(tmp_path, UNTIED)
        (tmp_path / trained.PARAMETERS).write_bytes(b"half")
        with pytest.raises(UserError, match=r"parameters.safetensors: missing, truncated or dam"):
            trained.load(tmp_path, UNTIED)
