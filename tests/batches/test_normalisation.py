import math

import pytest
import torch

from distsae.batches.normalisation import Normalisation
from distsae.store import Statistics


@pytest.fixture
def rows():
    return torch.randn(500, 12, generator=torch.Generator().manual_seed(0)) * 3 + torch.arange(12)


@pytest.fixture
def statistics(rows):
    mean = rows.mean(0)
    directions = rows / rows.norm(dim=1, keepdim=True)
    return Statistics(
        rows=len(rows),
        mean=mean,
        mean_norm=float(rows.norm(dim=1).mean()),
        variance=float((rows - mean).square().sum(1).mean()),
        mean_direction=directions.mean(0),
        direction_variance=float((directions - directions.mean(0)).square().sum(1).mean()),
    )


def test_none(rows, statistics):
    assert torch.equal(Normalisation.of(statistics, "none").apply(rows.clone()), rows)


def test_scale(rows, statistics):
    scaled = Normalisation.of(statistics, "scale").apply(rows.clone())
    assert float(scaled.norm(dim=1).mean()) == pytest.approx(math.sqrt(12), rel=1e-5)
    assert torch.allclose(scaled / rows, (scaled / rows)[0, 0])


def test_centre(rows, statistics):
    centred = Normalisation.of(statistics, "centre").apply(rows.clone())
    assert torch.allclose(centred.mean(0), torch.zeros(12), atol=1e-5)
    assert float(centred.square().sum(1).mean()) == pytest.approx(12, rel=1e-5)


def test_token(rows, statistics):
    normalisation = Normalisation.of(statistics, "token")
    normalised = normalisation.apply(rows.clone())
    assert torch.allclose(normalised.norm(dim=1), torch.tensor(12.0).sqrt())
    assert torch.allclose(normalised * normalisation.scales(rows), rows)
    zeros = torch.zeros(1, 12)
    assert torch.equal(normalisation.apply(zeros.clone()), zeros)


@pytest.mark.parametrize("name", ["none", "scale", "centre", "token"])
def test_moments_are_those_of_normalised_rows(rows, statistics, name):
    normalisation = Normalisation.of(statistics, name)
    mean, variance = normalisation.moments(statistics)
    normalised = normalisation.apply(rows.clone())
    assert torch.allclose(mean, normalised.mean(0), atol=1e-5)
    assert variance == pytest.approx(float((normalised - normalised.mean(0)).square().sum(1).mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["none", "scale", "centre"])
def test_undone(rows, statistics, name):
    normalisation = Normalisation.of(statistics, name)
    assert torch.allclose(normalisation.undo(normalisation.apply(rows.clone())), rows, atol=1e-5)
