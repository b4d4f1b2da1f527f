"""The frozen rule: unbiased from the first step, calibrated to L0 = k."""

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector, QuotaCredit, TokenSelector, zipf_quotas
from distsae.model import FeatureShard
from distsae.parallel import MeshConfig, build_mesh
from distsae.training.thresholds import ThresholdTracker, calibrated, quota_thresholds
from tests.distributed.processes import MESHES, run_on_mesh
from tests.training.samples import D_SAE, TOKENS, K, activations, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")


def test_the_first_step_is_not_averaged_with_zero():
    """A peer's average starts at 0 without correction: 39% of the true value after 50 steps."""
    tracker, selector = ThresholdTracker(3), MutualSelector(1)
    assert tracker.thresholds().tolist() == [torch.inf] * 3
    selector.cut = 2.5
    for _ in range(50):
        tracker.update(selector)
        torch.testing.assert_close(tracker.thresholds(), torch.full((3,), 2.5, dtype=torch.float64))


def test_it_is_a_threshold_after_one_step_and_never_negative():
    """A peer leaves -1, with which every feature fires, until step 1000."""
    mutual, by_feature = MutualSelector(1), FeatureSelector(2)
    for tracker, selector in ((ThresholdTracker(2), mutual), (ThresholdTracker(2), by_feature)):
        for step in range(1, 1200):
            mutual.cut, by_feature.cuts = 1e-3 / step, torch.tensor([1e-3 / step, torch.nan])
            tracker.update(selector)
            first, second = tracker.thresholds().tolist()
            assert 0.999e-3 / step < first < 1.001e-3
            assert second == (first if selector is mutual else torch.inf)  # never selected: does not fire


def test_the_average_follows_and_weighs_recent_steps_more():
    tracker, selector = ThresholdTracker(1), MutualSelector(1)
    cuts = [1.0, 4.0, 2.0]
    for cut in cuts:
        selector.cut = cut
        tracker.update(selector)
    weights = [0.99**2, 0.99, 1.0]
    expected = sum(w * c for w, c in zip(weights, cuts, strict=True)) / sum(weights)
    assert tracker.thresholds().item() == pytest.approx(expected, rel=1e-12)
    selector.cut = None  # a batch that fell short says nothing about the cut
    tracker.update(selector)
    assert tracker.thresholds().item() == pytest.approx(expected, rel=1e-12)


def test_feature_choice_has_one_average_a_feature():
    tracker, selector = ThresholdTracker(3), FeatureSelector(3)
    selector.cuts = torch.tensor([1.0, torch.nan, 3.0])
    tracker.update(selector)
    selector.cuts = torch.tensor([2.0, torch.nan, torch.nan])
    tracker.update(selector)
    first, never, third = tracker.thresholds().tolist()
    assert first == pytest.approx((0.99 * 1 + 2) / 1.99)
    assert never == torch.inf
    assert third == pytest.approx(3.0)


def test_token_choice_leaves_no_trace_and_restart_forgets():
    tracker, selector = ThresholdTracker(2), MutualSelector(1)
    tracker.update(TokenSelector(3))
    assert tracker.thresholds().tolist() == [torch.inf] * 2
    selector.cut = 1.0
    tracker.update(selector)
    tracker.restart()
    assert tracker.thresholds().tolist() == [torch.inf] * 2


def test_state_is_live():
    tracker, selector = ThresholdTracker(2), MutualSelector(1)
    selector.cut = 1.5
    tracker.update(selector)
    resumed = ThresholdTracker(2)
    for name, tensor in resumed.tensors().items():
        tensor.copy_(tracker.tensors()[name])
    assert torch.equal(resumed.thresholds(), tracker.thresholds())
    fc = FeatureSelector(2)
    fc.cuts = torch.tensor([1.0, 2.0])
    for t in (tracker, resumed):  # and stays live after an update of the other kind
        t.update(fc)
        assert t.tensors()["threshold.total"] is t.total
    assert torch.equal(resumed.thresholds(), tracker.thresholds())


def _calibrate(mesh, spread):
    """Thresholds of all features after calibration, and L0 on this data rank's rows."""
    shard = shard_on(mesh, torch.float32)
    share = TOKENS // mesh.data.size
    x = activations(0, torch.float32)[mesh.data.rank * share : (mesh.data.rank + 1) * share]
    features = mesh.features(D_SAE)
    before = torch.linspace(1, 1 + spread, D_SAE)[features.start : features.stop].clone()
    before[0] = torch.inf
    thresholds = calibrated(shard, before.double(), x, K, mesh, D_SAE)
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
    assert torch.equal(calibrated(shard, thresholds, activations(0, torch.float32), K, MESH, D_SAE), thresholds)


def test_thresholds_of_nearly_nothing_are_calibrated():
    shard, x = shard_on(MESH, torch.float32), 100 * activations(0, torch.float32)
    for least in (0.0, 1e-40):
        thresholds = calibrated(shard, torch.full((D_SAE,), least).double(), x, K, MESH, D_SAE)
        with torch.no_grad():
            scores = (x - shard.b_dec) @ shard.W_enc.T + shard.b_enc
        assert scores.max() > 8  # over the smallest normal number that would be infinite
        assert K * TOKENS - 2 <= int((scores > thresholds).sum()) <= K * TOKENS


def test_quotas_of_less_than_one_match_a_batch_are_met_over_many_tokens():
    x = activations(0, torch.float32)
    shard = FeatureShard(x.shape[1], range(D_SAE), x.mean(0), seed=0)
    mean = 2 * D_SAE / len(x)
    quota_per_token = zipf_quotas(D_SAE, mean)  # two matches a feature on average, the rarest below one
    thresholds = quota_thresholds(shard, quota_per_token, mean, x, MESH, D_SAE)
    with torch.no_grad():
        scores = (x - shard.b_dec) @ shard.W_enc.T + shard.b_enc
    granted = QuotaCredit(quota_per_token, mean).pay(len(x))
    reached = (scores >= thresholds - 1e-5).sum(0)  # none where the threshold is nan
    assert (granted == 0).any()
    assert torch.equal(reached, granted.clamp(max=(scores > 0).sum(0)))
