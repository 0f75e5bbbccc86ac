"""Adapters begin as they should, merge, stack and unmerge; bad PEFT folders end in one line."""

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
from sublim_jax.llm import Qwen2, Sampler, lora, qwen2, testing
from sublim_jax.llm.lora import KERNELS, Adapter, Lora
from sublim_jax.llm.sampler import make_requests
from sublim_jax.mesh import make_mesh
from tests.llm.lively import lively

CONFIG = testing.TINY
INPUT = {"down": CONFIG.mlp}  # of a kernel; the others read the embedding or as many heads
TENSOR = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def model():
    return lively(CONFIG)


def an_adapter(seed=0, config=CONFIG, **spec):
    """An adapter that changes the logits by about as much as they vary."""
    own, draw = Lora(**spec), np.random.default_rng(seed)
    factors = jax.tree.map(
        lambda f: np.asarray(f) + 0.3 * draw.standard_normal(f.shape, np.float32),
        lora.initialise(own, config),
    )
    return Adapter(own, factors, "somebody/base")


def some_tokens(rows=2, width=12, seed=0):
    drawn = np.random.default_rng(seed).integers(0, CONFIG.vocab, (rows, width))
    return drawn.astype(np.int32)


@jax.jit
def _forward(weights, tokens, adapter, students):
    x = qwen2.forward(CONFIG, weights, tokens, adapter=adapter, students_BT=students)
    return qwen2.head(CONFIG, weights, x)


def logits(model, tokens, adapter=None, students=None):
    return np.asarray(_forward(model.pure(), tokens, adapter, students))


def alone(model, tokens, adapter):
    return logits(model, tokens, lora.folded(adapter.lora, adapter.factors))


def close(found, expected, tolerance=1e-5):
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


class TestFirstValues:
    @pytest.mark.parametrize("name", KERNELS)
    def test_a_is_uniform_within_one_over_the_root_of_its_inputs_and_b_zero(self, name):
        d_in = INPUT.get(name, CONFIG.embed)
        pair = lora.initialise(Lora(rank=16), CONFIG)[name]
        a, bound = np.asarray(pair["a"]), 1 / math.sqrt(d_in)
        assert a.shape == (CONFIG.layers, d_in, 16)
        assert a.dtype == pair["b"].dtype == np.float32
        assert 0.98 * bound < a.max() <= bound
        assert -0.98 * bound > a.min() >= -bound
        assert a.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert abs(a.mean()) < 0.1 * bound
        assert not np.any(pair["b"])
        assert pair["b"].shape[:2] == (CONFIG.layers, 16)

    def test_they_depend_on_the_seed_and_the_kernel_alone(self):
        every = lora.initialise(Lora(rank=4, seed=7), CONFIG)
        other = Lora(rank=4, alpha=1.0, targets=("down", "q"), rslora=True, dropout=0.5, seed=7)
        few = lora.initialise(other, CONFIG)
        assert set(few) == {"q", "down"}
        same(few, {name: every[name] for name in few})
        assert np.any(every["q"]["a"] != lora.initialise(Lora(rank=4, seed=8), CONFIG)["q"]["a"])
        # q and o have the same shape here, k and v too: a name is a stream of its own.
        for one, two in (("q", "o"), ("k", "v"), ("gate", "up")):
            assert every[one]["a"].shape == every[two]["a"].shape
            assert not np.any(every[one]["a"] == every[two]["a"])
        layers = np.asarray(every["q"]["a"])
        assert not np.any(layers[0] == layers[1])

    def test_a_traced_seed_gives_what_the_number_gives(self):
        spec = Lora(rank=2, targets=("q", "down"))
        seeds = np.array([0, 5, 2**32 - 1], np.uint32)
        together = jax.jit(jax.vmap(lambda seed: lora.initialise(spec, CONFIG, seed)))(seeds)
        for i, seed in enumerate(seeds.tolist()):
            one = jax.tree.map(lambda f, i=i: f[i], together)
            same(one, lora.initialise(dataclasses.replace(spec, seed=seed), CONFIG))


