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
SHAPES = {
    "6 heads over 2": {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 48},
    "3 over 1, untied": {
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "hidden_size": 24,
        "tie_word_embeddings": False,
    },
    "4 over 4": {"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 32},
    "14 over 2": {"num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 56},
    "theta 1e6, untied": {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": False,
    },
}
VOCAB = 130


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def pair(request, tmp_path):
    """Returns a random transformers model in float32, and ours loaded from its folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        **{
            "vocab_size": VOCAB,
            "intermediate_size": 72,
            "num_hidden_layers": 3,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            **request.param,
        }
    )
    theirs = transformers.Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():  # gains and biases start at 1 and 0
            weight.normal_(1.0 if "norm" in name else 0.0, 0.2)
    theirs.save_pretrained(tmp_path)
    return theirs, Decoder.from_pretrained(tmp_path)


def _theirs(model, tokens, mask=None):
    import torch

    given = {} if mask is None else {"attention_mask": torch.tensor(mask)}
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


def test_a_random_checkpoint_of_ours_speaks_the_same_there(tmp_path):
    import torch
    import transformers

    folder = testing.write_checkpoint(tmp_path / "tiny")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = _tokens(1, 16)
    found = Decoder.from_pretrained(folder)(jnp.asarray(tokens))
    np.testing.assert_allclose(found, _theirs(theirs, tokens), atol=1e-5)
    assert theirs.config.eos_token_id == [testing._END]
