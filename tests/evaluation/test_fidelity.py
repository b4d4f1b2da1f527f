import numpy as np
import pytest
import torch

from distsae.evaluation.fidelity import activation_sums, cosine, error_sums, fvu, fvu_unit_norm, nmse, relative_error


def totals(x: torch.Tensor, x_hat: torch.Tensor, reference: torch.Tensor, counted=None) -> dict[str, np.ndarray]:
    """Sums over all contexts, as one sample; by default every row counts."""
    counted = torch.ones(x.shape[:2], dtype=torch.bool) if counted is None else counted
    sums = activation_sums(x, reference, counted) | error_sums(x, x_hat, counted)[0]
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


MEASURES = (fvu, nmse, relative_error, cosine, fvu_unit_norm)


def plain(x: np.ndarray, x_hat: np.ndarray) -> list[float]:
    """The measures of rows `[rows, d_in]`, in the order of `MEASURES`."""
    norm = np.linalg.norm(x, axis=1)
    some = norm > 0
    unit, unit_hat = x[some] / norm[some, None], x_hat[some] / norm[some, None]
    error = np.linalg.norm(x - x_hat, axis=1)
    cosines = (unit * x_hat[some]).sum(1) / np.linalg.norm(x_hat[some], axis=1)
    return [
        (error**2).sum() / ((x - x.mean(0)) ** 2).sum(),
        (error**2).sum() / (x**2).sum(),
        (error[some] / norm[some]).mean(),
        cosines.mean(),
        ((unit - unit_hat) ** 2).sum() / ((unit - unit.mean(0)) ** 2).sum(),
    ]


def test_every_measure_by_brute_force(activations):
    x = activations * torch.linspace(0.1, 30, 35).reshape(5, 7, 1)
    x[1, 2] = 0
    x_hat = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    expected = plain(x.reshape(-1, 4).double().numpy(), x_hat.reshape(-1, 4).double().numpy())
    sums = totals(x, x_hat, x.mean((0, 1)))
    assert [measure(sums)[0] for measure in MEASURES] == pytest.approx(expected, rel=1e-12)
    assert (sums["rows"][0], sums["nonzero_rows"][0]) == (35, 34)


def test_rows_that_do_not_count_do_not_matter(activations):
    counted = torch.rand(5, 7, generator=torch.Generator().manual_seed(2)) < 0.6
    x_hat = activations + 0.3
    expected = plain(activations[counted].double().numpy(), x_hat[counted].double().numpy())
    for value in (1e6, torch.inf, torch.nan):
        x, y = activations.clone(), x_hat.clone()
        x[~counted], y[~counted] = value, -value
        sums = totals(x, y, torch.zeros(4), counted)
        assert [measure(sums)[0] for measure in MEASURES] == pytest.approx(expected, rel=1e-12)
    assert (error_sums(activations, x_hat, counted)[1][~counted] == 0).all()


def test_one_huge_row_owns_the_fvu_and_not_the_others(activations):
    x = activations.clone()
    x[0, 0] *= 1000
    x_hat = 0.5 * x
    x_hat[0, 0] = x[0, 0]
    sums = totals(x, x_hat, torch.zeros(4))
    assert fvu(sums)[0] < 1e-3
    assert relative_error(sums)[0] == pytest.approx(0.5 * 34 / 35)
    assert fvu_unit_norm(sums)[0] > 0.2
    assert cosine(sums)[0] == pytest.approx(1)


def test_a_reconstruction_of_zeros_has_no_direction(activations):
    sums = totals(activations, torch.zeros_like(activations), torch.zeros(4))
    assert cosine(sums)[0] == 0
    assert relative_error(sums)[0] == 1


def test_nothing_counts():
    sums = totals(torch.ones(2, 3, 4), torch.ones(2, 3, 4), torch.zeros(4), torch.zeros(2, 3, dtype=torch.bool))
    assert np.isnan([measure(sums)[0] for measure in MEASURES]).all()
