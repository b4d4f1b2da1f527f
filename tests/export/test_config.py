"""What does not go together is refused before anything is read."""

import pytest

from distsae.errors import WrongInput
from distsae.export import ExportConfig, ImportConfig


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"to": "saelens"}, r"`out` must be given with `to` \(=saelens\)"),
        ({"to": "hub"}, r"`repo` must be given with `to` \(=hub\)"),
        ({"to": "hub", "repo": "name"}, r"`repo` \(=name\) must be the name of a repository"),
        ({"to": "saelens", "out": "o", "private": True}, r"`private` \(=True\) must be given with `repo`"),
        ({"to": "saelens", "out": "o", "path_in_repo": "a"}, r"`path_in_repo` \(=a\) must be given with `repo`"),
        ({"to": "hub", "repo": "a/b", "path_in_repo": "../c"}, r"`path_in_repo` \(=../c\) must be a relative path"),
        ({"to": "hub", "repo": "a/b", "path_in_repo": "/c"}, r"`path_in_repo` \(=/c\) must be a relative path"),
        ({"to": "saelens", "out": "o", "license": "mit licence"}, r"`license` .* must be the identifier of a licence"),
        ({"to": "saelens", "out": "s3://b/o"}, r"`out` \(=s3://b/o\) must be a path in a file system"),
    ],
)
def test_exports_that_are_refused(keys, words):
    with pytest.raises(WrongInput, match=words):
        ExportConfig(run="r", **keys)


def test_an_export_that_is_fine(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = ExportConfig(run="~/r", to="hub", repo="a/b", path_in_repo="c/d.e", license="apache-2.0", private=True)
    assert config.run == "/home/me/r"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"k": 0}, r"`k` \(=0\) must be at least 1"),
        ({"context_size": 0}, r"`context_size` \(=0\) must be at least 1"),
        ({"k": 3, "store": "s"}, r"`store` \(=s\) must be left out with `k` \(=3\)"),
        ({"sae": "s3://bucket/x"}, r"`sae` \(=s3://bucket/x\) must be a path"),
    ],
)
def test_imports_that_are_refused(keys, words):
    with pytest.raises(WrongInput, match=words):
        ImportConfig(**{"sae": "a", "out": "b", **keys})
