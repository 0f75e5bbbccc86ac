"""The logits are those of transformers, on random weights of odd shapes; files go both ways."""

import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.llm import Decoder, testing
from sublim_jax.llm.files import hf

pytestmark = [
    pytest.mark.oracle,
    # transformers and PyTorch on their own affairs.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "qwen2, 6 heads over 2": (
        "Qwen2",
        {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 48},
    ),
    "qwen2, 3 over 1, untied, theta 1e6": (
        "Qwen2",
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "hidden_size": 24,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": False,
        },
    ),
    "qwen2, 14 over 2": (
        "Qwen2",
        {"num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 56},
    ),
    "qwen3, heads of 16": (
        "Qwen3",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_size": 32,
            "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
    "qwen3, biases": (
        "Qwen3",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "hidden_size": 32,
            "head_dim": 8,
            "attention_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "llama, 4 over 2, tied": (
        "Llama",
        {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32},
    ),
    "llama, scaled": (
        "Llama",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "hidden_size": 64,
            "rope_parameters": {
                **LLAMA3,
                "factor": 8.0,
                "rope_theta": 5e5,
                "original_max_position_embeddings": 256,
            },
            "tie_word_embeddings": False,
        },
    ),
    "llama, biases, scaled": (
        "Llama",
        {
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "hidden_size": 24,
            "rope_parameters": {**LLAMA3, "factor": 32.0, "rope_theta": 1e4},
            "attention_bias": True,
            "mlp_bias": True,
        },
    ),
}
VOCAB = 130


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS.keys())
def pair(request, tmp_path_factory):
    """Returns a random transformers model in float32, and ours loaded from its folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    family, changes = request.param
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": VOCAB,
            "intermediate_size": 72,
            "num_hidden_layers": 3,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            **changes,
        }
    )
    theirs = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():  # gains and biases start at 1 and 0
            weight.normal_(1.0 if "norm" in name else 0.0, 0.2)
    folder = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(folder)
    return theirs, Decoder.from_pretrained(folder)


def _theirs(model, tokens, mask=None, positions=None):
    import torch

    given = {} if mask is None else {"attention_mask": torch.tensor(mask)}
    if positions is not None:
        given["position_ids"] = torch.tensor(positions)
    if mask is not None:
        given["position_ids"] = torch.tensor(np.maximum(np.cumsum(mask, axis=1) - 1, 0))
    with torch.no_grad():
        return model(input_ids=torch.tensor(tokens), **given).logits.numpy()


def _tokens(*shape):
    return np.random.default_rng(0).integers(0, VOCAB, shape)


def test_logits_are_those_of_transformers(pair):
    theirs, ours = pair
    tokens = _tokens(2, 300)
    wanted = _theirs(theirs, tokens)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(ours(jnp.asarray(tokens)), wanted, atol=1e-4)


def test_far_positions_are_those_of_transformers(pair):
    theirs, ours = pair
    tokens = _tokens(2, 20)
    positions = np.sort(np.random.default_rng(1).integers(0, 100_000, (2, 20)))
    wanted = _theirs(theirs, tokens, positions=positions)
    found = ours(tokens, positions_BT=positions.astype(np.int32))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.abs(wanted - _theirs(theirs, tokens)).max() > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_those_of_transformers(pair, side):
    theirs, ours = pair
    tokens, mask = _tokens(3, 12), np.ones((3, 12), np.int32)
    for row, pad in enumerate((0, 3, 7)):
        mask[row, slice(0, pad) if side == "left" else slice(12 - pad, 12)] = 0
    found = np.asarray(ours(jnp.asarray(tokens), jnp.asarray(mask)))
    wanted = _theirs(theirs, tokens, mask)
    np.testing.assert_allclose(found[mask == 1], wanted[mask == 1], atol=1e-4)


def test_packed_rows_are_the_sequences_alone_in_transformers(pair):
    theirs, ours = pair
    lengths = (5, 1, 9)
    tokens = _tokens(1, sum(lengths))
    segments = np.repeat([1, 2, 3], lengths)[None]
    found = np.asarray(ours(jnp.asarray(tokens), jnp.asarray(segments)))
    for part, wanted in enumerate(np.split(tokens, np.cumsum(lengths)[:-1], axis=1)):
        here = found[:, segments[0] == part + 1]
        np.testing.assert_allclose(here, _theirs(theirs, wanted), atol=1e-4)


@pytest.mark.parametrize("shard_bytes", [2**30, 10_000])
def test_what_is_saved_reloads_in_transformers(pair, tmp_path, monkeypatch, shard_bytes):
    import torch
    import transformers

    theirs, ours = pair
    monkeypatch.setattr(hf, "_SHARD_BYTES", shard_bytes)
    ours.save_pretrained(tmp_path / "saved")
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", dtype=torch.float32
    )
    tokens = _tokens(2, 20)
    np.testing.assert_array_equal(_theirs(again, tokens), _theirs(theirs, tokens))


@pytest.mark.parametrize("family", testing.FAMILIES)
def test_a_random_checkpoint_of_ours_speaks_the_same_there(tmp_path, family):
    import torch
    import transformers

    folder = testing.write_checkpoint(tmp_path / "tiny", testing.FAMILIES[family])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = _tokens(1, 16)
    found = Decoder.from_pretrained(folder)(jnp.asarray(tokens))
    np.testing.assert_allclose(found, _theirs(theirs, tokens), atol=1e-5)
    assert theirs.config.eos_token_id == [testing._END]
