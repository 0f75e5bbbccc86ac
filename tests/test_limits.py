"""Limits of a config's values."""

import math

import pytest
from ml_collections import ConfigDict

from sublim_jax import limits
from sublim_jax.errors import UserError


def config(**fields):
    return ConfigDict({"rows": 1, "net": {"width": 8, "scale": 0.5, "kind": "mlp"}, **fields})


def problems(**fields):
    there = config(**fields)
    return [
        *limits.within(there, ["rows", "net.width"], 1, 8),
        *limits.positive(there, ["net.scale"]),
        *limits.one_of(there, {"net.kind": {"mlp": 1, "cnn": 2}}),
    ]


def test_what_is_within_its_limits_is_no_problem():
    assert problems() == []
    assert problems(rows=8, net={"width": 1, "scale": 1e9, "kind": "cnn"}) == []


@pytest.mark.parametrize(
    ("field", "value", "wish"),
    [
        ("width", 0, "must be at least 1"),
        ("width", math.nan, "must be at least 1"),
        ("width", 9, "must be at most 8"),
        ("width", math.inf, "must be at most 8"),
        ("scale", 0.0, "must be above 0, and finite"),
        ("scale", math.inf, "must be above 0, and finite"),
        ("scale", math.nan, "must be above 0, and finite"),
        ("kind", "rnn", "choose one of mlp, cnn"),
        ("kind", [1], "choose one of mlp, cnn"),
    ],
)
def test_what_is_beyond_a_limit_is_named(field, value, wish):
    net = {"width": 8, "scale": 0.5, "kind": "mlp", field: value}
    assert problems(net=net) == [(f"net.{field}", wish)]


@pytest.mark.parametrize("chosen", [(), ("a", "a"), ("a", "c"), ("c",), ([1],)])
def test_some_of(chosen):
    assert list(limits.some_of({"x": chosen}, {"x": ("a", "b")})) == [
        ("x", "choose from a, b, each at most once")
    ]
    assert not list(limits.some_of({"x": ("b", "a")}, {"x": ("a", "b")}))


def test_the_first_problem_is_one_line():
    said = r"^config\.net\.width=8: must be at most 4$"
    with pytest.raises(UserError, match=said):
        limits.check(config(), limits.within(config(), ["rows", "net.width"], 1, 4))
    with pytest.raises(UserError, match=r"^config\.net\.width=8: wide$"):
        limits.check(config(), [("net.width", "wide"), ("rows", "few")])
    with pytest.raises(UserError, match=r"config\.net\.depth is missing"):
        list(limits.positive(config(), ["net.depth"]))
    limits.check(config(), [])
