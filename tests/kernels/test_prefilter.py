"""The prefilter loses no score, and a selection through it is one from fp32 scores."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import (
    ExactScores,
    FeatureSelector,
    MutualSelector,
    Placement,
    QuotaCredit,
    TokenSelector,
    select,
    zipf_quotas,
)
from distsae.kernels import (
    CPU,
    REFERENCE,
    MatrixRoom,
    PrefilteredScores,
    PrefilterRows,
    UpperBounds,
    prefilter_tokens,
    prefilter_wanted,
)
from distsae.kernels.prefilter_margins import summation_error
from distsae.model import FeatureShard
from tests.allocation.samples import modest

KINDS = ("normal", "tied", "skewed", "outlier", "tiny", "huge", "zeros", "bias")


def _problem(kind, features, tokens, d_in, generator):
    """Returns encoder rows, biases and centred tokens of one kind, fp32."""
    W_enc = torch.randn(features, d_in, generator=generator)
    b_enc = torch.randn(features, generator=generator)
    x = torch.randn(tokens, d_in, generator=generator)
    match kind:
        case "tied":
            W_enc = W_enc.round()
            b_enc = b_enc.round()
            x = x.round()
        case "skewed":
            W_enc *= (torch.rand(features, 1, generator=generator) < 0.2) * 999.0 + 1
            x *= (torch.rand(tokens, 1, generator=generator) < 0.2) * 99.0 + 1
        case "outlier":  # as the massive dimensions of language models
            x[:, 0] += 300
        case "tiny":
            x, b_enc = x * 1e-20, b_enc * 1e-20
        case "huge":
            x, b_enc = x * 1e14, b_enc * 1e14
        case "zeros":
            W_enc, b_enc = torch.zeros_like(W_enc), torch.zeros_like(b_enc)
        case "bias":
            b_enc *= 1000
    return W_enc, b_enc, x


def _chunk(W_enc, b_enc, x, kernels=CPU):
    """Returns the upper bounds of all scores, and the scores as a selector sees them."""
    rows = PrefilterRows(len(W_enc), W_enc.shape[1], W_enc.device)
    rows.refresh(0, W_enc, b_enc)
    columns = prefilter_tokens(x)
    assert rows.certifies(columns)
    upper = UpperBounds(kernels, rows.rows, columns, MatrixRoom(len(W_enc), columns), asked_once=False)
    return upper.matrix(), PrefilteredScores(kernels, upper, W_enc, b_enc, x)


def test_the_margin_does_not_vanish_with_the_squares_it_is_made_of():
    """The rounding error of a number around 1e-20 has a square too small for fp32."""
    W_enc, b_enc = torch.tensor([[-0.3414, 1.8530]]), torch.tensor([1.4565e-20])
    x = torch.tensor([[-2.0879e-22, -7.1848e-21]])
    upper, _ = _chunk(W_enc, b_enc, x)
    assert upper.double() >= (1 - 2**-8) * (W_enc.double() @ x.double().t() + b_enc.double())


@st.composite
def _problems(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(8, 40)), draw(st.integers(1, 40)), draw(st.integers(1, 70))
    return _problem(draw(st.sampled_from(KINDS)), *shape, generator)


@modest
@given(_problems(), st.sampled_from([CPU, REFERENCE]))
def test_bounds_are_not_below_the_scores(problem, kernels):
    W_enc, b_enc, x = problem
    upper, _ = _chunk(W_enc, b_enc, x, kernels)
    truth = W_enc.double() @ x.double().t() + b_enc.double()[:, None]
    single = torch.addmm(b_enc[:, None], W_enc, x.t()).double()
    for scores in (truth, single):
        assert (upper.double() >= torch.where(scores > 0, scores * (1 - 2**-8), -torch.inf)).all()


@modest
@given(_problems(), st.floats(0, 1), st.booleans(), st.sampled_from([CPU, REFERENCE]))
def test_above_finds_the_same_as_with_all_scores_computed(problem, share, some_rows, kernels):
    W_enc, b_enc, x = problem
    _, chunk = _chunk(W_enc, b_enc, x, kernels)
    positive, score = chunk.above(torch.zeros(1))
    pre_acts = torch.zeros(len(W_enc), len(x))
    pre_acts.view(-1)[positive] = score
    torch.testing.assert_close(
        pre_acts,
        torch.addmm(b_enc[:, None], W_enc, x.t()).relu(),
        rtol=1e-4,
        atol=1e-4 * float(score.max()) if len(score) else 0,
    )
    exact = ExactScores(pre_acts)
    rows = torch.arange(0, len(W_enc), 3) if some_rows else None
    for bound in (
        torch.tensor([share * float(pre_acts.max())]),
        (share * pre_acts.amax(0)),
        (share * pre_acts.amax(1, keepdim=True)),
    ):
        of_rows = bound[rows] if some_rows and bound.dim() == 2 else bound
        for found, expected in zip(chunk.above(of_rows, rows), exact.above(of_rows, rows), strict=True):
            assert torch.equal(found, expected)


@modest
@given(_problems(), st.integers(1, 30), st.booleans())
def test_scores_left_out_are_not_among_the_largest(problem, most, some_rows):
    _, chunk = _chunk(*problem)
    rows = torch.arange(0, chunk.shape[0], 3) if some_rows else None
    flat, score = chunk.above(torch.zeros(1), rows)
    fewer, fewer_score = chunk.above(torch.zeros(1), rows, most)
    left_out = ~torch.isin(flat, fewer)
    assert torch.isin(fewer, flat).all()
    if left_out.any():
        assert (fewer_score > score[left_out].max()).sum() >= most or fewer_score.numel() >= most
        assert score[left_out].max() <= fewer_score.topk(most).values.min()


@modest
@given(_problems(), st.integers(1, 8))
def test_leading_is_a_lower_bound_that_k_scores_reach(problem, k):
    _, chunk = _chunk(*problem)
    flat, score = chunk.above(torch.zeros(1))
    pre_acts = torch.zeros(chunk.shape)
    pre_acts.view(-1)[flat] = score
    assert ((pre_acts >= chunk.leading(k)).sum(0) >= k).all()


def _shard(features, d_in, prefilter, selection_mb):
    shard = FeatureShard(
        d_in, features, range(features), torch.zeros(d_in), seed=1, selection_mb=selection_mb, prefilter=prefilter
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        shard.W_enc += 0.3 * torch.randn(features, d_in, generator=generator) / d_in**0.5
        shard.b_enc += 0.1 * torch.randn(features, generator=generator)
    return shard


@pytest.mark.parametrize("rule", ["token_choice", "mutual_choice", "mutual_choice of some", "feature_choice"])
@pytest.mark.parametrize("selection_mb", [0.5, 1000])
def test_selections_are_those_from_all_scores_in_fp32(rule, selection_mb):
    """Batch after batch, the first one without a forecast; scores are equal except for the order of their sums."""
    features = 600
    d_in = 48
    tokens = 300
    k = 8
    credit = QuotaCredit(zipf_quotas(features, k), k)
    quotas = [credit.pay(tokens) for _ in range(4)]
    found = {}
    for prefilter in (False, True):
        shard = _shard(features, d_in, prefilter, selection_mb)
        selector = {
            "token_choice": lambda: TokenSelector(k),
            "mutual_choice": lambda: MutualSelector(k),
            "mutual_choice of some": lambda: MutualSelector(k, torch.arange(features) % 3 == 0),
            "feature_choice": lambda: FeatureSelector(features),
        }[rule]()
        generator = torch.Generator().manual_seed(2)
        for batch in range(4):
            x = torch.randn(tokens, d_in, generator=generator) * (1 + batch % 2)
            if isinstance(selector, FeatureSelector):
                selector.grant(quotas[batch])
            (matches,) = select([selector], lambda x=x, s=shard: s.encode_chunks(x), Placement.solo(features), tokens)
            found[prefilter, batch] = matches
            with torch.no_grad():  # the shard must notice the change
                shard.W_enc.mul_(1.01)
                shard.b_enc.sub_(0.01)
    for batch in range(4):
        exact = found[False, batch]
        prefiltered = found[True, batch]
        assert len(exact) > 0
        assert torch.equal(exact.token, prefiltered.token)
        assert torch.equal(exact.feature, prefiltered.feature)
        torch.testing.assert_close(exact.score, prefiltered.score, rtol=1e-5, atol=1e-6)


def test_scores_do_not_depend_on_the_chunks_or_the_other_tokens():
    x = torch.randn(64, 48, generator=torch.Generator().manual_seed(3))

    def scores(selection_mb, x):
        shard = _shard(200, 48, True, selection_mb)
        dense = torch.zeros(200, len(x))
        for first, chunk in shard.encode_chunks(x):
            flat, score = chunk.above(torch.zeros(1))
            dense[first : first + chunk.shape[0]].view(-1)[flat] = score
        return dense

    whole = scores(1000, x)
    assert torch.equal(scores(1e-9, x), whole)
    assert torch.equal(torch.cat([scores(1000, x[:23]), scores(1000, x[23:])], 1), whole)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 3e38])
def test_scores_that_could_overflow_are_not_certified(bad):
    W_enc, b_enc, x = _problem("normal", 20, 10, 16, torch.Generator().manual_seed(0))
    for tensor in (W_enc, b_enc, x):
        kept = tensor.flatten()[3].item()
        tensor.view(-1)[3] = bad
        rows = PrefilterRows(20, 16, W_enc.device)
        rows.refresh(0, W_enc, b_enc)
        assert not rows.certifies(prefilter_tokens(x))
        tensor.view(-1)[3] = kept


def _cut_off(terms):
    """Sums as a matrix unit may: four terms at a time are aligned with the largest, and the bits beyond are dropped."""
    total = torch.zeros((), dtype=torch.double)
    for part in terms.double().split(4):
        part = torch.cat([total[None], part])
        unit = 2.0 ** (part.abs().max().log2().floor() - 23)
        total = (part / unit).trunc().sum() * unit
        total = (total / (unit := 2.0 ** (total.abs().log2().floor() - 23))).trunc() * unit
    return total


@pytest.mark.parametrize("kind", ["normal", "positive", "as much as possible is cut off"])
def test_the_margin_covers_sums_of_matrix_units(kind):
    terms = torch.randn(768, generator=torch.Generator().manual_seed(0))
    if kind == "positive":
        terms = terms.abs()
    elif kind != "normal":
        terms = torch.full((768,), 2.0**-23 * (1 - 2**-20))
        terms[0] = 1.0
    error = (terms.double().sum() - _cut_off(terms)).abs() / terms.double().abs().sum()
    assert 0 < error <= summation_error(768, torch.device("cuda"))
    if kind.startswith("as much"):  # rounding has no such error
        assert error > summation_error(768, torch.device("cpu"))


def test_the_choice_to_prefilter_is_the_users():
    for device in (torch.device("cpu"), torch.device("cuda")):
        assert prefilter_wanted("bf16", device)
        assert not prefilter_wanted("none", device)
