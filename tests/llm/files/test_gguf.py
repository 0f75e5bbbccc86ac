"""A GGUF file is read as the checkpoint that it was made of, and what is not read is refused."""

import dataclasses
import functools
import struct

import chex
import gguf as writing
import jax
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from configs.llm import tiny
from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, jobs, testing
from sublim_jax.llm.files import chat, gguf, hf
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import RopeScaling
from sublim_jax.mesh import make_mesh
from tests.llm.lively import lively

# Rows of 32 numbers and more, as the blocks of quantised tensors want.
FAMILIES = {n: dataclasses.replace(c, mlp=96) for n, c in testing.FAMILIES.items()}
FAMILIES["llama"] = dataclasses.replace(
    FAMILIES["llama"], rope_scaling=RopeScaling(8.0), rope_theta=5e5, head_dim=32
)
PLAIN = dataclasses.replace(FAMILIES["llama"], rope_scaling=None)
THEIRS = {ours: theirs for theirs, ours in gguf._NAMES.items()}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


@functools.lru_cache
def weights_of(config):
    return jax.tree.map(np.asarray, lively(config).pure())


def family_of(config):
    return "qwen3" if config.qk_norm else "qwen2" if config.biases else "llama"


def tensors_of(config, weights, kind=Kind.F32):
    """Returns the tensors of a GGUF file: name -> (array, type), in llama.cpp's order of rows."""
    out = {}
    for name, tensor in hf._tensors(parameters.declare(config), weights):
        tensor = np.array(tensor)
        stem, part = name.removeprefix("model.layers.").rsplit(".", 1)
        layer, _, inner = stem.partition(".") if stem[0].isdigit() else ("", "", stem)
        theirs = f"{f'blk.{layer}.' if layer else ''}{THEIRS[inner]}.{part}"
        if family_of(config) == "llama" and inner in ("self_attn.q_proj", "self_attn.k_proj"):
            halves = tensor.reshape(-1, 2, config.head_dim // 2, *tensor.shape[1:])
            tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
        own = kind if tensor.ndim == 2 else Kind.F32
        out[theirs] = (writing.quantize(tensor, own), own)
    if config.rope_scaling:
        frequencies = 5e5 ** (-np.arange(0, 32, 2) / 32)
        turns = 8192 * frequencies / (2 * np.pi)
        share = np.clip((turns - 1) / 3, 0, 1)
        factors = (1 / (share + (1 - share) / 8)).astype(np.float32)
        out["rope_freqs.weight"] = (factors, Kind.F32)
    return out


def fields_of(config):
    return {
        "block_count": config.layers,
        "context_length": config.context,
        "embedding_length": config.embed,
        "feed_forward_length": config.mlp,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.freq_base": config.rope_theta,
        "rope.dimension_count": config.head_dim,
        "vocab_size": config.vocab,  # llama.cpp's own, which transformers wants
    }


def words_of(tokenizer):
    """Returns the metadata of a byte tokenizer, with one merge."""
    vocabulary = [*sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get), "Ġa"]
    special = set(tokenizer.all_special_tokens) | {"<|im_start|>"}
    return {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": vocabulary,
        "token_type": [3 if token in special else 1 for token in vocabulary],
        "merges": ["Ġ a"],
        "eos_token_id": testing._END,
    }


def write(file, config=None, tensors=None, fields=(), words=(), extra=(), family=None):
    """Writes a GGUF file of tensors and metadata."""
    family = family or family_of(config)
    writer = writing.GGUFWriter(str(file), family)
    everything = {f"{family}.{name}": value for name, value in dict(fields).items()}
    everything |= {f"tokenizer.ggml.{name}": value for name, value in dict(words).items()}
    for name, value in {**everything, **dict(extra)}.items():
        add = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }[type(value)]
        add(name, value)
    for name, (array, kind) in (tensors or {}).items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def whole(file, config, kind=Kind.F32, changes=(), **more):
    """Writes the file of a lively model; returns the file and the model's weights."""
    weights = weights_of(config)
    tensors = tensors_of(config, weights, kind) | dict(changes)
    tensors = {name: value for name, value in tensors.items() if value is not None}
    more.setdefault("words", words_of(testing.tokenizer()))
    extra = {"tokenizer.chat_template": TEMPLATE} | more.pop("extra", {})
    fields = fields_of(config) | more.pop("fields", {})
    fields = {name: value for name, value in fields.items() if value is not None}
    return write(file, config, tensors, fields, extra=extra, **more), weights


