"""Passes over a batch on a GPU: a first one that does not wait for a certificate selects what others select."""

import pytest
import torch
from torch import nn

from distsae.allocation import FeatureSelector, MutualSelector, Placement, TokenSelector, select
from distsae.errors import NonFiniteScores
from distsae.kernels import REFERENCE
from distsae.model import FeatureShard
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda

D_IN, D_SAE, TOKENS = 8, 96, 64
SELECTORS = {
    "token_choice": lambda: TokenSelector(3),
    "mutual_choice": lambda: MutualSelector(3),
    "feature_choice": lambda: FeatureSelector(D_SAE),
}


@pytest.fixture(autouse=True)
def device():
    with pretended_cuda():
        yield


def _shard():
    megabytes = 24 * TOKENS * 24 / (1 << 20)  # of four chunks
    shard = FeatureShard(D_IN, D_SAE, range(D_SAE), torch.zeros(D_IN), 1, megabytes, REFERENCE, prefilter=True)
    for name, parameter in shard.named_parameters():
        setattr(shard, name, nn.Parameter(parameter.detach().to(CUDA)))
    return shard


def _select(selector, chunks):
    if isinstance(selector, FeatureSelector):
        selector.grant(torch.arange(D_SAE, device=CUDA) % 4)
    (found,) = select([selector], chunks, Placement.solo(D_SAE), TOKENS)
    return found


def _batches():
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 1.0, 1.0, 1e37, 1.0, 1.0):  # scores of 1e37 may overflow, for all that the prefilter knows
        yield scale, (torch.randn(TOKENS, D_IN, generator=generator) * scale).to(CUDA)


@pytest.mark.parametrize("rule", SELECTORS)
def test_the_selection_is_that_of_passes_that_wait(rule):
    shard, trusting, careful = _shard(), SELECTORS[rule](), SELECTORS[rule]()
    for step, (scale, x) in enumerate(_batches()):
        starts = []
        passes = shard.passes(x)

        def chunks(passes=passes, starts=starts):
            starts.append(1)
            return passes()

        LEDGER.clear()
        found = _select(trusting, chunks)
        waits = LEDGER.waits.total()
        expected = _select(careful, lambda x=x: shard.encode_chunks(x))
        for name in ("token", "feature", "score"):
            assert torch.equal(getattr(found, name).cpu(), getattr(expected, name).cpu())
        assert len(found)
        if step == 2:
            assert waits == len(starts) == 1
        if scale != 1:
            assert len(starts) > 1


@pytest.mark.parametrize("rule", SELECTORS)
def test_scores_that_are_not_finite_are_refused(rule):
    shard, selector = _shard(), SELECTORS[rule]()
    for _, x in list(_batches())[:3]:
        _select(selector, shard.passes(x))
    x[5, 3] = torch.nan
    with pytest.raises(NonFiniteScores, match=f"{D_SAE} scores are not finite, the first of them on rank 0"):
        _select(selector, shard.passes(x))


def test_scores_of_some_features_are_those_of_their_chunks():
    shard = _shard()
    x = next(_batches())[1]
    matrix = torch.full((D_SAE, TOKENS), -1.0)
    bound = torch.zeros(1, 1, device=CUDA)
    for first, scores in shard.passes(x)():
        flat, score = scores.above(bound)
        matrix.view(-1)[(flat + first * TOKENS).cpu()] = score.cpu()
    rows = torch.tensor([90, 3, 3, 41])
    some = scores.of_features(rows.to(CUDA))
    flat, score = some.within(some.cutoff(bound), bound, 4 * TOKENS)
    taken = score.cpu() > 0
    assert torch.equal(matrix[rows].view(-1)[flat.cpu()[taken]], score.cpu()[taken])
    assert int(taken.sum()) == int((matrix[rows] > 0).sum())
