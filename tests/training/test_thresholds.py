"""Thresholds tracked in training: running averages that are unbiased from the first step."""

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector, TokenSelector
from distsae.training.thresholds import ThresholdTracker


def test_the_first_step_is_not_averaged_with_zero():
    """In another library, without bias correction, the average is 39% of the true value after 50 steps."""
    tracker, selector = ThresholdTracker(3), MutualSelector(1)
    assert tracker.thresholds().tolist() == [torch.inf] * 3
    selector.cut = 2.5
    for _ in range(50):
        tracker.update(selector)
        torch.testing.assert_close(tracker.thresholds(), torch.full((3,), 2.5, dtype=torch.float64))


def test_it_is_a_threshold_after_one_step_and_never_negative():
    """In another library the threshold is -1 until step 1000, so that every feature fires."""
    mutual, by_feature = MutualSelector(1), FeatureSelector(2)
    for tracker, selector in ((ThresholdTracker(2), mutual), (ThresholdTracker(2), by_feature)):
        for step in range(1, 1200):
            mutual.cut, by_feature.cuts = 1e-3 / step, torch.tensor([1e-3 / step, torch.nan])
            tracker.update(selector)
            first, second = tracker.thresholds().tolist()
            assert 0.999e-3 / step < first < 1.001e-3
            assert second == (first if selector is mutual else torch.inf)  # never selected, so it does not fire


def test_the_average_follows_and_weighs_recent_steps_more():
    tracker, selector = ThresholdTracker(1), MutualSelector(1)
    cuts = [1.0, 4.0, 2.0]
    for cut in cuts:
        selector.cut = cut
        tracker.update(selector)
    weights = [0.99**2, 0.99, 1.0]
    expected = sum(w * c for w, c in zip(weights, cuts, strict=True)) / sum(weights)
    assert tracker.thresholds().item() == pytest.approx(expected, rel=1e-12)
    selector.cut = None  # a batch of rows that are all left out has no budget, and no cut
    tracker.update(selector)
    assert tracker.thresholds().item() == pytest.approx(expected, rel=1e-12)


def test_a_batch_with_too_few_positive_scores_has_the_cut_zero():
    tracker, selector = ThresholdTracker(1), MutualSelector(1)
    selector.cut, selector.shortfall = None, 3
    for _ in range(4):
        tracker.update(selector)
    assert tracker.thresholds().item() == 0.0
    selector.cut, selector.shortfall = 2.0, 0
    tracker.update(selector)
    assert 0.3 < tracker.thresholds().item() < 0.5


def test_feature_choice_has_an_average_for_each_feature():
    tracker, selector = ThresholdTracker(3), FeatureSelector(3)
    selector.cuts = torch.tensor([1.0, torch.nan, 3.0])
    tracker.update(selector)
    selector.cuts = torch.tensor([2.0, torch.nan, torch.nan])
    tracker.update(selector)
    first, never, third = tracker.thresholds().tolist()
    assert first == pytest.approx((0.99 * 1 + 2) / 1.99)
    assert never == torch.inf
    assert third == pytest.approx(3.0)


def test_token_choice_changes_nothing_and_restart_drops_all_averages():
    tracker, selector = ThresholdTracker(2), MutualSelector(1)
    tracker.update(TokenSelector(3))
    assert tracker.thresholds().tolist() == [torch.inf] * 2
    selector.cut = 1.0
    tracker.update(selector)
    tracker.restart()
    assert tracker.thresholds().tolist() == [torch.inf] * 2


def test_tensors_are_live():
    tracker, selector = ThresholdTracker(2), MutualSelector(1)
    selector.cut = 1.5
    tracker.update(selector)
    resumed = ThresholdTracker(2)
    for name, tensor in resumed.tensors().items():
        tensor.copy_(tracker.tensors()[name])
    assert torch.equal(resumed.thresholds(), tracker.thresholds())
    fc = FeatureSelector(2)
    fc.cuts = torch.tensor([1.0, 2.0])
    for updated in (tracker, resumed):  # they stay live after an update by the other rule
        updated.update(fc)
        assert updated.tensors()["threshold.total"] is updated.total
    assert torch.equal(resumed.thresholds(), tracker.thresholds())
