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
    return Statistics(
        rows=len(rows),
        mean=mean,
        mean_norm=float(rows.norm(dim=1).mean()),
        variance=float((rows - mean).square().sum(1).mean()),
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


@pytest.mark.parametrize("name", ["none", "scale", "centre"])
def test_undone(rows, statistics, name):
    normalisation = Normalisation.of(statistics, name)
    assert torch.allclose(normalisation.undo(normalisation.apply(rows.clone())), rows, atol=1e-5)
