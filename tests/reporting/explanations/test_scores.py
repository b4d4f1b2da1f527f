import numpy as np
import pytest

from distsae.reporting.explanations.scores import JudgementCounts


def test_by_hand():
    pairs = [(True, True)] * 3 + [(True, False)] + [(False, False)] * 2 + [(False, True)] * 2 + [(True, None)]
    counts = JudgementCounts.of(pairs)
    assert counts.balanced_accuracy == (3 / 4 + 2 / 4) / 2
    assert counts.f1 == 6 / (6 + 2 + 1)
    assert counts.unparsed == 1
    assert counts.to_json()["true_positives"] == 3


def test_it_is_what_its_definition_says():
    """Balanced accuracy is the mean of both recalls, F1 the harmonic mean of precision and recall."""
    draw = np.random.default_rng(0)
    for _ in range(50):
        right = np.array([True, False, *(draw.random(20) < 0.3)])
        judged = np.array([True, False, *(draw.random(20) < 0.6)])
        counts = JudgementCounts.of(zip(right.tolist(), judged.tolist(), strict=True))
        recall, precision = judged[right].mean(), right[judged].mean()
        assert counts.balanced_accuracy == pytest.approx((recall + (~judged[~right]).mean()) / 2)
        assert counts.f1 == pytest.approx(2 / (1 / precision + 1 / recall))


def test_without_one_of_each_it_is_not_defined():
    assert JudgementCounts().balanced_accuracy is None
    assert JudgementCounts().f1 is None
    assert JudgementCounts.of([(True, True), (False, None)]).balanced_accuracy is None
    assert JudgementCounts.of([(False, True)]).f1 is None
    assert JudgementCounts.of([(True, False), (False, True)]).f1 == 0
