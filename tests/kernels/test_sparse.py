"""Sparse decode and row gradients against dense products."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import Matches
from distsae.kernels import decode, match_dots, row_sums, sparse
from tests.allocation.samples import modest


@st.composite
def _problems(draw):
    tokens, features, d_in = draw(st.integers(1, 9)), draw(st.integers(1, 11)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    mask = torch.rand(tokens, features, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    scores = torch.rand(tokens, features, generator=generator, dtype=dtype)
    token, feature = mask.nonzero(as_tuple=True)
    shuffled = torch.randperm(len(token), generator=generator)
    token, feature = token[shuffled], feature[shuffled]
    matches = Matches(token, feature, scores[token, feature])
    rows = torch.randn(features, d_in, generator=generator, dtype=dtype)
    vectors = torch.randn(tokens, d_in, generator=generator, dtype=dtype)
    return matches, scores * mask, rows, vectors


@modest
@given(_problems())
def test_decode(problem):
    matches, acts, rows, vectors = problem
    found = decode(matches.by_token(), rows, len(vectors))
    assert found.dtype == rows.dtype
    torch.testing.assert_close(found, acts @ rows)


@modest
@given(_problems(), st.booleans())
def test_match_dots(problem, gathered):
    matches, _, rows, vectors = problem
    matches = matches.by_feature()
    with pytest.MonkeyPatch.context() as patch:
        if gathered:  # as on a processor without MKL, three matches at a time
            patch.setattr(torch.backends.mkl, "is_available", lambda: False)
            patch.setattr(sparse, "_GATHER_BYTES", 3 * rows.shape[1] * rows.element_size())
        found = match_dots(matches, rows, vectors)
    torch.testing.assert_close(found, (rows @ vectors.t())[matches.feature, matches.token])


@modest
@given(_problems())
def test_row_sums(problem):
    matches, acts, rows, vectors = problem
    matches = matches.by_feature()
    found = row_sums(matches, matches.score, vectors, len(rows))
    assert found.shape == rows.shape
    torch.testing.assert_close(found, acts.t() @ vectors)
