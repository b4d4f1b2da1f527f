import json
import queue
import signal

import pytest

from distsae.errors import WrongInput
from distsae.reporting.explanations.chat_endpoint import EndpointFailed
from distsae.reporting.explanations.explain import _keep_the_rest, explain, plan_of
from distsae.reporting.explanations.result_folder import EXPLANATIONS, ResultFolder
from tests.reporting.explanations.chat_server import Fault, always, coin, inverted, perfect, serving
from tests.reporting.explanations.samples import config, feature_page, own_pages, write_pages
from tests.reporting.explanations.test_result_folder import result


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return own_pages(tmp_path_factory.mktemp("pages"), 40)


def lines_of(out):
    return {line["feature"]: line for line in map(json.loads, (out / EXPLANATIONS).read_text().splitlines())}


def _explained(server, pages, out, **changes):
    made = {"endpoint": server.endpoint, "out": str(out)} | changes
    return explain(plan_of(config(pages, **made)), pause=0.01)


@pytest.mark.parametrize(("rule", "score"), [(perfect, 1.0), (inverted, 0.0), (always, 0.5)])
@pytest.mark.parametrize("marks", ["non_activating", "activating"])
def test_known_scores(pages, tmp_path, rule, score, marks):
    with serving(rule) as server:
        summary = _explained(server, pages, tmp_path, max_features=6, wrong_marks=marks)
    for name in ("detection", "fuzzing"):
        assert summary[name]["balanced_accuracy"] == score
        assert summary[name]["balanced_accuracy_ci95"] == [score, score]
    assert json.loads((tmp_path / "explanations.json").read_text()) == summary
    assert all(line["explanation"] == f"the word word{feature}" for feature, line in lines_of(tmp_path).items())
    assert len(server.requests) == 6 * 9


def test_a_coin_gets_about_a_half(pages, tmp_path):
    with serving(coin) as server:
        summary = _explained(server, pages, tmp_path)
    assert summary["features"] == 40
    for name in ("detection", "fuzzing"):  # 640 judgements: a standard error of 0.02
        assert summary[name]["balanced_accuracy"] == pytest.approx(0.5, abs=0.08)


def test_the_same_whatever_the_concurrency_and_in_parts(pages, tmp_path):
    with serving(coin) as server:
        _explained(server, pages, tmp_path / "a", max_features=8, concurrency=1)
        _explained(server, pages, tmp_path / "b", max_features=3)
        summary = _explained(server, pages, tmp_path / "b", max_features=8, concurrency=7)
        assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
        asked = len(server.requests)
        assert _explained(server, pages, tmp_path / "b", max_features=8) == summary
        assert len(server.requests) == asked == 2 * 8 * 9
        one = min(lines_of(tmp_path / "a"))
        _explained(server, pages, tmp_path / "c", features=(one,))
        assert lines_of(tmp_path / "c")[one] == lines_of(tmp_path / "a")[one]


def test_what_was_ready_when_another_failed_is_kept(tmp_path):
    with ResultFolder(tmp_path, {}) as folder:
        done = queue.SimpleQueue()
        for one in (result(1), EndpointFailed("x"), result(2), signal.SIGTERM):
            done.put(one)
        _keep_the_rest(done, folder)
    assert set(lines_of(tmp_path)) == {1, 2}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_bounded_and_used(pages, tmp_path, concurrency):
    with serving(seconds=0.02) as server:
        _explained(server, pages, tmp_path, max_features=9, concurrency=concurrency)
    assert server.most == concurrency


def test_faults_on_the_way_change_nothing(pages, tmp_path):
    faults = [Fault(429), Fault(500), Fault(200, b"<html>"), Fault(200, b'{"cho', cut=True), Fault(silent=0.7)]
    with serving() as server:
        _explained(server, pages, tmp_path / "a", max_features=6)
    with serving(fault=lambda n: faults[n // 7 % 5] if n % 7 == 3 else None) as server:
        _explained(server, pages, tmp_path / "b", max_features=6, timeout=0.5, retries=8)
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
    assert len(server.requests) > 54


def test_a_broken_endpoint_keeps_what_was_done(pages, tmp_path):
    fault = {number: Fault(502) for number in range(30, 200)}.get
    with serving(fault=fault) as server, pytest.raises(EndpointFailed):
        _explained(server, pages, tmp_path, max_features=8, retries=1, concurrency=2)
    done = lines_of(tmp_path)
    assert 1 <= len(done) < 8
    with serving() as server:
        summary = _explained(server, pages, tmp_path, max_features=8)
    assert len(server.requests) == (8 - len(done)) * 9
    assert summary["features"] == 8


def test_garbage_is_counted(pages, tmp_path):
    def rule(system, user):
        return perfect(system, user) if "EXPLANATION:" in system or "the word word3\n" in user else "I cannot say."

    with serving(rule) as server:
        summary = _explained(server, pages, tmp_path, features=(3, 4))
    assert summary["detection"]["unparsed"] >= 16
    assert summary["detection"]["balanced_accuracy"] == 1.0
    assert lines_of(tmp_path)[4]["detection"]["balanced_accuracy"] is None


def test_other_settings_in_the_same_folder(pages, tmp_path):
    with serving() as server:
        _explained(server, pages, tmp_path, max_features=1)
        asked = len(server.requests)
        for changes, words in (({"model": "b"}, "model a-model, not b"), ({"seed": 5}, "seed 0, not 5")):
            with pytest.raises(WrongInput, match=words):
                _explained(server, pages, tmp_path, **changes)
    assert len(server.requests) == asked


def test_features_with_few_contexts_are_left_out(tmp_path):
    pages = write_pages(tmp_path / "p", [feature_page(f, contexts=3 if f == 2 else 18) for f in range(6)])
    with serving() as server:
        summary = _explained(server, pages, tmp_path / "out")
    assert summary["left_out"] == {"fewer than 4 contexts on their pages": 1}
    assert summary["features"] == 5


def test_a_dry_run_sends_nothing_and_writes_nothing(pages, tmp_path):
    with serving() as server:
        plan = plan_of(config(pages, endpoint=server.endpoint, out=str(tmp_path / "o"), max_features=2, dry_run=True))
        text = plan.dry_run()
    assert server.requests == []
    assert not (tmp_path / "o").exists()
    assert text.splitlines()[0].startswith(f"sends text of the corpus to {server.endpoint}/chat/completions (a-model")
    assert "2 features, 18 requests" in text
    assert text.count("[system]") == text.count("[user]") == 3


@pytest.mark.parametrize("value", [None, " ", "two\nlines", "schlüssel"])
def test_a_key_that_is_none(pages, tmp_path, monkeypatch, value):
    monkeypatch.delenv("A_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("A_KEY", value)
    with serving() as server, pytest.raises(WrongInput, match=r"`key_env` \(=A_KEY\) must name") as error:
        _explained(server, pages, tmp_path / "o", key_env="A_KEY")
    assert "schl" not in str(error.value)
    assert not (tmp_path / "o").exists()
    assert server.requests == []
