"""Ranks from a histogram are those of a plain sort, and the same on every mesh."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import DensityRanks
from tests.allocation.samples import modest
from tests.distributed.processes import run_on_mesh

TOLERANCE = 2.0**-8  # half a bin of 128 per octave, a little more at its lower end


@st.composite
def _densities(draw):
    kind = draw(st.sampled_from(["lognormal", "counts", "equal", "mostly dead", "tiny", "dead"]))
    features = draw(st.integers(1, 300))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    x = torch.randn(features, generator=generator, dtype=torch.float64)
    match kind:
        case "lognormal":
            return (3 * x - 5).exp()
        case "counts":
            return torch.poisson((2 * x).exp(), generator=generator) / 1000
        case "equal":
            return torch.full_like(x, 0.01)
        case "mostly dead":
            return torch.where(x > 1, x, 0.0)
        case "tiny":
            return x.abs() * 1e-37
        case _:
            return torch.zeros_like(x)


def _truncated(density):
    """Returns what a bin keeps of a density: exponent and seven bits, zero for a subnormal number."""
    pattern = density.float().view(torch.int32) & ~0xFFFF
    kept = pattern.view(torch.float32)
    return torch.where(kept < torch.finfo(torch.float32).tiny, 0.0, kept)


def _mean_ranks(density):
    """Returns for each feature the mean rank of the features with its density."""
    denser = (density[None, :] > density[:, None]).sum(1)
    equal = (density[None, :] == density[:, None]).sum(1)
    return denser + (equal + 1) / 2


@modest
@given(_densities())
def test_ranks_are_those_of_a_sort_with_ties_sharing(density):
    ranks = DensityRanks.measure(density)
    assert ranks.features == len(density)
    assert ranks.alive == int((_truncated(density) > 0).sum())
    assert ranks.rank().dtype == torch.float64
    assert torch.equal(ranks.rank(), _mean_ranks(_truncated(density)).double())
    assert float(ranks.rank().sum()) == len(density) * (len(density) + 1) / 2


@modest
@given(_densities())
def test_the_density_at_a_rank_is_that_of_a_sort_to_within_half_a_bin(density):
    ranks = DensityRanks.measure(density)
    found = ranks.density(torch.arange(1, len(density) + 1))
    expected = density.sort(descending=True).values
    expected = torch.where(_truncated(expected) > 0, expected, 0.0)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=0)
    assert torch.equal(found == 0, expected == 0)


@modest
@given(_densities(), st.floats(0.001, 1))
def test_the_share_of_the_densest_is_that_of_a_sort(density, share):
    found = DensityRanks.measure(density).top_share(share)
    ranked = density.sort(descending=True).values
    ranked = torch.where(_truncated(ranked) > 0, ranked, 0.0)
    if ranked.sum() == 0:
        assert found is None
        return
    denser = torch.arange(len(ranked)).double()
    taken = (share * len(ranked) - denser).clamp(0, 1)  # the last one in part
    assert found == pytest.approx(float((ranked * taken).sum() / ranked.sum()), rel=2 * TOLERANCE)


def test_shares_that_are_known():
    even = DensityRanks.measure(torch.full((1000,), 0.032))
    assert even.top_share() == pytest.approx(0.01)
    assert even.top_share(1.0) == pytest.approx(1.0)
    alone = DensityRanks.measure(torch.tensor([0.5] + [0.0] * 99))
    assert alone.top_share() == 1.0


def test_a_feature_too_rare_for_fp32_counts_as_dead():
    """After 90 windows without a match a density is below what fp32 can hold."""
    ranks = DensityRanks.measure(torch.tensor([1e-39, 0.0, 0.1], dtype=torch.float64))
    assert ranks.alive == 1
    assert ranks.rank().tolist() == [2.5, 2.5, 1.0]


def test_the_densities_are_not_changed():
    for dtype in (torch.float32, torch.float64):
        density = torch.tensor([1e-40, 0.25], dtype=dtype)
        DensityRanks.measure(density)
        assert torch.equal(density, torch.tensor([1e-40, 0.25], dtype=dtype))


def _measure(mesh, density):
    features = mesh.features(len(density))
    ranks = DensityRanks.measure(density[features.start : features.stop], mesh.feature)
    return ranks.rank(), ranks.counts, ranks.top_share(), ranks.density(torch.arange(1, len(density) + 1))


def test_every_mesh_finds_the_same_ranks():
    generator = torch.Generator().manual_seed(0)
    density = torch.poisson((2 * torch.randn(101, generator=generator)).exp(), generator=generator) / 500
    ((rank, counts, share, curve),) = run_on_mesh(_measure, (1, 1), density)
    for shape in ((1, 2), (1, 3), (2, 2), (1, 4)):
        ranks = run_on_mesh(_measure, shape, density)
        assert torch.equal(torch.cat([found[0] for found in ranks[: shape[1]]]), rank)
        for found in ranks:
            assert torch.equal(found[1], counts)
            assert found[2] == share
            assert torch.equal(found[3], curve)


def _traffic(mesh, features):
    group = mesh.feature
    density = torch.rand(features, generator=torch.Generator().manual_seed(mesh.world.rank))
    before = group.collectives, group.bytes_received
    DensityRanks.measure(density, group)
    return group.collectives - before[0], group.bytes_received - before[1]


def test_one_collective_whose_size_does_not_depend_on_the_width():
    found = {run_on_mesh(_traffic, (1, 2), features)[0] for features in (10, 100_000)}
    assert len(found) == 1
    collectives, received = found.pop()
    assert collectives == 1
    assert received <= 256 * 1024


def test_more_features_than_a_block_holds():
    density = torch.rand(300_001, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 4
    ranks = DensityRanks.measure(density)
    assert ranks.features == 300_001
    truncated = _truncated(density)
    order = truncated.sort(descending=True)
    by_hand = torch.empty_like(density)
    _, group, size = order.values.unique_consecutive(return_inverse=True, return_counts=True)
    by_hand[order.indices] = ((size.cumsum(0) - size).double() + (size + 1) / 2)[group]
    assert torch.equal(ranks.rank(), by_hand)
