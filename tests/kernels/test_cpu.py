"""Every operation of the CPU kernels and of the reference against dense products, and Adam against torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import Matches
from distsae.kernels import CPU, REFERENCE, AdamStep, row_starts
from tests.allocation.samples import modest

VERSIONS = [CPU, REFERENCE]


@st.composite
def _problems(draw):
    tokens = draw(st.integers(1, 9))
    features = draw(st.integers(1, 11))
    d_in = draw(st.integers(1, 6))
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
@given(_problems(), st.sampled_from(VERSIONS))
def test_decode(problem, kernels):
    matches, acts, rows, vectors = problem
    found = kernels.decode(matches.by_token(), rows, len(vectors))
    assert found.dtype == rows.dtype
    torch.testing.assert_close(found, acts @ rows)


@modest
@given(_problems(), st.sampled_from(VERSIONS), st.booleans())
def test_match_dots(problem, kernels, gathered):
    matches, _, rows, vectors = problem
    matches = matches.by_feature()
    with pytest.MonkeyPatch.context() as patch:
        if gathered:  # as on a processor without MKL
            patch.setattr(torch.backends.mkl, "is_available", lambda: False)
        found = kernels.match_dots(matches.feature, matches.token, rows, vectors)
    torch.testing.assert_close(found, (rows @ vectors.t())[matches.feature, matches.token])


@modest
@given(_problems(), st.sampled_from(VERSIONS), st.data())
def test_row_sums(problem, kernels, data):
    matches, acts, rows, vectors = problem
    matches = matches.by_feature()
    starts = row_starts(matches.feature, len(rows))
    found = kernels.row_sums(starts, matches.token, matches.score, vectors)
    assert found.shape == rows.shape
    torch.testing.assert_close(found, acts.t() @ vectors)
    first = data.draw(st.integers(0, len(rows) - 1))  # the same rows from a call without the ones before
    here = slice(int(starts[first]), None)
    some = kernels.row_sums(starts[first:] - starts[first], matches.token[here], matches.score[here], vectors)
    assert torch.equal(kernels.row_sums(starts[first:], matches.token, matches.score, vectors), some)
    assert torch.equal(some, found[first:])


@modest
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from(VERSIONS))
def test_above(features, tokens, bound, kernels):
    generator = torch.Generator().manual_seed(features * 41 + tokens)
    scores = (2 * torch.randn(features, tokens, generator=generator)).round().bfloat16()  # many at the bound
    scores[0, 0] = torch.nan
    for shape in ((1,), (tokens,), (features, 1)):
        bounds = torch.full(shape, bound).bfloat16()
        expected = ((scores > bounds) | scores.isnan()).view(-1).nonzero().squeeze(1)
        assert torch.equal(kernels.above(scores, bounds), expected)


@pytest.mark.parametrize("kernels", VERSIONS, ids=lambda kernels: kernels.name)
def test_upper_scores_are_rounded_once(kernels):
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.randn(n, 96, generator=generator).bfloat16() for n in (40, 30))
    out = torch.empty(40, 30, dtype=torch.bfloat16)
    kernels.upper_scores(rows, columns, out)
    exact = rows.double() @ columns.double().t()
    assert ((out.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()


@pytest.mark.parametrize("kernels", VERSIONS, ids=lambda kernels: kernels.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_is_torchs(kernels, dtype):
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator, dtype=dtype) for shape in ((5, 3), (5,))]
    of_torch = [tensor.clone().requires_grad_() for tensor in parameters]
    adam = torch.optim.Adam(of_torch, lr=0.01, betas=(0.8, 0.95), eps=1e-6)
    means = [torch.zeros_like(parameter) for parameter in parameters]
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    for step in range(1, 5):
        gradients = [torch.randn(t.shape, generator=generator, dtype=dtype) for t in parameters]
        for tensor, gradient in zip(of_torch, gradients, strict=True):
            tensor.grad = gradient.clone()
        adam.step()
        kernels.adam(parameters, gradients, means, squares, AdamStep(step, 0.01, 0.8, 0.95, 1e-6))
    for parameter, expected in zip(parameters, of_torch, strict=True):
        torch.testing.assert_close(parameter, expected.detach())
