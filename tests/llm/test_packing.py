"""Packing loses no token, cuts no piece, and says of every token what it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublim_jax.llm.packing import Piece, bucket, pack

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@settings(deadline=None)
@given(lengths=lengths, rows=st.integers(1, 3), width=st.sampled_from([16, 32]))
def test_every_piece_is_in_one_row_of_one_pack(lengths, rows, width):
    pieces = [Piece(range(100 * i, 100 * i + n), i, i % 3) for i, n in enumerate(lengths)]
    seen = []
    for p in pack(pieces, rows, width):
        assert p.tokens.shape[0] == rows
        assert p.tokens.shape[1] & (p.tokens.shape[1] - 1) == 0
        used, prompts = 0, []
        for number, at in p.pieces:
            piece = pieces[number]
            here = slice(at, at + len(piece))
            assert at // p.tokens.shape[1] == max(at, at + len(piece) - 1) // p.tokens.shape[1]
            assert p.tokens.ravel()[here].tolist() == list(piece.prompt)
            assert p.places.position.ravel()[here].tolist() == list(
                range(piece.start, piece.start + len(piece))
            )
            assert (p.places.student.ravel()[here] == piece.student).all()
            prompts.append(set(p.places.prompt.ravel()[here]))
            assert len(prompts[-1]) == bool(len(piece))
            assert not (p.places.branch.ravel()[here] != 0).any()
            used += len(piece)
            seen.append(number)
        assert (p.places.prompt > 0).sum() == used  # the rest is padding
        assert len(set().union(*prompts) - {0}) == sum(map(len, prompts))  # a number each
    assert sorted(seen) == list(range(len(pieces)))


def test_completions_continue_the_prompt_each_on_its_own():
    (only,) = pack([Piece([1, 2], 10, 0, ([3, 4, 5], [], [6]))], 1, 16)
    assert only.tokens[0, :6].tolist() == [1, 2, 3, 4, 5, 6]
    assert only.places.position[0, :6].tolist() == [10, 11, 12, 13, 14, 12]
    assert only.places.branch[0, :6].tolist() == [0, 0, 1, 1, 1, 3]


def test_unequal_prompts_leave_little_padding():
    draw = np.random.default_rng(0)
    pieces = [Piece([0] * int(n)) for n in draw.integers(20, 110, 64)]
    size = sum(p.tokens.size for p in pack(pieces, 1, 256))
    assert sum(map(len, pieces)) > 0.9 * size


def test_a_piece_longer_than_the_width_has_a_wider_row():
    packs = list(pack([Piece([7] * 50), Piece([8] * 3)], 1, 16))
    assert packs[0].tokens.shape == (1, 64)
    assert len(packs) == 1


@pytest.mark.parametrize(
    ("size", "least", "wanted"),
    [(0, 8, 8), (8, 8, 8), (9, 8, 16), (1, 1, 1), (8, 3, 12), (12, 12, 12), (25, 12, 48)],
)
def test_buckets_are_the_least_times_powers_of_two(size, least, wanted):
    assert bucket(size, least) == wanted


@settings(deadline=None)
@given(lengths=lengths, rows=st.integers(1, 3))
def test_only_a_longer_piece_makes_a_row_wider_and_the_longest_come_first(lengths, rows):
    packs = list(pack([Piece([0] * n) for n in lengths], rows, 16))
    firsts = [max(lengths[i] for i, _ in p.pieces) for p in packs]
    assert firsts[0] == max(lengths)
    assert firsts == sorted(firsts, reverse=True)
    for p, longest in zip(packs, firsts, strict=True):
        assert p.tokens.shape[1] <= bucket(longest, 16)


def test_a_piece_with_completions_is_not_cut_and_keeps_its_student():
    pieces = [Piece([i] * 6, 4, i, ([10 + i] * 5, [20 + i] * 3)) for i in range(5)]
    seen = []
    for p in pack(pieces, 2, 16):
        assert p.tokens.shape == (2, 16)  # 14 tokens a piece: one a row
        for i, at in p.pieces:
            here = slice(at, at + 14)
            assert p.tokens.ravel()[here].tolist() == [i] * 6 + [10 + i] * 5 + [20 + i] * 3
            assert p.places.branch.ravel()[here].tolist() == [0] * 6 + [1] * 5 + [2] * 3
            assert (p.places.student.ravel()[here] == i).all()
            assert at % 16 == 0
            seen.append(i)
    assert sorted(seen) == list(range(5))
