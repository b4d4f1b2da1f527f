"""The fit recovers the law from densities as a run would measure them.

A feature off the curve keeps its rank, so the other features show a different offset. Eight features that are always on
move them by eight ranks (`q - 8`, never below 0). If a share of the features is missing, at random, the ranks of the
others are that much closer together (`q` times the share that is left).
"""

import numpy as np
import pytest
import torch

from distsae.allocation import DensityRanks, fit_zipf
from tests.distributed.processes import run_on_mesh

D_SAE = 4096
LAWS = [(s, q) for s in (0.8, 1.0, 1.3) for q in (0.0, 10.0, 100.0)]


def _measured(s, q, d_sae=D_SAE, k=3, tokens=1_000_000, seed=0):
    """Returns densities as counted over a window, Poisson counts of a law in random order, and the law itself."""
    rng = np.random.default_rng(seed)
    law = (np.arange(1, d_sae + 1) + q) ** -s
    law *= k / law.sum()
    return torch.from_numpy(rng.permutation(rng.poisson(law * tokens)) / tokens), torch.from_numpy(law)


def _some(share, seed=1):
    return torch.randperm(D_SAE, generator=torch.Generator().manual_seed(seed))[: int(share * D_SAE)]


@pytest.mark.parametrize(("s", "q"), LAWS)
def test_recovers_the_law_from_noisy_counts(s, q):
    """Measured: s to 0.002, q to 0.6."""
    density, law = _measured(s, q)
    fit = fit_zipf(density)
    assert fit.s == pytest.approx(s, abs=0.01)
    assert fit.q == pytest.approx(q, rel=0.02, abs=0.1)
    assert fit.r_squared > 0.998
    assert fit.residual < 0.1
    expected = fit.density(torch.arange(1, D_SAE + 1))
    assert expected.dtype == torch.float64
    assert (expected.diff() < 0).all()
    torch.testing.assert_close(expected, law, rtol=0.03, atol=0)


@pytest.mark.parametrize(("s", "q"), LAWS)
def test_eight_features_that_are_always_on_do_not_bend_the_curve(s, q):
    """Measured: s to 0.003, q to 0.6; where q - 8 is below 0, s to 0.081."""
    density, law = _measured(s, q)
    density[:8] = 1.0
    fit = fit_zipf(density)
    assert fit.s == pytest.approx(s, abs=0.01 if q >= 8 else 0.1)
    assert fit.q == pytest.approx(max(q - 8, 0), rel=0.02, abs=0.5)
    ranks = torch.arange(200, D_SAE - 200)
    torch.testing.assert_close(fit.density(ranks + 8), law[ranks - 1], rtol=0.12, atol=0)


@pytest.mark.parametrize(("s", "q"), LAWS)
def test_a_tenth_of_the_features_far_below_the_curve_does_not_bend_it(s, q):
    """Measured: s to 0.03, q to 2.2 or a tenth; the rest depends on which features are missing."""
    density, _ = _measured(s, q)
    low = _some(0.1)
    density[low] /= 100
    fit = fit_zipf(density)
    assert fit.s == pytest.approx(s, abs=0.04)
    assert fit.q == pytest.approx(0.9 * q, rel=0.15, abs=3)


@pytest.mark.parametrize(("s", "q"), LAWS)
def test_a_fifth_of_the_features_dead(s, q):
    """Measured: s to 0.05, q to 3.9 or a tenth if they are drawn at random; no loss if they are the rarest."""
    density, _ = _measured(s, q)
    at_random, rarest = density.clone(), density.clone()
    at_random[_some(0.2)] = 0.0
    rarest[rarest.argsort()[: D_SAE // 5]] = 0.0
    fit = fit_zipf(at_random)
    assert fit.s == pytest.approx(s, abs=0.06)
    assert fit.q == pytest.approx(0.8 * q, rel=0.15, abs=5)
    fit = fit_zipf(rarest)
    assert fit.s == pytest.approx(s, abs=0.01)
    assert fit.q == pytest.approx(q, rel=0.02, abs=0.1)


def test_exact_densities_give_the_exact_law():
    density = 3.0 * (torch.arange(1, 1001).double() + 20) ** -1.3
    fit = fit_zipf(density)
    assert fit.s == pytest.approx(1.3, rel=2e-3)
    assert fit.q == pytest.approx(20, rel=1e-2)
    torch.testing.assert_close(fit.density(torch.arange(1, 1001)), density, rtol=5e-3, atol=0)
    assert fit.residual < 0.004  # half a bin


def test_the_residual_is_the_distance_from_the_curve_in_nats():
    """Every other feature a fifth above the law, the others a fifth below: ln 1.2 away on average."""
    law = 0.5 * (torch.arange(1, 3001).double() + 30) ** -1.0
    shares = torch.where(torch.rand(3000, generator=torch.Generator().manual_seed(0)) < 0.5, 1.2, 1 / 1.2)
    ranked = (law * shares).sort(descending=True).values
    fit = fit_zipf(law * shares)
    fitted = np.unique(np.geomspace(1, 3000, 256).round().astype(int))
    expected = fit.density(torch.from_numpy(fitted))
    by_hand = (ranked[fitted - 1] / expected).log().square().mean().sqrt()
    assert fit.residual == pytest.approx(float(by_hand), abs=0.003)
    broken = law.clone()
    broken[1500:] /= 10
    assert fit_zipf(broken).residual > 0.3  # points to which the fit gave no weight count, too


def test_exponent_and_offset_are_never_negative():
    generator = torch.Generator().manual_seed(0)
    for density in (
        torch.full((500,), 0.01),
        torch.rand(8, generator=generator),
        torch.rand(5000, generator=generator),
    ):
        fit = fit_zipf(density)
        assert fit.s >= 0
        assert fit.q >= 0
        assert fit.density(torch.arange(1, len(density) + 1)).isfinite().all()


def test_equal_densities_are_a_flat_law():
    fit = fit_zipf(torch.full((500,), 0.01))
    torch.testing.assert_close(
        fit.density(torch.arange(1, 501)), torch.full((500,), 0.01, dtype=torch.float64), rtol=0.005, atol=0
    )
    assert fit.residual < 1e-6


def test_too_few_live_features_give_no_fit():
    density = torch.zeros(1000)
    density[:7] = 0.1
    assert fit_zipf(density) is None
    density[7] = 0.1
    assert fit_zipf(density) is not None


def test_order_does_not_matter():
    density, _ = _measured(1.0, 64.0, d_sae=500)
    shuffled = density[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    assert fit_zipf(density) == fit_zipf(shuffled)
    assert fit_zipf(density) == fit_zipf(DensityRanks.measure(density))


def _fit(mesh, density):
    features = mesh.features(len(density))
    return fit_zipf(DensityRanks.measure(density[features.start : features.stop], mesh.feature))


def test_every_rank_of_every_mesh_has_the_same_fit():
    density, _ = _measured(1.0, 10.0, d_sae=1001)
    (alone,) = run_on_mesh(_fit, (1, 1), density)
    for shape in ((1, 2), (1, 3), (2, 2)):
        assert run_on_mesh(_fit, shape, density) == [alone] * (shape[0] * shape[1])