@pytest.mark.parametrize(("rslora", "scale"), [(False, 0.75), (True, 3.0)])
def test_the_scale_is_alpha_over_the_rank_or_over_its_root(model, rslora, scale):
    adapter = an_adapter(rank=16, alpha=12.0, targets=("v",), rslora=rslora)
    assert adapter.lora.scale == scale
    folded = lora.folded(adapter.lora, adapter.factors)
    same(folded["v"]["a"], adapter.factors["v"]["a"])
    np.testing.assert_allclose(folded["v"]["b"], adapter.factors["v"]["b"] * scale, rtol=1e-6)
    merged = lora.merge(model, adapter).pure()["layers"]["v"]
    change = np.matmul(*(adapter.factors["v"][f].astype(np.float64) for f in "ab"))
    expected = np.asarray(model.pure()["layers"]["v"]) + scale * change
    close(np.asarray(merged), expected, 1e-6)


class TestMerging:
    def test_a_merged_model_computes_what_the_adapter_adds(self, model):
        adapter, tokens = an_adapter(rank=3, alpha=2.0), some_tokens()
        merged = lora.merge(model, adapter)
        expected = alone(model, tokens, adapter)
        close(logits(merged, tokens), expected)
        assert np.abs(expected - logits(model, tokens)).max() > 0.1 * np.abs(expected).max()

    def test_unmerging_restores_it_up_to_rounding(self, model):
        adapter = an_adapter(rank=3)
        back = lora.unmerge(lora.merge(model, adapter), adapter)
        jax.tree.map(lambda a, b: close(np.asarray(a), b, 1e-6), back.pure(), model.pure())

    def test_only_the_adapted_kernels_change_and_the_model_given_does_not(self, model):
        before = jax.tree.map(np.array, model.pure())
        merged = lora.merge(model, an_adapter(targets=("k", "up"))).pure()
        changed = {
            name for name, w in merged["layers"].items() if np.any(w != before["layers"][name])
        }
        assert changed == {"k", "up"}
        same({**merged, "layers": None}, {**before, "layers": None})
        same(model.pure(), before)

    def test_bfloat16_kernels_are_added_to_in_float32_and_keep_their_type(self):
        rough = lively(CONFIG)
        weights = jax.tree.map(lambda w: w.astype(jnp.bfloat16), rough.pure())
        adapter = an_adapter(rank=2, targets=("o",))
        found = lora.merge(Qwen2(CONFIG, weights), adapter).pure()["layers"]["o"]
        change = adapter.lora.scale * np.matmul(
            adapter.factors["o"]["a"], adapter.factors["o"]["b"]
        )
        expected = np.asarray(weights["layers"]["o"], np.float32) + change
        assert found.dtype == jnp.bfloat16
        # Half a unit of the last of 8 bits: the sum was rounded once.
        error = np.abs(np.asarray(found, np.float32) - expected)
        assert (error <= 2.0**-8 * (1 + 1e-3) * np.abs(expected)).all()

    def test_the_kernels_stay_where_they_lay_on_a_mesh(self, model):
        adapter = an_adapter()
        spread = lively(CONFIG, mesh=make_mesh(1, 2, 2))
        merged = lora.merge(spread, adapter)
        assert merged.mesh is spread.mesh
        places = [jax.tree.map(lambda w: w.sharding, m.pure()) for m in (merged, spread)]
        assert places[0] == places[1]
        assert len(merged.pure()["layers"]["q"].addressable_shards[0].data[0]) == CONFIG.embed // 2
        expected = lora.merge(model, adapter).pure()["layers"]
        for name in KERNELS:
            close(np.asarray(merged.pure()["layers"][name]), expected[name], 1e-6)

    def test_an_adapter_of_another_base_is_refused(self, model):
        wide = dataclasses.replace(CONFIG, mlp=96)
        with pytest.raises(UserError, match=r"^the adapter: made for another base: b of gate is "):
            lora.merge(model, an_adapter(config=wide, targets=("gate",)))
        deep = dataclasses.replace(CONFIG, layers=3)
        with pytest.raises(
            UserError, match=r"a of q is \[3, 32, 8\], this model wants \[2, 32, 8\]"
        ):
            lora.unmerge(model, an_adapter(config=deep, targets=("q",)))


