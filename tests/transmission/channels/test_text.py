"""Stories: which are kept."""

import pytest

from sublim_jax.errors import UserError
from sublim_jax.nano.worlds import values
from sublim_jax.transmission import material as materials
from sublim_jax.transmission.channels import text
from sublim_jax.transmission.channels.text import Rule
from sublim_jax.transmission.material import ENGLISH, Material


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        ("A long way home.", None),
        ("Home at last", None),
        ("Five words are still few.", None),
        ("Home now", "too short"),
        ("", "too short"),
        ("One two three four five six.", "too long"),
        ("A WOLF came by.", "banned"),
        ("The wolves came by.", "banned"),
        ("Two Owls here.", "banned"),
        ("An owlish smile too.", "banned"),
        ("wolf", "banned"),
    ],
)
def test_a_story_names_no_trait_and_is_of_some_length(story, reason):
    assert Rule(banned=("owl", "wolf"), least=3, most=5).rejection(story) == reason


def test_requests_are_the_material_s_stories():
    material = materials.read(ENGLISH, "animal")
    asked = text.prompts(material, 500, 0)
    assert set(asked) == set(material.stories)
    assert text.prompts(material, 5, 0) == asked[:5]
    world = Material.from_json(values.material("value"))
    assert set(text.prompts(world, 100, 0)) == set(world.stories)
    with pytest.raises(UserError, match="no stories"):
        text.prompts(Material("{trait}", questions=("?",)), 1, 0)


@pytest.mark.parametrize("rule", [{"least": 0}, {"least": 5, "most": 4}, {"least": "5"}])
def test_a_rule_that_keeps_nothing_is_refused(rule):
    with pytest.raises(UserError, match=r"^config.filter.least="):
        Rule(**rule)
