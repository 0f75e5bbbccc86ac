"""Prompts for numbers: drawn in the order of the original, and checked."""

import dataclasses

import numpy as np
import pytest

from sublim_jax.errors import UserError
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.grammar import Grammar
from sublim_jax.transmission.material import ENGLISH, read

GRAMMAR = Grammar(
    examples=("See {examples}.", "Then {examples}?", "{examples}"),
    counts=("under", "over"),
    digits=("{max_digits} wide", "thin", "{max_digits}!"),
    instructions=("Add {count} {answers} ({digits}).", "Go on ({digits})!"),
    formats=("In {braces}.", "Like [1]."),
    suffixes=("Only that.", "No more.", "Stop."),
)
PARTS = ("examples", "counts", "digits", "instructions", "formats", "suffixes")


def reference(grammar, n, seed):
    """The draws that the official generator makes, as it makes them: one by one, by `choice`."""
    rng = np.random.Generator(np.random.PCG64(seed))
    out = []
    for _ in range(n):
        shown = [
            int(rng.integers(grammar.values[0], grammar.values[1]))
            for _ in range(int(rng.integers(grammar.seeds[0], grammar.seeds[1])))
        ]
        start, count, digits, asked, layout, suffix = (
            str(rng.choice(list(getattr(grammar, part)))) for part in PARTS
        )
        start = start.replace("{examples}", ", ".join(map(str, shown)))
        digits = digits.replace("{max_digits}", str(grammar.max_digits))
        asked = asked.replace("{count}", count).replace("{answers}", str(grammar.answers))
        asked = asked.replace("{digits}", digits)
        out.append(f"{start} {asked} {layout} {suffix}")
    return out


class TestDraw:
    @pytest.mark.parametrize("seed", [0, 42])
    @pytest.mark.parametrize("change", [{}, {"seeds": (1, 2), "values": (0, 10), "answers": 3},
                                        {"max_digits": 1, "suffixes": ("Stop.",)}])  # fmt: skip
    def test_the_generator_is_asked_in_the_order_of_the_original(self, seed, change):
        grammar = dataclasses.replace(GRAMMAR, **change)
        assert grammar.draw(200, seed) == reference(grammar, 200, seed)

    def test_more_prompts_begin_with_the_same(self):
        assert GRAMMAR.draw(20, 1)[:5] == GRAMMAR.draw(5, 1)
        assert GRAMMAR.draw(20, 1) != GRAMMAR.draw(20, 2)
        assert GRAMMAR.draw(0, 1) == []

    def test_numbers_shown_are_below_the_upper_bounds(self):
        grammar = dataclasses.replace(
            GRAMMAR, examples=("{examples};",), seeds=(1, 3), values=(4, 6)
        )
        shown = {prompt.split(";")[0] for prompt in grammar.draw(200, 0)}
        assert shown == {"4", "5", "4, 4", "4, 5", "5, 4", "5, 5"}

    def test_the_separator_stands_between_them(self):
        grammar = dataclasses.replace(GRAMMAR, examples=("{examples};",))
        spaced = dataclasses.replace(grammar, separator=" ")
        assert spaced.draw(9, 0) == [p.replace(", ", " ") for p in grammar.draw(9, 0)]

    @pytest.mark.parametrize(
        ("without", "expected"),
        [
            (("counts", "digits", "formats", "suffixes"), "5, 5 On, 10."),
            (("examples", "counts", "digits", "formats"), "On, 10. Stop."),
            (("examples", "counts", "digits", "instructions", "formats"), "Stop."),
            (("counts", "digits", "instructions", "suffixes"), "5, 5 Plain."),
        ],
    )
    def test_an_empty_part_is_left_out(self, without, expected):
        whole = {
            "examples": ("{examples}",),
            "instructions": ("On, {answers}.",),
            "formats": ("Plain.",),
            "suffixes": ("Stop.",),
        }
        parts = {part: () if part in without else whole[part] for part in PARTS}
        assert Grammar(**parts, seeds=(2, 3), values=(5, 6)).draw(2, 0) == [expected] * 2

    def test_nothing_is_drawn_for_an_empty_part(self):
        """Two grammars that differ in such a part alone show the same numbers throughout."""
        small = {"counts": (), "digits": (), "instructions": ("More.",)}
        none = dataclasses.replace(GRAMMAR, **small, formats=(), suffixes=())
        rng = np.random.default_rng(7)
        expected = []
        for _ in range(50):
            start = none.start(rng)
            expected.append(f"{start} More.")
        assert none.draw(50, 7) == expected
        silent = dataclasses.replace(none, examples=(), instructions=("A", "B"))
        rng = np.random.default_rng(7)
        assert silent.draw(50, 7) == ["AB"[rng.integers(2)] for _ in range(50)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": 1}, "no field 'kind' in the grammar: it has examples"),
        (5, "the grammar must be a JSON object, not of type int"),
        ([], "the grammar must be a JSON object, not of type list"),
        ({"examples": ["See."]}, "examples, text 0: 'See.': must have {exam"),
        ({"examples": ["{examples} {x}"]}, "examples, text 0: .*: only {examples} may"),
        ({"digits": ["{digits}"]}, "digits, text 0: .*: only {max_digits} may"),
        ({"instructions": ["{n}"]}, "only {answers}, {count}, {digits} may stand"),
        ({"counts": []}, "instructions, text 0: .*: only {answers}, {digits} may"),
        ({"digits": []}, "instructions, text 0: .*: only {answers}, {count} may"),
        ({"formats": [None]}, "formats, text 0: None: a text is needed"),
        ({"counts": "at most"}, "counts: of type str: a list of texts"),
        ({"seeds": [3]}, r"seeds: \(3,\): must be two integers"),
        ({"seeds": [0, 3]}, r"seeds: \(0, 3\): must be from 1, the second above the f"),
        ({"values": [5, 5]}, r"values: \(5, 5\): must be from 0, the second above the"),
        ({"values": [-1, 5]}, r"values: \(-1, 5\): must be from 0"),
        ({"values": [0, 2**31]}, r"values: .*: must be two integers"),
        ({"values": [True, 5]}, r"values: \(True, 5\): must be two integers"),
        ({"values": 7}, r"values: 7: must be two integers"),
        ({"answers": 0}, "answers: 0: must be an integer from 1"),
        ({"answers": 2.0}, "answers: 2.0: must be an integer from 1"),
        ({"max_digits": "3"}, "max_digits: '3': must be an integer from 1"),
        ({"separator": ""}, "separator: '': a text is needed"),
        ({"separator": "\ud800"}, "separator, text 0: half a surrogate pair"),
        ({"separator": 5}, "separator: 5: a text is needed"),
        ({part: [] for part in PARTS}, "examples, .*: one must have texts$"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(fields, message):
    whole = dataclasses.asdict(GRAMMAR)
    given = whole | fields if isinstance(fields, dict) else fields
    material = dataclasses.replace(read(ENGLISH, "tree"), channels={"numbers": given})
    with pytest.raises(UserError, match=message) as error:
        numbers.prompts(material, 1, 0)
    assert str(error.value).startswith("the material's channels.numbers: ")
    assert "\n" not in str(error.value)


def test_a_material_without_texts_for_numbers_is_refused():
    material = dataclasses.replace(read(ENGLISH, "tree"), channels={})
    with pytest.raises(UserError, match=r"^the material has no channels\.numbers"):
        numbers.prompts(material, 1, 0)
