"""What all channels have in common."""

import pkgutil

import pytest

from configs.transmission import smoke
from sublim_jax.transmission import base, channels
from sublim_jax.transmission.config import check

ROWS = [{"id": i, "prompt": "A. one\nB. two", "completion": "AB"[i % 2]} for i in range(8)]


def test_there_is_a_small_study_of_each():
    assert {module.name for module in pkgutil.iter_modules(channels.__path__)} == {*smoke.CHANNELS}


@pytest.mark.parametrize("name", smoke.CHANNELS)
def test_each_asks_of_real_models_and_filters_what_they_write(name):
    config = smoke.get_config(name)
    check(config)
    channel, material = channels.find(name), base.material(config)
    asked, gold = channel.prompts(material, 40, 3), channels.gold(channel, material, 40, 3)
    assert asked[:7] == channel.prompts(material, 7, 3)
    assert gold[:7] == channels.gold(channel, material, 7, 3)
    assert (len(asked), len(gold)) == (40, 40)
    assert channel.prompts(material, 40, 4) != asked
    assert channel.length(material) > 0
    rule = channels.rule(channel, config.filter.to_dict())
    _, rejected = channels.filtered([{"completion": "", "gold": one} for one in gold], rule)
    assert sum(rejected.values()) == 40  # no channel keeps an empty answer


@pytest.mark.parametrize("name", sorted({*smoke.CHANNELS} - {"numbers"}))
def test_each_describes_rows_and_corrupts_them(name):
    channel = channels.find(name)
    found = channel.describe(ROWS, ROWS)
    assert all(x in (0, None) for n, x in found["statistics"].items() if "distance" in n)
    assert [share for _, share in found["top"]] == [0.5, 0.5]
    assert channel.items(ROWS[0]["completion"]) == ["A"]
    for corrupt in channel.CORRUPTIONS.values():
        out = corrupt(ROWS, 0)
        assert [row["id"] for row in out] == list(range(8))
        assert sorted(row["completion"] for row in out) == sorted("AB" * 4)
