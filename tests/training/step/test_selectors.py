"""The selectors of a step: each selects what it selects alone, from one pass, and gets its matches back by purpose."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distsae.allocation import (
    FeatureSelector,
    Matches,
    MutualSelector,
    Placement,
    TokenSelector,
    feature_choice,
    mutual_choice,
    token_choice,
)
from distsae.errors import NonFiniteScores
from distsae.training import Selectors

TOKENS = 24
FEATURES = 10
K = 3
ALLOWED = torch.arange(FEATURES) % 3 == 0
QUOTAS = torch.arange(FEATURES) % 4
SCORES = torch.randn(TOKENS, FEATURES, generator=torch.Generator().manual_seed(0))


def _auxiliary() -> MutualSelector:
    return MutualSelector(1, ALLOWED)


def _observers() -> tuple[MutualSelector, FeatureSelector]:
    by_feature = FeatureSelector(FEATURES)
    by_feature.grant(QUOTAS)
    return MutualSelector(K), by_feature


class _Chunks:
    """Counts passes over the scores, in two chunks each."""

    def __init__(self, scores: torch.Tensor) -> None:
        self._by_feature = scores.t().contiguous()
        self.passes = 0

    def __call__(self):
        self.passes += 1
        return [(0, self._by_feature[:7]), (7, self._by_feature[7:])]


def _assert_equal(found: Matches, expected: Matches) -> None:
    for name in ("token", "feature", "score"):
        assert torch.equal(getattr(found.by_token(), name), getattr(expected, name)), name


@pytest.mark.parametrize("with_auxiliary", [True, False])
@pytest.mark.parametrize("with_observers", [True, False])
def test_matches_come_back_by_purpose_from_one_pass(with_auxiliary, with_observers):
    selectors = Selectors(
        TokenSelector(K), _auxiliary() if with_auxiliary else None, _observers() if with_observers else ()
    )
    chunks = _Chunks(SCORES)
    selected = selectors.select(chunks, Placement.solo(FEATURES), TOKENS)
    assert chunks.passes == 1
    _assert_equal(selected.main, token_choice(SCORES, K))
    if with_auxiliary:
        _assert_equal(selected.auxiliary, mutual_choice(SCORES.masked_fill(~ALLOWED, 0.0), TOKENS))
    else:
        assert selected.auxiliary is None
    expected = [mutual_choice(SCORES, K * TOKENS), feature_choice(SCORES, QUOTAS)] if with_observers else []
    for found, of_observer in zip(selected.observed, expected, strict=True):
        _assert_equal(found, of_observer)


class _Wrapper:
    """A selector in another one, which passes everything on."""

    def __init__(self, selector) -> None:
        self.selector = selector

    def __getattr__(self, name):
        return getattr(self.selector, name)


@pytest.mark.parametrize("with_auxiliary", [True, False])
def test_wrapped_selectors_keep_their_purposes(with_auxiliary):
    selectors = Selectors(TokenSelector(K), _auxiliary() if with_auxiliary else None, _observers())
    wrapped_in_order = []

    def wrap(selector):
        wrapped_in_order.append(selector)
        return _Wrapper(selector)

    wrapped: Any = selectors.wrapped(wrap)
    expected = [selectors.main, *([selectors.auxiliary] if with_auxiliary else []), *selectors.observers]
    assert [id(selector) for selector in wrapped_in_order] == [id(selector) for selector in expected]
    assert wrapped.main.selector is selectors.main
    assert wrapped.auxiliary is None if not with_auxiliary else wrapped.auxiliary.selector is selectors.auxiliary
    assert [observer.selector for observer in wrapped.observers] == [*selectors.observers]
    selected = wrapped.select(_Chunks(SCORES), Placement.solo(FEATURES), TOKENS)
    _assert_equal(selected.main, token_choice(SCORES, K))
    assert (selected.auxiliary is None) == (not with_auxiliary)
    _assert_equal(selected.observed[0], mutual_choice(SCORES, K * TOKENS))


def test_a_score_that_is_not_finite_is_reported():
    broken = SCORES.clone()
    broken[5, 6] = torch.nan
    with pytest.raises(NonFiniteScores, match="1 scores are not finite"):
        Selectors(MutualSelector(K)).select(_Chunks(broken), Placement.solo(FEATURES), TOKENS)
