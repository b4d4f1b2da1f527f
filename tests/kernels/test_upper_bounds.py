"""Upper bounds of a chunk: with and without a matrix they let through every score that reaches a bound."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import MutualSelector, Placement, select
from distsae.kernels import CPU, REFERENCE, MatrixRoom, PrefilterRows, UpperBounds, prefilter_tokens, ruled_out_to
from distsae.kernels.upper_bounds import plain_places_above
from distsae.model import FeatureShard
from tests.kernels.test_prefilter import KINDS, _problem

DIRECT = replace(CPU, places_above=plain_places_above)
SIZES = (12, 9, 17)
"""Features, tokens, width."""


def _bounds(kind, seed, asked_once):
    generator = torch.Generator().manual_seed(seed)
    W_enc, b_enc, x = _problem(kind, *SIZES, generator)
    low = PrefilterRows(SIZES[0], SIZES[2], W_enc.device)
    low.refresh(0, W_enc, b_enc)
    columns = prefilter_tokens(x)
    upper = UpperBounds(DIRECT, low.rows, columns, MatrixRoom(SIZES[0], columns), asked_once=asked_once)
    return upper, W_enc.double() @ x.double().t() + b_enc.double()[:, None]


@given(st.sampled_from(KINDS), st.integers(0, 1000), st.floats(0, 1), st.booleans())
def test_no_score_is_left_out_that_reaches_the_bound(kind, seed, share, each):
    direct, scores = _bounds(kind, seed, asked_once=True)
    scores = scores.float()
    bound = (
        (share * scores.clamp(min=0).amax(1, keepdim=True)) if each else (share * scores.max().clamp(min=0))[None, None]
    )
    reached = ((scores >= bound) & (scores > 0)).view(-1).nonzero().squeeze(1)
    for found in (direct, _bounds(kind, seed, asked_once=False)[0]):
        flat = found.places_above(ruled_out_to(bound), bound, scores.numel() + 1)
        assert torch.isin(reached, flat).all()
        assert (flat.diff()[: int((flat < scores.numel()).sum()) - 1] > 0).all()


def _has_matrix(upper):
    return upper._matrix is not None


def test_a_matrix_is_made_where_there_are_more_questions():
    bound = torch.ones(1, 1)
    alone, _ = _bounds("normal", 0, asked_once=True)
    alone.places_above(ruled_out_to(bound), bound, 5)
    assert alone.was_asked_once
    assert not _has_matrix(alone)
    alone.places_above(ruled_out_to(bound), bound, 5)  # against expectation
    assert not alone.was_asked_once
    assert _has_matrix(alone)
    other, _ = _bounds("normal", 0, asked_once=False)
    assert not other.was_asked_once
    matrix = other.matrix()
    assert matrix is other.matrix()
    assert not other.was_asked_once
    assert torch.equal(ruled_out_to(bound), torch.tensor([[1 - 2**-7]]).bfloat16())


def test_a_room_is_one_piece_of_memory():
    room = MatrixRoom(4, torch.zeros(3, 16, dtype=torch.bfloat16))
    assert room.matrix(4).data_ptr() == room.matrix(2).data_ptr()
    assert room.matrix(2).shape == (2, 3)


class _Fixed(MutualSelector):
    """Takes its candidates in places, as on a GPU, from the first batch on."""

    def start(self, placement, tokens):
        self._places.number = 64 * 40 + 1
        self._short = True
        super().start(placement, tokens)


@pytest.mark.parametrize("selectors", [1, 2])
def test_a_selection_does_not_depend_on_the_way(selectors):
    """Batch after batch, whose chunks are asked one question or two."""
    calls = []

    def counted(*operands):
        calls.append(1)
        return plain_places_above(*operands)

    selected = []
    for kernels in (REFERENCE, replace(REFERENCE, places_above=counted)):
        generator = torch.Generator().manual_seed(1)
        shard = FeatureShard(8, 40, range(40), torch.zeros(8), 3, 0.05, kernels, prefilter=True)
        rules = [_Fixed(2), _Fixed(1)][:selectors]
        found = []
        for _ in range(3):
            x = torch.randn(64, 8, generator=generator)
            for matches in select(rules, partial(shard.encode_chunks, x), Placement.solo(40), 64):
                found += [matches.token, matches.feature, matches.score]
        selected.append(found)
    assert all(torch.equal(*pair) for pair in zip(*selected, strict=True))
    assert bool(calls) == (selectors == 1)