def complaint(read, *arguments):
    with pytest.raises(UserError) as error:
        read(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("qwen2", Kind.F32),
        ("qwen3", Kind.F16),
        ("llama", Kind.F32),
        ("llama", Kind.Q4_0),
        ("qwen2", Kind.Q8_0),
        ("qwen3", Kind.BF16),
    ],
)
def test_config_and_weights_are_those_of_the_model(tmp_path, family, kind):
    config = FAMILIES[family]
    file, weights = whole(tmp_path / "a.gguf", config, kind)
    loaded = Decoder.from_pretrained(file)
    rounded = {field: float(np.float32(getattr(config, field))) for field in ("norm_eps",)}
    assert loaded.config == dataclasses.replace(config, **rounded)

    def stored(array, value):
        if value.ndim - array.stacked < 2:
            return value
        turned = np.swapaxes(value, -1, -2) if array.transposed else value
        back = writing.dequantize(writing.quantize(np.ascontiguousarray(turned), kind), kind)
        return np.swapaxes(back, -1, -2) if array.transposed else back

    wanted = jax.tree.map(stored, parameters.declare(config), weights)
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, loaded.pure()), wanted)


def test_every_process_reads_its_own_part(tmp_path):
    file, _ = whole(tmp_path / "a.gguf", FAMILIES["llama"], Kind.Q8_0)
    one = Decoder.from_pretrained(file).pure()
    mesh = make_mesh(1, 2, 4)
    many = Decoder.from_pretrained(file, mesh=mesh).pure()
    places = parameters.shardings(FAMILIES["llama"], mesh)
    assert jax.tree.all(jax.tree.map(lambda a, p: a.sharding == p, many, places))
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, many), jax.tree.map(np.asarray, one))


