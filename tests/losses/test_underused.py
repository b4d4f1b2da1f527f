"""The set U: dead features, and those far below the curve at their rank."""

import pytest
import torch

from distsae.allocation import DensityRanks, fit_zipf
from distsae.collective import Solo
from distsae.losses import FiringStatistics, Underused, underutilised
from tests.distributed.processes import run_on_mesh

D_SAE = 400


def _law():
    return 0.5 * (torch.arange(1, D_SAE + 1).double() + 10) ** -0.8


def _statistics(mesh=None, window=1000, tokens=1000):
    """Densities on a Zipf law in shuffled order; the last twenty ranks a hundredfold below it, ten features dead."""
    density = _law()
    density[-20:] /= 100
    density = density[torch.randperm(D_SAE, generator=torch.Generator().manual_seed(0))]
    features = range(D_SAE) if mesh is None else mesh.features(D_SAE)
    statistics = FiringStatistics(len(features), window_tokens=window, dead_after_tokens=100)
    statistics.matches.copy_(density[features.start : features.stop] * tokens)
    statistics.tokens.fill_(tokens)
    statistics.tokens_since_fired.copy_((torch.arange(D_SAE) < 10)[features.start : features.stop] * 100)
    return statistics


def _marked(density, rho, fitted=True):
    ranks = DensityRanks.measure(density)
    return underutilised(density, ranks, fit_zipf(ranks) if fitted else None, rho)


def test_a_density_below_a_share_of_the_curve_at_its_rank_is_underutilised():
    density = _law()
    assert not _marked(density, 0.5).any()
    density[-20:] /= 100
    marked = _marked(density, 0.5)
    assert marked.tolist() == [False] * (D_SAE - 20) + [True] * 20
    order = torch.randperm(D_SAE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(_marked(density[order], 0.5), marked[order])
    assert not _marked(density, 0.5, fitted=False).any()


def test_features_that_never_fired_are_underutilised():
    density = _law()
    density[::7] = 0.0
    assert _marked(density, 0.1)[::7].all()


def test_the_set_of_each_rule():
    statistics = _statistics()
    dead = statistics.dead()
    sets = {aux: Underused.measure(statistics, aux, 0.3, Solo()) for aux in ("none", "aux_k", "aux_zipf")}
    assert not sets["none"].members.any()
    assert torch.equal(sets["aux_k"].members, dead)
    low = statistics.density() < 1e-4
    assert low.sum() == 20
    assert torch.equal(sets["aux_zipf"].members, dead | low)
    assert (sets["none"].share, sets["aux_k"].share) == (0.0, 10 / D_SAE)
    assert sets["aux_zipf"].share == pytest.approx(int((dead | low).sum()) / D_SAE)
    for found in sets.values():  # what is measured does not depend on the rule
        assert found.dead_share == 10 / D_SAE
        assert found.underutilised_share == sets["aux_zipf"].share
        assert found.zipf_s == pytest.approx(0.8, rel=0.05)
        fit = fit_zipf(statistics.density())
        assert (found.zipf_r_squared, found.zipf_residual) == (fit.r_squared, fit.residual)


def test_aux_zipf_is_aux_k_in_the_limit():
    statistics = _statistics()
    assert torch.equal(
        Underused.measure(statistics, "aux_zipf", 1e-9, Solo()).members,
        Underused.measure(statistics, "aux_k", 1e-9, Solo()).members,
    )


def test_there_is_no_fit_while_the_window_is_nearly_empty():
    found = Underused.measure(_statistics(window=10_000, tokens=1000), "aux_zipf", 0.3, Solo())
    assert found.zipf_s is None
    assert found.share == 10 / D_SAE  # the dead features alone


def test_numbers_and_members_restore_the_set():
    found = Underused.measure(_statistics(), "aux_zipf", 0.3, Solo())
    again = Underused(found.members, **found.numbers())
    assert again.numbers() == found.numbers()
    empty = Underused.none(5)
    assert not empty.members.any()
    assert empty.share == 0


def _measure(mesh):
    found = Underused.measure(_statistics(mesh), "aux_zipf", 0.3, mesh.feature)
    return found.members, found.numbers()


def test_every_mesh_finds_the_same_set():
    ((members, numbers),) = run_on_mesh(_measure, (1, 1))
    for shape in ((1, 2), (1, 3), (2, 2), (1, 4)):
        ranks = run_on_mesh(_measure, shape)
        assert torch.equal(torch.cat([rank[0] for rank in ranks[: shape[1]]]), members)
        assert all(rank[1] == numbers for rank in ranks)