class TestStack:
    """Adapters of other ranks, scales and kernels, together."""

    adapters = (
        an_adapter(1, rank=2, alpha=1.0, targets=("q", "down")),
        an_adapter(2, rank=5, targets=("v", "q", "o")),
        an_adapter(3, rank=1, rslora=True, alpha=0.5, targets=("gate",)),
    )

    def test_its_shape_holds_the_widest_and_every_kernel(self):
        tree = lora.stack(self.adapters)
        assert set(tree) == {"q", "v", "o", "gate", "down"}
        assert tree["q"]["a"].shape == (3, CONFIG.layers, CONFIG.embed, 5)
        assert tree["down"]["b"].shape == (3, CONFIG.layers, 5, CONFIG.embed)
        assert not np.any(tree["down"]["a"][1:])
        assert not np.any(tree["q"]["b"][0, :, 2:])

    def test_each_row_is_that_of_its_adapter_alone(self, model):
        tokens = some_tokens(4)
        students = np.array([2, 0, 1, 0], np.int32)
        tree = qwen2.layers_first(lora.stack(self.adapters))
        found = logits(model, tokens, tree, np.repeat(students[:, None], tokens.shape[1], 1))
        for i, student in enumerate(students):
            close(found[i], alone(model, tokens, self.adapters[student])[i])
        assert np.abs(found - logits(model, tokens)).max((1, 2)).min() > 0.05

    @pytest.mark.slow
    def test_the_sampler_writes_with_each_what_it_writes_with_it_alone(self, model):
        prompts = [row.tolist() for row in some_tokens(3, 6)]
        sampler = Sampler(model)

        def drawn(adapters, students):
            requests = make_requests(prompts, 1, 8, students)
            found = sampler.stream(requests, 1.0, adapter=lora.stack(adapters), logprobs=True)
            return sorted(found, key=lambda sample: sample.id)

        together = drawn(self.adapters, [0, 1, 0])
        texts = set()
        for student, adapter in enumerate(self.adapters[:2]):
            every = drawn([adapter], [0, 0, 0])
            one = every[student]
            assert together[student].tokens == one.tokens
            np.testing.assert_allclose(together[student].logprobs, one.logprobs, atol=1e-4)
            texts.add(str(every[0].tokens))
        assert len(texts) == 2  # each adapter writes its own


@pytest.fixture
def folder(tmp_path):
    lora.save_peft(an_adapter(rank=4, targets=("q", "v")), tmp_path / "adapter")
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
        lora.save_peft(adapter, tmp_path / "deep" / "down")
        back = lora.load_peft(str(tmp_path / "deep" / "down"), CONFIG)
        assert back.base == "somebody/base"
        assert back.lora == Lora(targets=("q", "o", "down"), **spec)
        same(back.factors, adapter.factors)

    def test_jax_arrays_and_other_float_types_are_saved_as_float32(self, tmp_path):
        adapter = an_adapter(targets=("q",))
        half = jax.tree.map(lambda f: jnp.asarray(f, jnp.bfloat16), adapter.factors)
        lora.save_peft(dataclasses.replace(adapter, factors=half), tmp_path)
        assert {t.dtype for t in load_file(tmp_path / FILES[1]).values()} == {np.dtype("float32")}
        same(lora.load_peft(tmp_path).factors, jax.tree.map(np.float32, half))

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
        found = lora.load_peft(folder, CONFIG).factors["q"]["a"]
        assert found.dtype == np.float32
        close(found[1], before[TENSOR.format(1, "q", "A")].T, 2.0**-8)

    @pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("broken")])
    def test_a_write_that_fails_leaves_the_old_files_whole(self, folder, monkeypatch, error):
        before = contents(folder)

        def half(tensors, file, metadata):
            Path(file).write_bytes(b"half")
            raise error

        monkeypatch.setattr(lora, "save_file", half)
        with pytest.raises(UserError, match=r"adapter: cannot be written: .*(No space|broken)"):
            lora.save_peft(an_adapter(1, rank=2), folder)
        assert contents(folder) == before

    def test_a_config_that_cannot_be_written_leaves_the_old_files_whole(self, folder, monkeypatch):
        before = contents(folder)

        def half(file, text, encoding):
            file.write_bytes(text[:9].encode())
            raise OSError(28, "No space left")

        monkeypatch.setattr(Path, "write_text", half)
        with pytest.raises(UserError, match="No space"):
            lora.save_peft(an_adapter(1, rank=2), folder)
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
            lora.save_peft(an_adapter(1, rank=4, alpha=99.0, targets=("q", "v")), folder)
        assert done == [folder / FILES[1]]
        with pytest.raises(UserError, match=r"adapter_config.json: missing"):
            lora.load_peft(folder)

    def test_a_second_save_replaces_the_first_and_leaves_nothing_else(self, folder):
        newer = an_adapter(1, rank=2, targets=("gate",))
        lora.save_peft(newer, folder)
        assert set(contents(folder)) == set(FILES)
        same(lora.load_peft(folder).factors, newer.factors)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"file/adapter: cannot be created: Not a directory"):
            lora.save_peft(an_adapter(), tmp_path / "file" / "adapter")


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
        (_renamed("v_proj", "w_proj"), r"w_proj.lora_.*: not a LoRA factor of a Qwen2 kernel"),
        (_renamed("lora_A", "lora_E"), r"lora_E.weight: not a LoRA factor of a Qwen2 kernel"),
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
        lora.load_peft(folder, CONFIG)
    assert "\n" not in str(error.value)


