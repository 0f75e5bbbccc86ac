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
from sublim_jax.llm.model.lora import KERNELS, Lora
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

    @pytest.mark.parametrize("done", range(4))
    def test_a_kill_between_renames_leaves_the_old_adapter_or_the_new(
        self, folder, monkeypatch, done
    ):
        old, new = peft.load(folder), an_adapter(1, rank=4, alpha=99.0, targets=("q", "v"))
        replace, calls = Path.replace, []

        def killed(file, target):
            if len(calls) == done:
                raise KeyboardInterrupt
            calls.append(target)
            return replace(file, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            if done < 3:
                with pytest.raises(KeyboardInterrupt):
                    peft.save(new, folder)
            else:
                peft.save(new, folder)
        assert peft.is_adapter(folder)
        found, wanted = peft.load(folder), new if done else old
        assert found.lora.alpha == wanted.lora.alpha
        same(found.factors, wanted.factors)
        assert set(contents(folder)) == set(FILES)

    def test_a_second_save_replaces_the_first_and_leaves_nothing_else(self, folder):
        newer = an_adapter(1, rank=2, targets=("gate",))
        peft.save(newer, folder)
        assert set(contents(folder)) == set(FILES)
        same(peft.load(folder).factors, newer.factors)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/adapter: cannot be written: Not a directory"):
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


def _pointer(folder):
    (folder / FILES[1]).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


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
        (_text("[1]"), r"adapter_config.json: not a JSON object"),
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
        (_said(target_modules=["q_proj"]), r"safetensors: has factors of model.*v_proj, against"),
        (_said(target_modules=["q_proj", "v_proj", "mlp.up_proj"]), r"no factors of .*0.mlp.up_p"),
        (_said(target_modules=[]), r"safetensors: has factors of .*q_proj, against the target_mod"),
        (_said(target_modules=3), r"_config.json: target_modules=3: of no type that PEFT takes$"),
        (_said(target_modules="(q"), r"adapter_config.json: missing \), unterminated subpattern"),
        (_said(target_modules=".*", layers_to_transform=[0]), r"beside a pattern of target_modul"),
        (_said(layers_pattern="layers"), r"layers_pattern without layers_to_transform$"),
        (_said(layers_to_transform=[1]), r"has factors of model.layers.0.self_attn.q_proj, agains"),
        (_said(layers_to_transform=[0, 1], layers_pattern="h"), r"has factors of model.layers.0"),
        (_said(exclude_modules=["v_proj"]), r"has factors of model.layers.0.self_attn.v_proj"),
        (_said(rank_pattern={"q_proj": 2}), r"q_proj of layer 0: a is \[32, 4\], not \[32, 2"),
        (_said(rank_pattern={"q_proj": "2"}), r"adapter_config.json: lora.rank='2': must be int$"),
        (_said(rank_pattern=["q_proj"]), r"rank_pattern=\['q_proj'\]: of no type that PEFT takes$"),
        (_said(use_dora=True), r"adapter_config.json: not supported: use_dora$"),
        (_said(modules_to_save=["lm_head"]), r"not supported: modules_to_save$"),
        (_said(layer_replication=[[0, 1]]), r"not supported: layer_replication$"),
        (_said(bias="all"), r"not supported: bias 'all'$"),
        (_said(trainable_token_indices=[1]), r"not supported: trainable_token_indices$"),
        (_said(lora_bias=True), r"not supported: lora_bias$"),
        (_said(alora_invocation_tokens=[7]), r"not supported: alora_invocation_tokens$"),
        (_said(init_lora_weights="pissa_niter_4"), r"init_lora_weights 'pissa_niter_4'$"),
        (_said(init_lora_weights="olora"), r"not supported: init_lora_weights 'olora'$"),
        (_said(init_lora_weights=["true"]), r"not supported: init_lora_weights \['true'\]$"),
        (_said(of_next_year={"a": 1}, use_dora=True), r"not supported: of_next_year, use_dora$"),
        (_said(lora_dropout=1.5), r"dropout=1.5: must be from 0 to below 1"),
        (_said(r=0), r"rank=0: must be at least 1"),
        (_no(FILES[1]), r"adapter_model.safetensors: missing, truncated or damaged"),
        (lambda folder: (folder / FILES[1]).rename(folder / "adapter_model.bin"),
         r"safetensors: missing, and the pickle adapter_model.bin is not read: save it as safete"),
        (_tensors(lambda t: {k: v.astype(np.int8) for k, v in t.items()}), r"nsupported type I8$"),
        (_tensors(lambda t: {k: v.astype(ml_dtypes.float8_e4m3fn) for k, v in t.items()}),
         r"lora_A.weight has the unsupported type F8_E4M3$"),
        (_cut, r"adapter_model.safetensors: missing, truncated or damaged"),
        (_tensors(lambda _: {}), r"adapter_model.safetensors: no tensors"),
        (_number(np.nan), r"layers.1.self_attn.v_proj.lora_B.weight: NaN or infinite numbers"),
        (_number(-np.inf), r"layers.1.self_attn.v_proj.lora_B.weight: NaN or infinite numbers"),
        (_renamed("v_proj", "w_proj"), r"w_proj.lora_.*: not a LoRA factor of a decoder's kernel"),
        (_renamed("lora_A", "lora_E"), r"lora_E.weight: not a LoRA factor of a decoder's kernel"),
        (_without("layers.0."), r"no factors of model.layers.0.self_attn.q_proj, against the targ"),
        (_without("layers.1.self_attn.v_proj"), r"no factors of model.layers.1.self_attn.v_proj"),
        (_without("q_proj.lora_B"), r"q of layer 0 has one of lora_A and lora_B alone$"),
        (_tensors(_narrow), r"s: q_proj of layer 1: a is \[30, 4\], not \[32, 4\], of"),
        (_renamed("layers.1.", "layers.7."), r"made for another base: .*layer 7, .* 2 lay"),
        (_renamed("base_model.model.", ""), r"safetensors: model.*lora_A.*: not a LoRA factor"),
        (_renamed("layers", "language_model.layers"), r"language_model.*: not a LoRA factor"),
        (_tensors(lambda t: t | {k.replace("lora_A", "lora_A.default"): v for k, v in t.items()}),
         r"lora_A.weight: not a matrix, or there twice$"),
        (_said(r=8), r"q_proj of layer 0: a is \[32, 4\], not \[32, 8\]"),
        (_tensors(lambda t: {k: v[0] for k, v in t.items()}), r"weight: not a matrix, or there tw"),
        (_pointer, r"safetensors: a Git LFS pointer, not the file itself: run git lfs"),
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
    with pytest.raises(UserError, match=r"layer 0: a is \[32, 4\], not \[32, 8\], of the rank 8"):
        peft.load(folder)


@pytest.mark.parametrize(
    "modules",
    [
        ["self_attn.v_proj", "q_proj", "lm_head"],
        ["c_attn", "v_proj", "q_proj"],
        ".*(q|v)_proj",
        ["model.layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "v_proj"],
        None,
    ],
)
def test_other_ways_to_name_the_same_kernels_are_read(folder, modules):
    edit_config(folder, target_modules=modules)
    assert peft.load(folder, CONFIG).lora.targets == ("q", "v")


def test_what_changes_no_logits_is_read_over(folder):
    before = peft.load(folder, CONFIG)
    edit_config(
        folder, task_type="SEQ_2_SEQ_LM", revision="main", peft_version="9", bias=None,
        init_lora_weights="gaussian", modules_to_save=[], rank_pattern=None, alpha_pattern={},
        layers_to_transform=None, of_next_year=False, fan_in_fan_out=True, qalora_group_size=16,
        auto_mapping={"base_model_class": "Model"}, lora_dropout=None, use_rslora=None,
    )  # fmt: skip
    file = folder / FILES[0]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # a byte order mark
    edit_tensors(folder, lambda t: {k.replace(".weight", ".default.weight"): t[k] for k in t})
    after = peft.load(folder, CONFIG)
    assert after.lora == before.lora
    same(after.factors, before.factors)


def changes(adapter):
    """What an adapter adds to each kernel, [L, in, out]."""
    return {n: adapter.lora.scale * f["a"] @ f["b"] for n, f in adapter.factors.items()}


SIZES = [
    ({"layers_to_transform": [1]}, {(1, "q"): (4, 2), (1, "v"): (4, 2)}),
    ({"layers_to_transform": 0, "layers_pattern": ["h", "layers"]},
     {(0, "q"): (4, 2), (0, "v"): (4, 2)}),
    ({"exclude_modules": ["0.self_attn.v_proj"]},
     {(0, "q"): (4, 2), (1, "q"): (4, 2), (1, "v"): (4, 2)}),
    ({"exclude_modules": r".*\.0\..*"}, {(1, "q"): (4, 2), (1, "v"): (4, 2)}),
    ({"target_modules": r".*\.1\.self_attn\.(q|k)_proj"}, {(1, "q"): (4, 2), (1, "k"): (4, 2)}),
    ({"target_modules": "all-linear", "exclude_modules": r".*(mlp|o_proj|\.1\.).*"},
     {(0, "q"): (4, 2), (0, "k"): (4, 2), (0, "v"): (4, 2)}),
    ({"rank_pattern": {"q_proj": 2, "1.self_attn.*": 7}},
     {(0, "q"): (2, 4), (1, "q"): (2, 4), (0, "v"): (4, 2), (1, "v"): (7, 8 / 7)}),
    ({"alpha_pattern": {"^model.layers.1.self_attn.q_proj": -20}, "lora_alpha": 3},
     {(0, "q"): (4, 0.75), (1, "q"): (4, -5), (0, "v"): (4, 0.75), (1, "v"): (4, 0.75)}),
    ({"alpha_pattern": {"q_proj": 5}, "rank_pattern": {".*0.*v_proj": 9}, "use_rslora": True,
      "lora_alpha": 0},
     {(0, "q"): (4, 2.5), (1, "q"): (4, 2.5), (0, "v"): (9, 0), (1, "v"): (4, 0)}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "sizes"), SIZES)
def test_kernels_may_have_their_own_layers_ranks_and_scales(folder, said, sizes):
    draw, plain = np.random.default_rng(0), an_adapter(targets=("q", "k", "v")).factors
    tensors, wanted = {}, {name: np.zeros((2, 32, f["b"].shape[2])) for name, f in plain.items()}
    for (layer, name), (rank, scale) in sizes.items():
        a = draw.standard_normal((rank, 32), np.float32)
        b = draw.standard_normal((wanted[name].shape[2], rank), np.float32)
        tensors |= {TENSOR.format(layer, name, "A"): a, TENSOR.format(layer, name, "B"): b}
        wanted[name][layer] = scale * (b @ a).T
    edit_tensors(folder, lambda _: tensors)
    edit_config(folder, r=4, **({"lora_alpha": 8} | said))
    adapter = peft.load(folder, CONFIG)
    assert set(adapter.lora.targets) == {name for _, name in sizes}
    assert adapter.lora.rank == max(rank for rank, _ in sizes.values())
    peft.save(adapter, folder)
    for found in (changes(adapter), changes(peft.load(folder, CONFIG))):
        for name, change in found.items():
            np.testing.assert_allclose(change, wanted[name], atol=1e-4)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "said",
    [
        {"layers_to_transform": [1], "layers_pattern": ["h", "layers"], "fan_in_fan_out": True},
        {"target_modules": ["model.layers.0.self_attn.q_proj", "1.mlp.up_proj", "o_proj"],
         "layers_to_transform": 1},
        {"target_modules": "all-linear", "exclude_modules": r".*\.0\..*_proj|.*down_proj"},
        {"exclude_modules": ["1.mlp.up_proj", "k_proj"], "init_lora_weights": "orthogonal"},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.*": 7}, "use_rslora": True,
         "alpha_pattern": {"v_proj": 3, ".*0.*down_proj": 16, "^model.layers.1.mlp.up_proj": 1}},
        {"target_modules": None, "lora_alpha": 0, "alpha_pattern": {"q_proj": 4}},
    ],
)  # fmt: skip
def test_peft_adds_the_same_to_each_kernel(tmp_path, said):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from sublim_jax.llm import Decoder

    Decoder.init(CONFIG).save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    every = [f"{name}_proj" for name in KERNELS]
    spec = {"r": 4, "lora_alpha": 8, "target_modules": every, "task_type": "CAUSAL_LM"} | said
    theirs = get_peft_model(base, LoraConfig(**spec))
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if ".lora_" in name:
                value.add_(torch.randn_like(value) * 0.3)
    theirs.save_pretrained(tmp_path / "adapter")
    found = changes(peft.load(tmp_path / "adapter", CONFIG))
    for name, module in theirs.base_model.model.named_modules():
        layer, _, kernel = name.removeprefix("model.layers.").partition(".")
        kernel = kernel.rpartition(".")[2].removesuffix("_proj")
        if kernel in KERNELS:
            adapted = hasattr(module, "get_delta_weight")
            wanted = module.get_delta_weight("default").detach().numpy().T if adapted else 0.0
            ours = found[kernel][int(layer)] if kernel in found else np.zeros(1)
            np.testing.assert_allclose(ours, np.broadcast_to(wanted, ours.shape), atol=1e-5)
