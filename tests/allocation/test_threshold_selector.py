"""The frozen rule equals the comparison written densely, chunk by chunk, in every dtype."""

import pytest
import torch

from distsae.allocation import MutualSelector, Placement, ThresholdSelector, select
from distsae.errors import NonFiniteScores

TOKENS, FEATURES = 21, 17


def _scores(dtype=torch.float32):
    scores = torch.randn(TOKENS, FEATURES, generator=torch.Generator().manual_seed(2)).to(dtype)
    scores[3], scores[4, :5] = -scores[3].abs(), 0.0
    return scores


def _thresholds():
    thresholds = torch.linspace(-0.5, 1.0, FEATURES)
    thresholds[5], thresholds[6] = torch.inf, 0.0
    return thresholds


def _chunks(scores, size):
    return lambda: [(first, scores[:, first : first + size].t().contiguous()) for first in range(0, FEATURES, size)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 8, FEATURES])
def test_scores_above_their_threshold_and_zero_fire(size, dtype):
    scores = _scores(dtype)
    scores[:, 9] = _thresholds()[9].to(dtype)  # exclusive, and compared as fp32
    (found,) = select([ThresholdSelector(_thresholds())], _chunks(scores, size), Placement.solo(FEATURES), TOKENS)
    fires = (scores > 0) & (scores.double() > _thresholds().double())
    assert torch.equal(found.dense(TOKENS, FEATURES), scores.to(found.score) * fires)
    assert torch.equal(torch.stack([found.feature, found.token], 1), fires.t().nonzero())  # by feature, then token
    assert not (found.feature == 5).any()
    assert (found.score > 0).all()
    assert len(found) > TOKENS


def test_no_tokens_no_matches():
    empty = _scores()[:0]
    (found,) = select([ThresholdSelector(_thresholds())], _chunks(empty, 8), Placement.solo(FEATURES), 0)
    assert len(found) == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_are_refused_as_by_every_rule(bad):
    scores = _scores()
    scores[2, 5] = bad
    for selector in (ThresholdSelector(_thresholds()), MutualSelector(1)):
        with pytest.raises(NonFiniteScores, match="1 scores are not finite"):
            select([selector], _chunks(scores, 8), Placement.solo(FEATURES), TOKENS)


def test_the_given_thresholds_are_not_changed():
    thresholds = _thresholds()
    ThresholdSelector(thresholds)
    assert torch.equal(thresholds, _thresholds())
