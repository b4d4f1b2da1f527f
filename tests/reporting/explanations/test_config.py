import pytest

from distsae.errors import WrongInput
from tests.reporting.explanations.samples import config


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"endpoint": None}, "`endpoint` must be given, since nothing is sent without it"),
        ({"endpoint": "localhost:8000"}, r"`endpoint` \(=localhost:8000\) must be an http or https URL"),
        ({"endpoint": "ftp://host/v1"}, "must be an http or https URL"),
        ({"endpoint": "http://[::1/v1"}, "must be an http or https URL"),
        ({"endpoint": "http://host:99999/v1"}, "must be an http or https URL"),
        ({"endpoint": "http://host/v1\nX: y"}, "must be an http or https URL"),
        ({"model": None}, "`model` must be given with `endpoint`"),
        ({"max_features": 0}, r"`max_features` \(=0\) must be at least 1"),
        ({"concurrency": 0}, r"`concurrency` \(=0\)"),
        ({"retries": -1}, r"`retries` \(=-1\)"),
        ({"timeout": float("nan")}, r"`timeout` \(=nan\)"),
        ({"max_density": 0.0}, r"`max_density` \(=0.0\)"),
        ({"temperature": -1.0}, r"`temperature` \(=-1.0\)"),
        ({"max_tokens": 0}, r"`max_tokens` \(=0\)"),
        ({"features": (3, -1)}, r"`features` \(=\[3, -1\]\) must be numbers from 0"),
        ({"run": "s3://bucket/run"}, "must be a path in a file system"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, error):
    with pytest.raises(WrongInput, match=error):
        config(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "https://me:sk-secret@host/v1"},
        {"endpoint": "https://host/v1?key=sk-secret"},
        {"key_env": "sk-secret"},
    ],
)
def test_what_may_be_a_secret_is_refused_and_not_shown(changes):
    with pytest.raises(WrongInput) as refused:
        config(**changes)
    assert "secret" not in str(refused.value)


def test_the_url():
    assert config(endpoint="http://host:1/v1/").url == "http://host:1/v1/chat/completions"
    assert config(endpoint="http://host/v1/chat/completions").url == "http://host/v1/chat/completions"


def test_a_dry_run_needs_neither_endpoint_nor_model():
    assert config(endpoint=None, model=None, dry_run=True).endpoint is None


def test_what_decides_results():
    same = {"endpoint": "http://other/v1", "concurrency": 1, "retries": 0, "timeout": 1.0, "key_env": "A", "out": "x"}
    assert config(**same, features=(1,), max_features=3).deciding() == config().deciding()
    for name, value in {"model": "b", "seed": 1, "wrong_marks": "activating", "temperature": None}.items():
        assert config(**{name: value}).deciding() != config().deciding()


def test_what_a_store_is_needed_for():
    for name, value in (("sae", "runs/mc"), ("device", "cuda")):
        with pytest.raises(
            WrongInput, match=rf"`{name}` \(={value}\) must be given with `store`; got none; give --store"
        ):
            config(**{name: value})
    assert "checked_on_store" not in config().deciding()
    for settings in (config(store="a"), config(store="b", sae="c", device="cuda:1")):
        assert settings.deciding() == config().deciding() | {"checked_on_store": True}
