"""Gradients as matches and vectors: the same rows are summed, bit for bit, for any split of the batch.

tests/distributed/test_step.py tests that data ranks gather them.
"""

from dataclasses import replace
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import Matches
from distsae.collective import Solo
from distsae.kernels import CPU
from distsae.training import Gradients
from distsae.training.step.gradients import Term
from tests.allocation.samples import modest


@st.composite
def _gradients(draw):
    """Draws random gradients of one or two terms, in fp32 or fp64, with features and tokens without matches."""
    tokens = draw(st.integers(1, 12))
    features = draw(st.integers(1, 15))
    d_in = draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    terms = []
    for _ in range(draw(st.integers(1, 2))):
        on = torch.rand(features, tokens, generator=generator) < draw(st.sampled_from([0.0, 0.2, 1.0]))
        feature, token = on.nonzero(as_tuple=True)
        score, dots = torch.randn(2, len(token), generator=generator, dtype=dtype)
        g = torch.randn(tokens, d_in, generator=generator, dtype=dtype)
        terms.append(Term(Matches(token, feature, score), dots, g))
    centred = torch.randn(tokens, d_in, generator=generator, dtype=dtype)
    return Gradients(tuple(terms), centred, features, CPU)


def _rows(gradients, size):
    blocks = list(gradients.row_blocks(size))
    assert [block[:2] for block in blocks] == [
        (first, min(first + size, gradients.features)) for first in range(0, gradients.features, size)
    ]
    return torch.cat([block[2] for block in blocks]), torch.cat([block[3] for block in blocks])


@modest
@given(_gradients(), st.integers(1, 20))
def test_rows_are_sums_over_matches(gradients, size):
    encoder, decoder = _rows(gradients, size)
    tokens = len(gradients.centred)
    dots = [replace(t.matches, score=t.dots).dense(tokens, gradients.features) for t in gradients.terms]
    scores = [t.matches.dense(tokens, gradients.features) for t in gradients.terms]
    torch.testing.assert_close(encoder, sum(dot.t() @ gradients.centred for dot in dots))
    torch.testing.assert_close(decoder, sum(s.t() @ t.g for s, t in zip(scores, gradients.terms, strict=True)))
    torch.testing.assert_close(gradients.b_enc(), sum(dot.sum(0) for dot in dots))
    assert torch.equal(gradients.b_dec_as_decoder_bias(), gradients.terms[0].g.sum(0))


@modest
@given(_gradients(), st.integers(1, 20), st.integers(0, 15), st.integers(0, 15))
def test_some_rows_are_those_of_the_whole_bit_for_bit(gradients, size, one, other):
    first, last = sorted(min(end, gradients.features) for end in (one, other))
    encoder, decoder = _rows(gradients, gradients.features)
    blocks = list(gradients.row_blocks(size, range(first, last)))
    assert [row for block in blocks for row in range(*block[:2])] == list(range(first, last))
    for begin, end, some_encoder, some_decoder in blocks:
        assert torch.equal(some_encoder, encoder[begin:end])
        assert torch.equal(some_decoder, decoder[begin:end])
    for term, whole in zip(
        gradients.row_terms(range(first, last)), gradients.row_terms(range(gradients.features)), strict=True
    ):
        assert torch.equal(term.starts, whole.starts[first : last + 1])
        assert torch.equal(term.token, whole.token)


def _part(gradients, first, last):
    """Returns the gradients from the tokens `first` to `last`."""
    terms = []
    for term in gradients.terms:
        chosen = (term.matches.token >= first) & (term.matches.token < last)
        matches = Matches(term.matches.token[chosen] - first, term.matches.feature[chosen], term.matches.score[chosen])
        terms.append(Term(matches, term.dots[chosen], term.g[first:last]))
    return replace(gradients, terms=tuple(terms), centred=gradients.centred[first:last])


@modest
@given(_gradients(), st.lists(st.integers(0, 12), max_size=3))
def test_joined_parts_are_the_whole_bit_for_bit(gradients, cuts):
    tokens = len(gradients.centred)
    ends = [0, *sorted(min(cut, tokens) for cut in cuts), tokens]
    whole = Gradients.joined([_part(gradients, *pair) for pair in pairwise(ends)])
    for found, expected in zip(_rows(whole, 4), _rows(gradients, 4), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(whole.b_enc(), gradients.b_enc())
    assert torch.equal(whole.b_dec_as_decoder_bias(), gradients.b_dec_as_decoder_bias())


def test_a_single_data_rank_gathers_nothing():
    nothing = torch.zeros(0, dtype=torch.long)
    term = Term(Matches(nothing, nothing, torch.zeros(0)), torch.zeros(0), torch.zeros(3, 2))
    gradients = Gradients((term,), torch.zeros(3, 2), 4, CPU)
    assert gradients.gathered(Solo()) is gradients
