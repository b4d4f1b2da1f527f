"""The plain statements against loops that can be checked by eye."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import feature_choice, mutual_choice, token_choice
from distsae.errors import NonFiniteScores, WrongInput
from tests.allocation.samples import cases, modest


def _pairs(scores):
    """Returns all positive (score, token, feature), the largest first, ties to the smallest (token, feature)."""
    found = []
    for token in range(scores.shape[0]):
        for feature in range(scores.shape[1]):
            if scores[token, feature].item() > 0:
                found.append((scores[token, feature].item(), token, feature))
    return sorted(found, key=lambda entry: (-entry[0], entry[1], entry[2]))


def _listed(matches):
    return list(zip(matches.score.tolist(), matches.token.tolist(), matches.feature.tolist(), strict=True))


def _by_token(entries):
    return sorted(entries, key=lambda entry: (entry[1], entry[2]))


@modest
@given(cases(), st.integers(0, 30))
def test_token_choice(case, k):
    scores = case.batches[0]
    expected = [
        entry for token in range(case.tokens) for entry in [pair for pair in _pairs(scores) if pair[1] == token][:k]
    ]
    assert _listed(token_choice(scores, k)) == _by_token(expected)


@modest
@given(cases(), st.integers(0, 300))
def test_mutual_choice(case, budget):
    scores = case.batches[0]
    found = mutual_choice(scores, budget)
    assert _listed(found) == _by_token(_pairs(scores)[:budget])
    assert len(found) == min(budget, int((scores > 0).sum()))


@modest
@given(cases(), st.data())
def test_feature_choice(case, data):
    scores = case.batches[0]
    quotas = data.draw(st.lists(st.integers(0, 13), min_size=case.features, max_size=case.features))
    expected = [
        entry
        for feature in range(case.features)
        for entry in [pair for pair in _pairs(scores) if pair[2] == feature][: quotas[feature]]
    ]
    assert _listed(feature_choice(scores, torch.tensor(quotas))) == _by_token(expected)


def test_negative_zero_is_zero():
    scores = torch.tensor([[-0.0, 0.0], [-0.0, 1e-45]])
    assert _listed(mutual_choice(scores, 4)) == [(scores[1, 1].item(), 1, 1)]


def test_scores_are_compared_in_fp32():
    scores = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)  # one number in fp32: the first feature wins
    assert mutual_choice(scores, 1).feature.tolist() == [0]
    assert mutual_choice(scores, 1).score.dtype == torch.float32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_are_refused_with_their_count(bad):
    scores = torch.randn(4, 5)
    scores[1, 2] = scores[3, 0] = bad
    for selected in (
        lambda: token_choice(scores, 2),
        lambda: mutual_choice(scores, 8),
        lambda: feature_choice(scores, torch.ones(5, dtype=torch.long)),
    ):
        with pytest.raises(NonFiniteScores, match="2 of 20 scores are not finite"):
            selected()


def test_wrong_input_is_named():
    with pytest.raises(WrongInput, match=r"`scores` must be \[tokens, features\]; got shape \(3,\)"):
        token_choice(torch.ones(3), 1)
    with pytest.raises(WrongInput, match="`k` must not be negative; got -1"):
        token_choice(torch.ones(3, 2), -1)
    with pytest.raises(WrongInput, match="`budget` must not be negative; got -2"):
        mutual_choice(torch.ones(3, 2), -2)
    with pytest.raises(WrongInput, match="`quotas` must not be negative; got -3"):
        feature_choice(torch.ones(3, 2), torch.tensor([1, -3]))
    with pytest.raises(WrongInput, match=r"`quotas` must have one entry per feature; got shape \(3,\)"):
        feature_choice(torch.ones(3, 2), torch.ones(3, dtype=torch.long))
