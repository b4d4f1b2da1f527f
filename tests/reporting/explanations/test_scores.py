import random

import pytest

from distsae.reporting.explanations.scores import JudgementCounts


def test_by_hand():
    pairs = [(True, True)] * 3 + [(True, False)] + [(False, False)] * 2 + [(False, True)] * 2 + [(True, None)]
    counts = JudgementCounts.of(pairs)
    assert counts.balanced_accuracy == (3 / 4 + 2 / 4) / 2
    assert counts.f1 == 6 / (6 + 2 + 1)
    assert counts.unparsed == 1
    assert counts.to_json()["true_positives"] == 3


def test_it_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = random.Random(0)
    for _ in range(50):
        pairs = [(True, True), (False, False)] + [(draw.random() < 0.3, draw.random() < 0.6) for _ in range(20)]
        counts, (right, judged) = JudgementCounts.of(pairs), zip(*pairs, strict=True)
        assert counts.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(right, judged))
        assert counts.f1 == pytest.approx(metrics.f1_score(right, judged))


def test_without_one_of_each_it_is_not_defined():
    assert JudgementCounts().balanced_accuracy is None
    assert JudgementCounts().f1 is None
    assert JudgementCounts.of([(True, True), (False, None)]).balanced_accuracy is None
    assert JudgementCounts.of([(False, True)]).f1 is None
    assert JudgementCounts.of([(True, False), (False, True)]).f1 == 0
