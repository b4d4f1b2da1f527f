import pytest

from distsae.reporting.explanations.chat_endpoint import RequestRefused
from distsae.reporting.explanations.examples import OtherContexts, examples_of
from distsae.reporting.explanations.feature_job import explain_feature, prompts_of
from distsae.reporting.explanations.page_tables import PageTables
from tests.reporting.explanations.chat_server import always, inverted, perfect
from tests.reporting.explanations.samples import config, own_pages


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    found = list(PageTables(own_pages(tmp_path_factory.mktemp("pages"))).read(range(12)))
    return examples_of(found[4], OtherContexts(found), config())


def _asked(rule, log=None):
    def ask(messages):
        if log is not None:
            log.append(messages)
        return rule(messages[0]["content"], messages[1]["content"])

    return ask


@pytest.mark.parametrize(("rule", "score", "f1"), [(perfect, 1.0, 1.0), (inverted, 0.0, 0.0), (always, 0.5, 2 / 3)])
def test_scores_are_those_of_the_rule(examples, rule, score, f1):
    result = explain_feature(examples, _asked(rule), config())
    assert result.explanation == "the word word4"
    for counts in (result.detection, result.fuzzing):
        assert (counts.balanced_accuracy, counts.f1, counts.unparsed) == (score, f1, 0)
    assert (result.feature, result.model, result.seed, result.problem) == (4, "a-model", 0, None)


def test_what_is_asked_is_what_was_announced(examples):
    log = []
    explain_feature(examples, _asked(perfect, log), config(examples_per_request=3))
    announced = list(prompts_of(examples, config(examples_per_request=3)))
    assert len(announced) == len(log) == 1 + 6 + 6
    assert announced[0] == log[0]
    assert [m[0] for m in announced] == [m[0] for m in log]


def test_what_was_shown_is_not_asked(examples):
    log = []
    explain_feature(examples, _asked(perfect, log), config())
    shown = {"".join(window.tokens) for window in examples.shown}
    asked = {"".join(example.tokens) for example in (*examples.detection, *examples.fuzzing)}
    assert not shown & asked


def test_answers_without_form_are_counted(examples):
    def rule(system, user):
        return perfect(system, user) if "EXPLANATION:" in system else "hmm"

    result = explain_feature(examples, _asked(rule), config())
    assert result.detection.unparsed == result.fuzzing.unparsed == 16
    assert result.detection.balanced_accuracy is None
    result = explain_feature(examples, _asked(lambda system, user: " "), config())
    assert (result.explanation, result.problem, result.detection.unparsed) == (None, "the answer was empty", 0)


def test_a_refused_request_is_a_problem_of_the_feature(examples):
    def ask(messages):
        raise RequestRefused("status 400: too long")

    assert explain_feature(examples, ask, config()).problem == "a request was refused: status 400: too long"
