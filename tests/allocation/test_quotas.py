"""Quotas sum to the budget, and no feature is owed two matches of one token."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import DensityRanks, fit_zipf, measured_quotas_of, uniform_quotas, zipf_quotas, zipf_quotas_of
from distsae.errors import WrongInput
from tests.allocation.samples import modest
from tests.distributed.processes import run_on_mesh


@st.composite
def _quotas(draw):
    d_sae = draw(st.integers(1, 60))
    k = draw(st.integers(1, d_sae))
    s, q = draw(st.floats(0, 3)), draw(st.floats(-0.9, 50))
    rank = torch.tensor(draw(st.permutations(range(1, d_sae + 1))))
    return zipf_quotas(d_sae, k, s, q, rank), k, s, q, rank


@modest
@given(_quotas())
def test_zipf_quotas_sum_to_k_and_stop_at_one_match_per_token(drawn):
    quotas, k, s, q, rank = drawn
    assert quotas.sum().item() == pytest.approx(k, rel=1e-12)
    assert quotas.max().item() <= 1
    by_rank = quotas[rank.argsort()]
    assert (by_rank.diff() <= 0).all()  # no feature is owed more than a denser one
    free = by_rank < 1
    law = (torch.arange(1, len(quotas) + 1).double() + q) ** -s
    ratio = by_rank[free] / law[free]  # below the cap the law's proportions hold
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio) if len(ratio) else ratio, rtol=1e-9, atol=0)


def test_uniform_quotas_and_the_zipf_law_without_slope():
    assert torch.equal(uniform_quotas(8, 2), torch.full((8,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(zipf_quotas(8, 2, s=0), uniform_quotas(8, 2))
    torch.testing.assert_close(
        zipf_quotas(3, 1, s=1, rank=torch.tensor([3, 1, 2])), torch.tensor([2, 6, 3], dtype=torch.float64) / 11
    )
    assert zipf_quotas(5, 5, s=2).tolist() == [1.0] * 5


def test_tied_features_share_the_mean_of_their_ranks():
    quotas = zipf_quotas(4, 1, s=1, rank=torch.tensor([1.0, 2.5, 2.5, 4.0], dtype=torch.float64))
    weights = torch.tensor([1, 0.4, 0.4, 0.25], dtype=torch.float64)
    torch.testing.assert_close(quotas, weights / weights.sum())


@modest
@given(st.integers(1, 200), st.floats(0, 3), st.floats(-0.4, 50), st.floats(0.01, 1), st.integers(0, 1 << 20))
def test_quotas_from_ranks_are_those_of_the_features_one_by_one(d_sae, s, q, share, seed):
    generator = torch.Generator().manual_seed(seed)
    density = torch.poisson((2 * torch.randn(d_sae, generator=generator)).exp(), generator=generator) / 100
    ranks = DensityRanks.measure(density)
    k = max(share * d_sae, 1e-3)
    found = zipf_quotas_of(ranks, k, s, q)
    torch.testing.assert_close(found, zipf_quotas(d_sae, k, s, q, ranks.rank()), rtol=1e-9, atol=0)
    assert found.sum().item() == pytest.approx(k, rel=1e-9)


def _local(mesh, density, k):
    features = mesh.features(len(density))
    return zipf_quotas_of(DensityRanks.measure(density[features.start : features.stop], mesh.feature), k, 1.1, 3.0)


@pytest.mark.parametrize("k", [4.0, 40.0])
def test_every_mesh_has_the_same_quotas_bit_for_bit(k):
    density = torch.rand(103, generator=torch.Generator().manual_seed(0)) ** 4
    (alone,) = run_on_mesh(_local, (1, 1), density, k)
    assert (alone == 1).any() == (k == 40)
    for shape in ((1, 2), (1, 3), (2, 2), (1, 4)):
        ranks = run_on_mesh(_local, shape, density, k)
        assert torch.equal(torch.cat(ranks[: shape[1]]), alone)


def test_wrong_input_is_named():
    for quotas in (uniform_quotas, zipf_quotas):
        with pytest.raises(WrongInput, match=r"`k` \(=9\) must be positive and at most `d_sae` \(=8\)"):
            quotas(8, 9)
    with pytest.raises(WrongInput, match=r"`k` \(=9\) must be positive and at most `d_sae` \(=8\)"):
        zipf_quotas_of(DensityRanks.measure(torch.rand(8)), 9, 1.0, 0.0)
    with pytest.raises(WrongInput, match=r"`s` \(=-1\)"):
        zipf_quotas(8, 2, s=-1)
    with pytest.raises(WrongInput, match=r"`q` \(=-1\)"):
        zipf_quotas(8, 2, q=-1)


@pytest.mark.parametrize(("s", "q"), [(71.6, 40960.0), (200.0, 5000.0), (20.0, 0.0)])
def test_steep_laws_do_not_underflow(s, q):
    quotas = zipf_quotas(4096, 32, s, q)
    assert bool(quotas.isfinite().all())
    assert float(quotas.sum()) == pytest.approx(32)
    assert bool((quotas.diff() <= 0).all())


def test_quotas_fitted_to_evenly_falling_densities_are_near_those_densities():
    """Log-uniform densities look like a very steep law with a very large offset."""
    density = torch.logspace(0, -3, 4096, dtype=torch.float64)
    density *= 32 / density.sum()
    ranks = DensityRanks.measure(density)
    fit = fit_zipf(ranks)
    assert fit is not None
    quotas = zipf_quotas_of(ranks, 32, fit.s, fit.q)
    assert float((quotas / density).log().abs().median()) < 0.1


def _measured(density, k, least_share=0.1):
    return measured_quotas_of(DensityRanks.measure(density), k, least_share)


def _densities(features=200):
    density = 2.0 / (torch.arange(features).double() + 4)
    density[[3, 17]] = torch.tensor([0.9, 0.7], dtype=torch.float64)  # far above any curve
    density[150:] = 0.0
    return density


def test_measured_quotas_are_the_densities_with_a_lower_limit():
    density = _densities()
    k = float(density.sum())
    quotas = _measured(density, k)
    raised = density.clamp(min=0.1 * k / len(density))
    assert quotas.sum().item() == pytest.approx(k, rel=1e-12)
    torch.testing.assert_close(quotas, raised * (k / raised.sum()), rtol=0.01, atol=0)  # densities are known to 0.4%
    assert (quotas[150:] > 0).all()
    assert (_measured(density, k, least_share=0.0)[150:] == 0).all()
    torch.testing.assert_close(_measured(density, 2.0, least_share=1e6), uniform_quotas(len(density), 2.0))


def test_measured_quotas_stop_at_one_match_per_token():
    quotas = _measured(_densities(), 3 * float(_densities().sum()))
    assert quotas.max().item() == 1
    assert (quotas == 1).sum() >= 2
    assert quotas.sum().item() == pytest.approx(3 * float(_densities().sum()), rel=1e-12)


def _measured_on(mesh):
    density = _densities()
    part = mesh.features(len(density))
    ranks = DensityRanks.measure(density[part.start : part.stop], mesh.feature)
    return measured_quotas_of(ranks, float(density.sum()), 0.1)


def test_measured_quotas_are_the_same_bits_on_every_mesh():
    (alone,) = run_on_mesh(_measured_on, (1, 1))
    for shape in ((1, 2), (1, 3)):
        assert torch.equal(torch.cat(run_on_mesh(_measured_on, shape)), alone)