def test_without_a_config_any_base_will_do(folder):
    assert lora.load_peft(folder).factors["q"]["a"].shape == (2, 32, 4)
    with pytest.raises(UserError, match=r"adapter: made for another base: a of q .* \[2, 64, 4\]"):
        lora.load_peft(folder, dataclasses.replace(CONFIG, embed=64))


def test_the_rank_is_compared_with_the_tensors_without_a_base_too(folder):
    edit_config(folder, r=8)
    with pytest.raises(UserError, match=r"safetensors: [ab] of q is .*: not of the rank 8"):
        lora.load_peft(folder)


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
    assert lora.load_peft(folder, CONFIG).lora.targets == ("q", "v")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, r"lora.rank=0: must be at least 1"),
        ({"dropout": 1.0}, r"lora.dropout=1.0: must be from 0 to below 1"),
        ({"dropout": -0.1}, r"lora.dropout=-0.1: must be"),
        ({"dropout": math.nan}, r"lora.dropout=nan: must be"),
        ({"alpha": math.nan}, r"^lora.alpha=nan: must be finite$"),
        ({"alpha": math.inf}, r"^lora.alpha=inf: must be finite$"),
        ({"alpha": 10**400}, r"^lora.alpha=10+: must be float$"),
        ({"rank": "8"}, r"^lora.rank='8': must be int$"),
        ({"rank": True}, r"^lora.rank=True: must be int$"),
        ({"dropout": None}, r"^lora.dropout=None: must be float$"),
        ({"train_a": "no"}, r"^lora.train_a='no': must be bool$"),
        ({"seed": 1.5}, r"^lora.seed=1.5: must be int \| tuple\[int, ...\]$"),
        ({"seed": -1}, r"^lora.seed=-1: must be from 0 to below 2\^32$"),
        ({"seed": (0, 2**32)}, r"^lora.seed=\(0, 4294967296\): must be from 0 to below 2\^32$"),
        ({"seed": 2**99}, r"^lora.seed=\d+: must be from 0 to below 2\^32$"),
        ({"seed": np.zeros((3, 3))}, r"^lora.seed=array.*: must be int"),
        ({"targets": 5}, r"^lora.targets=5: must be tuple\[str, ...\]$"),
        ({"targets": (5,)}, r"^lora.targets=\(5,\): must be tuple\[str, ...\]$"),
        ({"targets": ()}, r"lora.targets=\[\]: choose from q, k, v, o, gate, up, down, each"),
        ({"targets": ("q", "w")}, r"lora.targets=\['q', 'w'\]: choose from"),
        ({"targets": ("q", "q_proj")}, r"lora.targets=\['q', 'q'\]: choose from .* at most once"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        Lora(**arguments)
    assert "\n" not in str(error.value)


def test_lists_become_tuples_and_numpy_s_numbers_python_s():
    given = {"rank": np.int64(4), "alpha": np.float32(2), "targets": "q", "seed": [1, np.uint32(2)]}
    made = Lora(**given)
    assert made == Lora(rank=4, alpha=2.0, targets=("q",), seed=(1, 2))
    assert hash(made) == hash(Lora(rank=4, alpha=2, targets=("q",), seed=(1, 2)))
    assert (type(made.rank), type(made.alpha), type(made.seed[1])) == (int, float, int)
    assert Lora(seed=2**32 - 1).seed == 2**32 - 1


def test_peft_s_names_of_kernels_are_understood():
    assert Lora(targets=["q_proj", "down"]).targets == ("q", "down")
    assert hash(Lora(targets=["q_proj"])) == hash(Lora(targets=("q",)))
