import pytest

from distsae.reporting.explanations.scores import JudgementCounts
from distsae.reporting.explanations.summary import summary_lines, summary_of
from tests.reporting.explanations.test_result_folder import result


def _judged(rightly, of=4):
    return JudgementCounts(
        true_positives=rightly, false_negatives=of - rightly, true_negatives=rightly, false_positives=of - rightly
    )


def test_means_over_features():
    results = [result(f, detection=_judged(f % 5), fuzzing=_judged(4)) for f in range(50)]
    results.append(result(50, explanation=None, problem="the answer was empty", detection=JudgementCounts(unparsed=8)))
    summary = summary_of(results, {"few": 3}, {"model": "m"}, seed=0)
    assert (summary["features"], summary["explained"], summary["problems"]) == (51, 50, 1)
    detection = summary["detection"]
    assert detection["balanced_accuracy"] == pytest.approx(0.5)
    assert detection["balanced_accuracy_features"] == 50
    low, high = detection["balanced_accuracy_ci95"]
    assert high - low == pytest.approx(2 * 1.96 * 0.3536 / 50**0.5, rel=0.1)  # the standard error of a mean
    assert low < 0.5 < high
    assert (detection["true_positives"], detection["unparsed"]) == (100, 8)
    assert summary["fuzzing"]["balanced_accuracy_ci95"] == [1.0, 1.0]
    assert summary == summary_of(results[::-1], {"few": 3}, {"model": "m"}, seed=0)


def test_lines():
    results = [result(f, detection=_judged(2 * f), fuzzing=JudgementCounts(unparsed=8)) for f in range(3)]
    lines = summary_lines(summary_of(results, {"too few contexts": 1200}, {}, seed=0))
    assert lines[1].split() == [
        "detection",
        "0.500",
        "[0.000,",
        "1.000]",
        lines[1].split()[4],
        *lines[1].split()[5:7],
        "24",
        "0",
    ]
    assert lines[2].split() == ["fuzzing", "-", "-", "0", "24"]
    assert lines[3:] == [
        "3 of 3 features have an explanation",
        "of 12 non-activating contexts the features may fire in 1.5, by their densities",
        "1,200 features were left out: too few contexts",
    ]


def test_a_line_for_contexts_that_were_looked_at():
    lines = summary_lines(summary_of([result(1, detection=_judged(3))], {}, {"checked_on_store": True}, seed=0))
    assert lines[-1] == "of 4 non-activating contexts the features fire in none, by the store"


def test_none_and_one():
    assert summary_of([], {}, {}, 0)["detection"]["balanced_accuracy"] is None
    alone = summary_of([result(1, detection=_judged(3))], {}, {}, 0)["detection"]
    assert (alone["balanced_accuracy"], alone["balanced_accuracy_ci95"]) == (0.75, None)
    assert " 0.750 " in summary_lines(summary_of([result(1, detection=_judged(3))], {}, {}, 0))[1]
