"""Calibrated thresholds give `k` matches per token on every mesh; quotas are met over many tokens."""

import pytest
import torch

from distsae.allocation import QuotaCredit, zipf_quotas
from distsae.batches import Batch
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training.freezing.calibration import calibrated, filled_thresholds, quota_thresholds
from tests.distributed.processes import MESHES, run_on_mesh
from tests.training.samples import D_SAE, TOKENS, K, activations, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")


def _calibrate(mesh, spread):
    """Returns the calibrated thresholds of all features, and the number of matches over all ranks."""
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


@pytest.mark.parametrize("spread", [0.0, 3.0], ids=["equal thresholds", "different thresholds"])
def test_calibration_gives_k_matches_per_token_on_every_mesh(spread):
    ((alone, fired),) = run_on_mesh(_calibrate, (1, 1), spread)
    assert alone.dtype == torch.float32
    assert K * TOKENS - 2 <= fired <= K * TOKENS  # the score at the cut is the threshold itself
    for shape in MESHES:
        for thresholds, count in run_on_mesh(_calibrate, shape, spread):
            finite = thresholds.isfinite()
            if shape[1] == 1:  # otherwise other features have infinite thresholds
                torch.testing.assert_close(thresholds, alone, rtol=1e-5, atol=0)
            assert finite.sum() == D_SAE - shape[1]
            assert K * TOKENS - 2 <= count <= K * TOKENS


def test_with_too_few_positive_scores_all_of_them_are_matches():
    shard = shard_on(MESH, torch.float32)
    thresholds = torch.full((D_SAE,), 0.5)
    thresholds[3] = torch.inf
    found = calibrated(shard, thresholds, activations(0, torch.float32), D_SAE, MESH)
    assert found.tolist() == [0.0] * 3 + [torch.inf] + [0.0] * (D_SAE - 4)


def test_without_tokens_thresholds_are_not_scaled():
    shard = shard_on(MESH, torch.float32)
    thresholds = torch.full((D_SAE,), 0.5)
    assert torch.equal(calibrated(shard, thresholds, activations(0, torch.float32)[:0], K, MESH), thresholds)


def test_a_feature_with_too_few_positive_scores_for_its_quota_has_the_threshold_zero():
    x = activations(0, torch.float32)
    shard = FeatureShard(x.shape[1], D_SAE, range(D_SAE), x.mean(0), seed=0)
    shard.b_enc.data[0] = -100.0
    thresholds = quota_thresholds(shard, torch.full((D_SAE,), 0.1, dtype=torch.float64), 0.1 * D_SAE, Batch(x), MESH)
    assert thresholds[0] == 0
    assert (thresholds[1:] > 0).all()


def test_tiny_thresholds_are_calibrated():
    shard, x = shard_on(MESH, torch.float32), 100 * activations(0, torch.float32)
    for tiny in (0.0, 1e-40):
        thresholds = calibrated(shard, torch.full((D_SAE,), tiny).double(), x, K, MESH)
        with torch.no_grad():
            scores = (x - shard.b_dec) @ shard.W_enc.T + shard.b_enc
        assert scores.max() > 8  # divided by the smallest normal number, it would be infinite
        assert K * TOKENS - 2 <= int((scores > thresholds).sum()) <= K * TOKENS


def test_quotas_below_one_match_per_batch_are_met_over_many_tokens():
    x = activations(0, torch.float32)
    shard = FeatureShard(x.shape[1], D_SAE, range(D_SAE), x.mean(0), seed=0)
    mean = 2 * D_SAE / len(x)
    quota_per_token = zipf_quotas(D_SAE, mean)  # two matches per feature on average, below one for the rarest
    thresholds = quota_thresholds(shard, quota_per_token, mean, Batch(x), MESH)
    with torch.no_grad():
        scores = (x - shard.b_dec) @ shard.W_enc.T + shard.b_enc
    granted = QuotaCredit(quota_per_token, mean).pay(len(x))
    reached = (scores >= thresholds - 1e-5).sum(0)  # none where the threshold is nan
    assert (granted == 0).any()
    assert torch.equal(reached, granted.clamp(max=(scores > 0).sum(0)))


def _filled(mesh, thresholds):
    features = mesh.features(len(thresholds))
    return filled_thresholds(thresholds[features.start : features.stop], mesh)


def test_missing_thresholds_become_the_median_of_all_finite_ones():
    thresholds = torch.tensor([torch.inf, 3.0, 1.0, torch.nan, 2.0], dtype=torch.float64)
    expected = [2.0, 3.0, 1.0, 2.0, 2.0]
    for shape in ((1, 1), (1, 2), (1, 3)):
        assert torch.cat(run_on_mesh(_filled, shape, thresholds)).tolist() == expected, shape
    (none_finite,) = run_on_mesh(_filled, (1, 1), torch.full((3,), torch.inf))
    assert none_finite.tolist() == [1.0] * 3
