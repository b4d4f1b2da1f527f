"""Feature Choice whose quotas hold on average: prices on every mesh, resumed, and left alone by measurements."""

import pytest
import torch

from distsae.allocation import PricedSelector, select
from tests.distributed.processes import run_on_mesh
from tests.training.test_phases import BATCH, D_SAE, MESH, K, _phases, _statistics


def _priced(mesh, steps=(10, 14), saved=None):
    """Runs Feature Choice whose quotas hold on average; returns prices of this rank's features and their floor."""
    phases = _phases(mesh, finetune_fc_from=0.5, quotas_hold="on_average")
    if saved is not None:
        phases.restore(steps[0], 10, _statistics(mesh))
        for name, tensor in phases.tensors().items():
            tensor.copy_(saved[name])
    features, tokens = mesh.features(D_SAE), BATCH // mesh.data.size
    for step in range(*steps):
        phases.prepare(step, _statistics(mesh))
        assert isinstance(phases.selector, PricedSelector)
        assert phases.credit is None
        phases.grant_quotas(BATCH)  # grants nothing: prices do
        x = torch.randn(BATCH, D_SAE, generator=torch.Generator().manual_seed(step)) * torch.linspace(1, 2, D_SAE)
        rows = slice(mesh.data.rank * tokens, (mesh.data.rank + 1) * tokens)
        local = x[rows, features.start : features.stop].t().contiguous()
        (matches,) = select([phases.selector], lambda c=local: [(0, c)], mesh.placement(D_SAE, tokens), tokens)
        phases.move_prices(matches, BATCH)
    return phases.prices.price, phases.prices.least, phases.tensors()


def test_prices_are_the_same_on_every_mesh():
    ((alone, least, _),) = run_on_mesh(_priced, (1, 1))
    assert len(alone.unique()) > D_SAE / 2
    for shape in ((1, 2), (1, 3), (2, 1), (2, 2)):
        ranks = run_on_mesh(_priced, shape)
        assert all(torch.equal(rank[1], least) for rank in ranks)
        for data in range(shape[0]):
            part = ranks[data * shape[1] : (data + 1) * shape[1]]
            assert torch.equal(torch.cat([rank[0] for rank in part]), alone), shape


def test_restored_prices_go_on_as_they_would_have():
    straight, least, _ = _priced(MESH, (10, 18))
    _, _, saved = _priced(MESH, (10, 14))
    resumed, least_of_resumed, _ = _priced(MESH, (14, 18), saved)
    assert torch.equal(resumed, straight)
    assert torch.equal(least_of_resumed, least)


def test_a_measurement_moves_no_price():
    phases = _phases(finetune_fc_from=0.5, quotas_hold="on_average")
    phases.prepare(10, _statistics())
    assert "at least 0.05 of the mean" in _phases(
        finetune_fc_from=0.5, quotas="measured", quotas_hold="on_average"
    ).prepare(10, _statistics())
    assert isinstance(phases.fresh_selector(), PricedSelector)
    assert phases.fresh_credit() is None
    assert phases.quota_per_token is phases.prices.quota_per_token
    assert float(phases.quota_per_token.sum()) == pytest.approx(K)