@pytest.mark.parametrize("kind", gguf.TYPES)
def test_a_part_of_a_tensor_is_read_alone(tmp_path, kind):
    block, size = writing.GGML_QUANT_SIZES[Kind[kind]]
    raw = np.random.default_rng(0).integers(0, 60, (6, 2 * max(block, 8) // block * size), np.uint8)
    (tmp_path / "t").write_bytes(b"before" + raw.tobytes())
    tensor = gguf.Tensor(tmp_path / "t", 6, (6, 2 * max(block, 8)), kind)
    wanted = writing.dequantize(raw, Kind[kind])
    cut = (slice(2, 5), slice(1, 9))
    np.testing.assert_array_equal(tensor.read(cut), wanted[cut])
    assert wanted.shape == tensor.shape


def test_a_file_is_named_wherever_a_model_is(tmp_path):
    file, _ = whole(tmp_path / "a.gguf", FAMILIES["qwen2"])
    assert hf.resolve(str(file)) == file
    config = tiny.get_config()
    config.model = str(file)
    model, tokenizer = jobs._model(config)
    assert model.config.vocab == 272
    tokens = chat.prompt_tokens(tokenizer, [{"role": "user", "content": "hi"}])
    assert tokens == testing.tokenizer().encode(
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_ends_of_a_file_are_all_its_ends(tmp_path):
    words = {"eos_token_id": 5, "eot_token_id": 7, "tokens": ["a"]}
    file, _ = whole(tmp_path / "a.gguf", FAMILIES["qwen3"], words=words)
    assert hf.read_config(file).eos == (5, 7)


@pytest.mark.parametrize(
    ("fields", "changes", "says"),
    [
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, {}, "rope type 'yarn'"),
        ({"attention.value_length": 16}, {}, "attention.value_length 16, heads of 32"),
        ({"attention.head_count": 2}, {}, r"q_proj.weight is \[128, 32\], the config says \[64"),
        ({"rope.dimension_count": 16}, {}, "rope.dimension_count 16, heads of 32"),
        ({"attention.head_count_kv": [2, 0]}, {}, r"num_key_value_heads is \[2, 0\]"),
        ({"block_count": None}, {}, "num_hidden_layers is None"),
        ({}, {"rope_freqs.weight": (np.arange(1, 17, dtype=np.float32), None)}, "Llama 3's"),
        ({}, {"token_embd.weight": None}, "vocab_size is None"),
        ({}, {"output_norm.weight": None}, "missing model.norm.weight"),
        ({}, {"blk.1.ffn_gate_inp.weight": (np.zeros(4, np.float32), None)}, "unexpected blk.1.f"),
        ({"feed_forward_length": 64}, {}, r"gate_proj.weight is \[96, 32\], the config says \[64"),
        (
            {},
            {"blk.0.attn_v.weight": (np.zeros((64, 18), np.uint8), Kind.IQ4_NL)},
            "v_proj.weight has the unsupported type IQ4_NL",
        ),
    ],
)
def test_what_is_not_supported_is_one_line_with_the_file(tmp_path, fields, changes, says):
    file, _ = whole(tmp_path / "a.gguf", FAMILIES["llama"], fields=fields, changes=changes)
    said = complaint(Decoder.from_pretrained, file)
    assert said.startswith(f"{file}: ")
    with pytest.raises(UserError, match=says):
        Decoder.from_pretrained(file)


def test_scalings_by_one_change_nothing(tmp_path):
    fields = {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0}
    file, _ = whole(tmp_path / "a.gguf", PLAIN, fields=fields)
    assert hf.read_config(file).rope_scaling is None


@pytest.fixture
def file(tmp_path):
    return whole(tmp_path / "whole.gguf", FAMILIES["qwen2"])[0]


class TestFiles:
    @pytest.mark.parametrize("part", [0.0, 1e-4, 0.01, 0.1, 0.5, 0.999])
    def test_a_truncated_one_is_said_to_be(self, file, tmp_path, part):
        short = tmp_path / "short.gguf"
        content = file.read_bytes()
        short.write_bytes(content[: int(part * len(content))])
        for read in (hf.read_config, chat.load_tokenizer):
            assert complaint(read, short) == f"{short}: truncated: get it again, all of it"

    def test_an_unknown_type_of_numbers_is_named(self, file, tmp_path):
        content = file.read_bytes()
        name = b"blk.0.ffn_up.weight"
        at = content.index(name) + len(name) + 4 + 2 * 8
        assert struct.unpack("<I", content[at : at + 4]) == (0,)
        odd = tmp_path / "odd.gguf"
        odd.write_bytes(content[:at] + struct.pack("<I", 199) + content[at + 4 :])
        said = complaint(Decoder.from_pretrained, odd)
        assert said.endswith("model.layers.0.mlp.up_proj.weight has the unsupported type 199")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"PK\x03\x04 and more", "not a GGUF file, or damaged: it begins with b'PK"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a.gguf: a Git LFS pointer"),
            (b"GGUF\x01\x00\x00\x00", "its version is 1"),
            (b"GGUF\x00\x00\x00\x03", "its version is 50331648"),
            (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2) + b"\xff\xfe" + b"\0" * 9, "damaged"),
            (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + b"\x63\0\0\0", "damaged: 99"),
        ],
    )
    def test_what_is_none_is_said_to_be_none(self, tmp_path, content, says):
        (tmp_path / "a.gguf").write_bytes(content)
        assert says in complaint(Decoder.from_pretrained, tmp_path / "a.gguf")

    def test_other_models_and_parts_are_refused(self, tmp_path):
        file = write(tmp_path / "a.gguf", family="gemma3")
        assert "model type 'gemma3': only qwen2" in complaint(hf.read_config, file)
        part = write(tmp_path / "b.gguf", family="qwen2", extra={"split.count": 2})
        assert "one of 2 parts: llama-gguf-split" in complaint(hf.read_config, part)

    def test_one_that_is_not_there_is_not_sought_on_the_hub(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert complaint(hf.resolve, "models/a.gguf") == "models/a.gguf: no such file"


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (FAMILIES["qwen2"], Kind.Q8_0),
        # They take every Qwen3's heads to be of 128.
        (dataclasses.replace(FAMILIES["qwen3"], head_dim=128), Kind.F16),
        (PLAIN, Kind.Q4_1),
    ],
    ids=["qwen2", "qwen3", "llama"],
)
def test_logits_are_those_of_transformers_reading_of_the_file(tmp_path, config, kind):
    import torch
    import transformers

    file, _ = whole(tmp_path / "a.gguf", config, kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32
    )
    tokens = np.random.default_rng(0).integers(0, config.vocab, (2, 40))
    with torch.no_grad():
        wanted = theirs(torch.tensor(tokens)).logits.numpy()
    found = np.asarray(Decoder.from_pretrained(file)(tokens))
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(found, wanted, atol=1e-4)
