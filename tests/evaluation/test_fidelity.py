import numpy as np
import pytest
import torch

from distsae.evaluation.fidelity import activation_sums, error_per_row, fvu, nmse


def totals(x: torch.Tensor, x_hat: torch.Tensor, reference: torch.Tensor) -> dict[str, np.ndarray]:
    """Sums over all contexts, as one sample."""
    sums = activation_sums(x, reference)
    sums["error"] = error_per_row(x, x_hat).sum(1)
    return {name: part.numpy().sum(0, keepdims=True) for name, part in sums.items()}


@pytest.fixture
def activations() -> torch.Tensor:
    return 3.0 + torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))


def test_brute_force(activations):
    x_hat = activations + 0.3 * torch.randn(activations.shape, generator=torch.Generator().manual_seed(1))
    rows, rows_hat = activations.reshape(-1, 4).numpy(), x_hat.reshape(-1, 4).numpy()
    error = ((rows - rows_hat).astype(np.float64) ** 2).sum()
    sums = totals(activations, x_hat, torch.zeros(4))
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    assert fvu(sums)[0] == pytest.approx(error / (centred**2).sum(), rel=1e-12)
    assert nmse(sums)[0] == pytest.approx(error / (rows.astype(np.float64) ** 2).sum(), rel=1e-12)


def test_perfect_reconstruction_has_no_error(activations):
    sums = totals(activations, activations, torch.zeros(4))
    assert fvu(sums)[0] == 0
    assert nmse(sums)[0] == 0


def test_the_mean_leaves_all_variance_unexplained(activations):
    mean = activations.double().reshape(-1, 4).mean(0)
    sums = totals(activations.double(), mean.expand_as(activations), torch.zeros(4))
    assert fvu(sums)[0] == pytest.approx(1, rel=1e-12)
    assert nmse(sums)[0] < 0.3  # the uncentred measure hardly sees it beside the offset


def test_a_constant_offset_of_the_reconstruction_counts(activations):
    sums = totals(activations, activations + 1.0, torch.zeros(4))
    assert fvu(sums)[0] > 0.5


def test_the_reference_does_not_matter_even_when_the_mean_dwarfs_the_variance():
    x = 1e4 + torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_hat = x.mean((0, 1)).expand_as(x)
    near, far = (fvu(totals(x, x_hat, reference))[0] for reference in (torch.full((3,), 1e4), torch.zeros(3)))
    assert near == pytest.approx(1, rel=1e-12)
    assert far == pytest.approx(1, rel=1e-6)


def test_constant_activations_have_no_fvu():
    x = torch.full((2, 3, 4), 2.5)
    assert np.isnan(fvu(totals(x, x + 1, torch.zeros(4)))[0])
