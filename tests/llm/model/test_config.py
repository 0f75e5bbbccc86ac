"""Both layouts of config.json are read, and what this decoder cannot do is refused by name."""

import dataclasses

import pytest

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.model import config

GIVEN = {
    "model_type": "qwen2",
    "vocab_size": 100,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "max_position_embeddings": 77,
}


def read(changes=(), generation=()):
    return config.from_hf({**GIVEN, **dict(changes)}, "F/config.json", dict(generation))


@pytest.mark.parametrize(
    ("layout", "theta"),
    [
        ({"rope_theta": 5e5}, 5e5),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 2e6}}, 2e6),
        ({"rope_theta": 3e6, "rope_scaling": None}, 3e6),
        ({}, 1e4),  # the architecture's own default
    ],
)
def test_rope_theta_is_found_in_either_layout(layout, theta):
    assert read(layout).rope_theta == theta


def test_sizes_are_those_of_the_file():
    wanted = config.Config(100, 24, 40, 3, 6, 2, 4, 1e4, 1e-5, tied=False, context=77)
    assert read() == wanted
    assert read({"head_dim": 16}).head_dim == 16
    assert read({"num_key_value_heads": None}).kv_heads == 6


def test_every_end_token_counts():
    assert read({"eos_token_id": 7}).eos == (7,)
    assert read({"eos_token_id": [9, 7]}, {"eos_token_id": [8, 9]}).eos == (7, 8, 9)
    assert read(generation={"eos_token_id": 3}).eos == (3,)
    assert read().eos == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "llama"}, "model type 'llama': only qwen2"),
        ({"use_sliding_window": True}, "sliding-window attention"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope type 'linear'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"quantization_config": {}}, "quantised weights"),
        ({"vocab_size": None, "hidden_size": 0}, "vocab_size, hidden_size: each must be"),
        ({"num_key_value_heads": 4}, "6 heads of 4 over 4"),
        ({"head_dim": 3}, "6 heads of 3 over 2"),
    ],
)
def test_what_is_not_supported_is_one_line_with_the_file(changes, says):
    with pytest.raises(UserError, match=says) as error:
        read(changes)
    assert str(error.value).startswith("F/config.json: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{}, {"tied": False, "head_dim": 16, "eos": (1, 2)}])
def test_what_is_written_is_read_back(changes):
    one = dataclasses.replace(testing.TINY, **changes)
    written = config.to_hf(one, "float32")
    assert config.from_hf(written, "F", {}) == one
    assert written["rope_parameters"]["rope_theta"] == written["rope_theta"] == 1e4
