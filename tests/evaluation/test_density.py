import pytest
import torch

from distsae.evaluation.density import UNDERUTILISED_BELOW, summarise


def zipf_counts(features: int, rows: int, s: float = 1.0, q: float = 3.0) -> torch.Tensor:
    curve = (torch.arange(1, features + 1, dtype=torch.float64) + q) ** -s
    return (curve / curve.sum() * 20 * rows).round().long()


def test_a_zipf_dictionary_has_nothing_underutilised():
    shuffled = zipf_counts(300, 100_000)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    found = summarise(shuffled, 100_000)
    assert found.dead_share == 0
    assert found.underutilised_share == 0
    assert found.zipf_s == pytest.approx(1.0, abs=0.05)
    assert found.zipf_r_squared is not None
    assert found.zipf_r_squared > 0.99
    assert found.zipf_residual < 0.01
    assert torch.equal(found.density, shuffled.double() / 100_000)


def test_the_share_of_the_densest():
    counts = torch.tensor([300] * 3 + [100] * 297)
    assert summarise(counts, 1000).top_feature_share == pytest.approx(900 / 30_600, rel=0.01)
    assert summarise(torch.zeros(300, dtype=torch.long), 1000).top_feature_share is None


def test_shares_against_counting_by_hand():
    counts = zipf_counts(300, 100_000)
    counts[250:280] = torch.clamp(counts[250:280] // 100, min=1)
    counts[280:] = 0
    found = summarise(counts, 100_000)
    assert found.dead_share == pytest.approx(20 / 300)
    assert found.predicted is not None
    assert found.predicted.shape == (300,)
    ranked = sorted((float(d) for d in found.density), reverse=True)
    below = sum(d == 0 or d < UNDERUTILISED_BELOW * float(p) for d, p in zip(ranked, found.predicted, strict=True))
    assert below == 50
    assert found.underutilised_share == pytest.approx(below / 300)
    assert found.underutilised_share >= found.dead_share


def test_too_few_features_for_a_fit():
    found = summarise(torch.tensor([5, 0, 0, 0]), 10)
    assert found.predicted is None
    assert found.zipf_s is None
    assert found.zipf_residual is None
    assert found.dead_share == found.underutilised_share == 0.75
