"""Both layouts of config.json are read, and what this decoder cannot do is refused by name."""

import contextlib
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
        ({"rope_theta": 7e5, "rope_parameters": {"rope_theta": 3e5}}, 3e5),  # theirs as well
        ({"rope_parameters": {"rope_theta": 3e5}, "rope_scaling": {"rope_theta": 4e5}}, 4e5),
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


@pytest.mark.parametrize(
    ("family", "changes", "biases"),
    [
        ("qwen2", {"attention_bias": True, "mlp_bias": True}, ("q", "k", "v")),  # read by none
        ("qwen3", {}, ()),
        ("qwen3", {"attention_bias": True}, ("q", "k", "v", "o")),
        ("llama", {"pretraining_tp": 2}, ()),
        ("llama", {"attention_bias": True}, ("q", "k", "v", "o")),
        ("llama", {"mlp_bias": True}, ("gate", "up", "down")),
    ],
)
def test_each_family_has_its_biases_and_norms(family, changes, biases):
    found = read({"model_type": family, **changes})
    assert (found.biases, found.qk_norm) == (biases, family == "qwen3")


def test_what_a_family_leaves_out_is_what_transformers_takes():
    left_out = ("max_position_embeddings", "num_key_value_heads")
    bare = {name: value for name, value in GIVEN.items() if name not in left_out}

    def of(family):
        return config.from_hf(
            {**bare, "model_type": family, "hidden_size": 128, "num_attention_heads": 64}, "F", {}
        )

    assert (of("qwen2").kv_heads, of("qwen2").context, of("qwen2").eos) == (32, 32768, ())
    assert (of("llama").kv_heads, of("llama").context, of("llama").eos) == (64, 2048, (2,))
    assert (of("qwen3").kv_heads, of("qwen3").head_dim) == (32, 128)


LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("changes", "theta", "original"),
    [
        (
            {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}},
            5e5,
            64.0,
        ),
        ({"rope_parameters": {**LLAMA3, "rope_theta": 6e5}}, 6e5, 77.0),
    ],
)
def test_the_scaling_of_llama_3_is_found_in_either_layout(changes, theta, original):
    found = read({"model_type": "llama", **changes})
    assert found.rope_theta == theta
    assert found.rope_scaling == config.RopeScaling(8.0, 1.0, 4.0, original)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_sliding_window": False, "sliding_window": 64},
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 3},
        {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0},
        {"use_sliding_window": True, "layer_types": ["full_attention"] * 3, "max_window_layers": 0},
        {"use_sliding_window": True, "max_window_layers": 0, "model_type": "llama"},
        {"quantization_config": None},
        {"rope_scaling": None, "rope_parameters": {"rope_type": "default"}},
        {"hidden_act": "swish"},
    ],
)
def test_what_changes_no_number_is_accepted(changes):
    assert read(changes).layers == 3


def test_every_end_token_counts():
    assert read({"eos_token_id": 7}).eos == (7,)
    assert read({"eos_token_id": [9, 7]}, {"eos_token_id": [8, 9]}).eos == (7, 8, 9)
    assert read(generation={"eos_token_id": 3}).eos == (3,)
    assert read({"eos_token_id": 7}, {"eos_token_id": -1}).eos == (7,)  # -1 stands for none
    assert read().eos == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "qwen2_moe"}, "model type 'qwen2_moe': only qwen2, qwen3, llama"),
        ({"model_type": ["qwen2"]}, "model type"),
        ({"use_sliding_window": True, "max_window_layers": 2}, "sliding-window attention"),
        (
            {"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]},
            "sliding-window attention",
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope type 'linear'"),
        ({"rope_scaling": ["yarn"]}, "must be one object"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "must be one object"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": "8"}},
            "factor is '8', low_freq_factor",
        ),
        (
            {
                "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4}
                | {"high_freq_factor": 4}
            },
            "low_freq_factor must be less than high",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"rope_theta": None}, "rope_theta is None: must be a positive number"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"quantization_config": {}}, "quantised weights"),
        (
            {"vocab_size": None, "intermediate_size": 0},
            "vocab_size is None, intermediate_size is 0",
        ),
        ({"hidden_size": "24"}, "hidden_size is '24': must be a positive integer"),
        ({"max_position_embeddings": "32k"}, "max_position_embeddings is '32k'"),
        ({"rms_norm_eps": "1e-6x"}, "rms_norm_eps is '1e-6x': must be a positive number"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false': must be true or false"),
        ({"eos_token_id": "<|im_end|>"}, "eos_token_id is .*: must be token ids"),
        ({"eos_token_id": [[258]]}, "must be token ids"),
        ({"num_key_value_heads": 4}, "6 heads of 4 over 4"),
        ({"head_dim": 3}, "6 heads of 3 over 2"),
    ],
)
def test_what_is_not_supported_is_one_line_with_the_file(changes, says):
    with pytest.raises(UserError, match=says) as error:
        read(changes)
    assert str(error.value).startswith("F/config.json: ")
    assert "\n" not in str(error.value)


ODD = (
    None,
    "x",
    "",
    -1,
    0,
    1,
    1.5,
    float("nan"),
    float("inf"),
    10**30,
    True,
    [],
    [None],
    {},
    {1: 2},
)


@pytest.mark.parametrize("family", testing.FAMILIES)
def test_no_field_however_odd_ends_in_a_traceback(family):
    scaled = dataclasses.replace(testing.FAMILIES[family], rope_scaling=config.RopeScaling(8.0))
    good = config.to_hf(scaled, "float32")
    good |= {"sliding_window": 64, "max_window_layers": 1, "layer_types": ["full_attention"] * 2}
    del good["rope_scaling"]

    def tried(changed):
        with contextlib.suppress(UserError):
            assert isinstance(config.from_hf(changed, "F", {}), config.Config)

    for odd in ODD:
        for name in (*good, "rope_scaling", "quantization_config", "partial_rotary_factor"):
            for slides in (False, True):
                tried({**good, "use_sliding_window": slides, name: odd})
        for name in good["rope_parameters"]:
            tried({**good, "rope_parameters": {**good["rope_parameters"], name: odd}})


@pytest.mark.parametrize("family", testing.FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"tied": False, "head_dim": 32, "eos": (1, 2)}])
def test_what_is_written_is_read_back(family, changes):
    one = dataclasses.replace(testing.FAMILIES[family], **changes)
    written = config.to_hf(one, "float32")
    assert config.from_hf(written, "F", {}) == one
    assert written["model_type"] == family
    assert written["rope_parameters"]["rope_theta"] == written["rope_theta"] == 1e4


def test_biases_that_no_architecture_has_are_not_written():
    odd = dataclasses.replace(testing.FAMILIES["qwen3"], biases=("q",))
    with pytest.raises(UserError, match=r"biases q: .* cannot say this"):
        config.to_hf(odd, "float32")
