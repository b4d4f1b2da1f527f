"""Calibrated thresholds reach L0 = k on every mesh; quotas are met over many tokens."""

import pytest
import torch

from distsae.allocation import QuotaCredit, zipf_quotas
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training.freezing.calibration import calibrated, quota_thresholds
from tests.distributed.processes import MESHES, run_on_mesh
from tests.training.samples import D_SAE, TOKENS, K, activations, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")


def _calibrate(mesh, spread):
    """Thresholds of all features after calibration, and L0 on this data rank's rows."""
    shard = shard_on(mesh, torch.float32)
    share = TOKENS // mesh.data.size
    x = activations(0, torch.float32)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
    features = mesh.features(D_SAE)
    before = torch.linspace(1, 1 + spread, D_SAE)[features.start : features.stop].clone()
    before[0] = torch.inf
    thresholds = calibrated(shard, before.double(), x, K, mesh)
    pre_acts = (x - shard.b_dec.detach()) @ shard.W_enc.detach().t() + shard.b_enc.detach()
    fired = int((pre_acts > thresholds).sum())
    ratio = thresholds[1:] / before[1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))  # one factor for all
    return torch.cat(mesh.feature.gather(thresholds)), int(mesh.world.sum(torch.tensor(fired)))


@pytest.mark.parametrize("spread", [0.0, 3.0], ids=["one threshold", "a threshold each"])
def test_calibration_gives_k_matches_per_token_on_every_mesh(spread):
    ((alone, fired),) = run_on_mesh(_calibrate, (1, 1), spread)
    assert alone.dtype == torch.float32
    assert K * TOKENS - 2 <= fired <= K * TOKENS  # the match at the cut is the threshold itself
    for shape in MESHES:
        for thresholds, count in run_on_mesh(_calibrate, shape, spread):
            finite = thresholds.isfinite()
            if shape[1] == 1:  # otherwise other features are infinite
                torch.testing.assert_close(thresholds, alone, rtol=1e-5, atol=0)
            assert finite.sum() == D_SAE - shape[1]
            assert K * TOKENS - 2 <= count <= K * TOKENS


def test_too_few_positive_scores_leave_the_thresholds():
    shard = shard_on(MESH, torch.float32)
    shard.b_enc.data.fill_(-100.0)
    thresholds = torch.full((D_SAE,), 0.5)
    assert torch.equal(calibrated(shard, thresholds, activations(0, torch.float32), K, MESH), thresholds)


def test_thresholds_of_nearly_nothing_are_calibrated():
    shard, x = shard_on(MESH, torch.float32), 100 * activations(0, torch.float32)
    for least in (0.0, 1e-40):
        thresholds = calibrated(shard, torch.full((D_SAE,), least).double(), x, K, MESH)
        with torch.no_grad():
            scores = (x - shard.b_dec) @ shard.W_enc.T + shard.b_enc
        assert scores.max() > 8  # over the smallest normal number that would be infinite
        assert K * TOKENS - 2 <= int((scores > thresholds).sum()) <= K * TOKENS


def test_quotas_of_less_than_one_match_a_batch_are_met_over_many_tokens():
    x = activations(0, torch.float32)
    shard = FeatureShard(x.shape[1], D_SAE, range(D_SAE), x.mean(0), seed=0)
    mean = 2 * D_SAE / len(x)
    quota_per_token = zipf_quotas(D_SAE, mean)  # two matches a feature on average, the rarest below one
    thresholds = quota_thresholds(shard, quota_per_token, mean, x, MESH)
    with torch.no_grad():
        scores = (x - shard.b_dec) @ shard.W_enc.T + shard.b_enc
    granted = QuotaCredit(quota_per_token, mean).pay(len(x))
    reached = (scores >= thresholds - 1e-5).sum(0)  # none where the threshold is nan
    assert (granted == 0).any()
    assert torch.equal(reached, granted.clamp(max=(scores > 0).sum(0)))
