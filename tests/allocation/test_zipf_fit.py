"""The fit finds the law again from what a run would measure."""

import numpy as np
import pytest
import torch

from distsae.allocation import fit_zipf


def _measured(s, q, d_sae=4096, k=32, tokens=1_000_000, seed=0):
    """Densities as counted over a window: Poisson counts of a Zipf-Mandelbrot law, in random order."""
    rng = np.random.default_rng(seed)
    law = (np.arange(1, d_sae + 1) + q) ** -s
    law *= k / law.sum()
    return torch.from_numpy(rng.permutation(rng.poisson(law * tokens)) / tokens), torch.from_numpy(law)


@pytest.mark.parametrize(("s", "q"), [(0.7, 10.0), (1.0, 64.0), (1.5, 200.0), (2.0, 500.0)])
def test_recovers_the_law_from_noisy_counts(s, q):
    density, law = _measured(s, q)
    fit = fit_zipf(density)
    assert fit.s == pytest.approx(s, rel=0.08)
    assert fit.q == pytest.approx(q, rel=0.2)
    assert fit.r_squared > 0.99
    assert fit.predicted.shape == (4096,)
    assert (fit.predicted.diff() < 0).all()
    torch.testing.assert_close(fit.predicted, law, rtol=0.25, atol=0)


def test_exact_densities_give_the_exact_law():
    density = 3.0 * (torch.arange(1, 1001).double() + 20) ** -1.3
    fit = fit_zipf(density)
    assert fit.s == pytest.approx(1.3, rel=1e-3)
    assert fit.q == pytest.approx(20, rel=1e-2)
    torch.testing.assert_close(fit.predicted, density, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("outliers", "tolerance"), [(3, 0.03), (8, 0.15)])
def test_a_few_features_that_are_always_on_do_not_bend_the_curve(outliers, tolerance):
    density, law = _measured(1.0, 64.0)
    density[torch.randperm(4096, generator=torch.Generator().manual_seed(0))[:outliers]] = 1.0
    fit = fit_zipf(density)
    torch.testing.assert_close(fit.predicted[100:2000], law[100:2000], rtol=tolerance, atol=0)


def test_dead_features_are_left_out_but_counted_in_the_curve():
    density, _ = _measured(1.0, 64.0)
    alive = fit_zipf(density)
    padded = fit_zipf(torch.cat([density, torch.zeros(1000)]))
    assert padded.predicted.shape == (5096,)
    assert padded.s == pytest.approx(alive.s, rel=1e-2)
    assert (padded.predicted > 0).all()


def test_equal_densities_are_a_flat_law():
    fit = fit_zipf(torch.full((500,), 0.01))
    torch.testing.assert_close(fit.predicted, torch.full((500,), 0.01, dtype=torch.float64), rtol=0.02, atol=0)


def test_too_few_live_features_give_no_fit():
    density = torch.zeros(1000)
    density[:7] = 0.1
    assert fit_zipf(density) is None
    density[7] = 0.1
    assert fit_zipf(density) is not None


def test_order_does_not_matter():
    density, _ = _measured(1.0, 64.0, d_sae=500)
    shuffled = density[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    assert fit_zipf(density).s == fit_zipf(shuffled).s
