"""Prices bring densities to the quotas, on average over batches, and never run away."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import PricedSelector, Prices
from tests.allocation.samples import modest, run

FEATURES, TOKENS, K = 12, 256, 3


def _batch(generator, loud):
    """Scores of which some features have many large ones, others few, and that come in bursts."""
    bursts = (torch.rand(FEATURES, generator=generator) < 0.5) + 0.2
    return torch.randn(TOKENS, FEATURES, generator=generator) * loud * bursts


def _trained(quota, batches, loud):
    prices = Prices(quota)
    selector = PricedSelector(K, prices.price)
    generator = torch.Generator().manual_seed(1)
    counts = torch.zeros(FEATURES)
    for index in range(batches):
        (found,) = run([selector], _batch(generator, loud), 5)
        assert len(found) == K * TOKENS  # the budget holds in every batch
        prices.move(found.feature, TOKENS, selector.cut)
        if index >= batches // 2:
            counts += found.feature.bincount(minlength=FEATURES)
    return prices, counts / (TOKENS * (batches - batches // 2))


def test_densities_come_to_the_quotas():
    quota = torch.linspace(1, 4, FEATURES, dtype=torch.float64)
    quota *= K / quota.sum()
    prices, density = _trained(quota, 400, torch.linspace(3, 0.5, FEATURES))
    torch.testing.assert_close(density.double(), quota, rtol=0.1, atol=0.0)
    assert torch.equal(prices.quota_per_token, quota)


def test_without_prices_that_move_they_would_not():
    quota = torch.full((FEATURES,), K / FEATURES, dtype=torch.float64)
    selector = PricedSelector(K, torch.ones(FEATURES, dtype=torch.float64))
    (found,) = run([selector], _batch(torch.Generator().manual_seed(1), torch.linspace(3, 0.5, FEATURES)), 5)
    density = found.feature.bincount(minlength=FEATURES) / TOKENS
    assert (density.double() - quota).abs().max() > 0.5 * K / FEATURES


@modest
@given(st.integers(0, 2**32), st.sampled_from([1e-3, 1.0, 1e3]))
def test_a_step_is_that_of_the_rule(seed, cut):
    generator = torch.Generator().manual_seed(seed)
    prices = Prices(torch.rand(FEATURES, generator=generator, dtype=torch.float64) / 4)
    prices.price.copy_(torch.rand(FEATURES, generator=generator, dtype=torch.float64) + 0.5)
    before = prices.price.clone()
    feature = torch.randint(FEATURES, (200,), generator=generator)
    prices.move(feature, TOKENS, cut)
    for j in range(FEATURES):
        expected = TOKENS * float(prices.quota_per_token[j])
        surplus = min((int((feature == j).sum()) - expected) / (expected + 1), 3.0)
        assert float(prices.price[j]) == pytest.approx(float(before[j]) * cut * (1 + 0.1 * surplus), rel=1e-12)


def test_the_price_of_a_feature_that_never_fires_stops_falling():
    prices = Prices(torch.full((FEATURES,), 0.1, dtype=torch.float64))
    for _ in range(500):
        prices.move(torch.zeros(0, dtype=torch.long), TOKENS, 2.0 if not prices.least else 1.0)
    assert float(prices.least) == 2.0 / 64
    assert torch.equal(prices.price, torch.full_like(prices.price, 2.0 / 64))


def test_a_batch_without_a_cut_scales_nothing():
    prices = Prices(torch.zeros(FEATURES, dtype=torch.float64))
    prices.move(torch.zeros(0, dtype=torch.long), TOKENS, None)
    assert torch.equal(prices.price, torch.ones_like(prices.price))
    assert float(prices.least) == 0.0


def test_a_move_does_not_depend_on_where_the_numbers_lie():
    """Feature shards of any width have the same prices, bit for bit."""
    generator = torch.Generator().manual_seed(0)
    quota = torch.rand(1000, generator=generator, dtype=torch.float64) / 4
    feature = torch.randint(1000, (5000,), generator=generator)
    whole = Prices(quota)
    whole.move(feature, TOKENS, 1.7)
    for first, last in ((0, 333), (333, 334), (334, 1000)):
        part = Prices(quota[first:last])
        part.move(feature[(feature >= first) & (feature < last)] - first, TOKENS, 1.7)
        assert torch.equal(part.price, whole.price[first:last])
