"""A path that a user gives for anything but a store: `~`, `file://`, and URLs, which must not become folders."""

from pathlib import Path

import pytest

from distsae import SAE
from distsae.cli.main import main
from distsae.errors import WrongInput
from distsae.store.mounted_path import mounted_path
from distsae.training import TrainConfig
from tests.model.test_sae import _sae

URLS = ["s3://bucket/run", "gs://bucket/run", "az://box/run", "S3://bucket/run", "s3:/bucket", "hf://a/b"]


@pytest.mark.parametrize("url", URLS)
def test_urls_are_refused(url):
    with pytest.raises(WrongInput, match=r"`out` \(=.*\) must be a path in a file system of this machine; got a URL"):
        mounted_path(url, "out")
    with pytest.raises(WrongInput, match="must be a path in a file system"):
        mounted_path(Path(url))
    with pytest.raises(WrongInput, match="got a URL"):
        mounted_path("file://elsewhere/run")


def test_paths_of_this_machine(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    assert mounted_path("~/runs", "out") == mounted_path(Path("~/runs")) == Path("/somebody/runs")
    assert mounted_path("file:///data/run") == mounted_path("file://localhost/data/run") == Path("/data/run")
    assert mounted_path("C:/run") == Path("C:/run")
    assert mounted_path("a:b/c") == Path("a:b/c")
    with pytest.raises(WrongInput, match="write it out"):
        mounted_path("~nobody-of-that-name/run", "out")


@pytest.mark.parametrize("url", ["s3://bucket/x.json", "gs://bucket/x.json", "az://box/x.json"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("train --store store --out URL", "out"),
        ("train --store store --out run --init URL", "init"),
        ("train --store store --out run --resume URL", "resume"),
        ("evaluate run --store store --out URL", "out"),
        ("evaluate URL --store store", "run"),
        ("report run --out URL", "out"),
        ("report URL", "runs"),
        ("demo --out URL", "out"),
        ("study --store store --out URL", "out"),
        ("study --store store --out study --peers_python URL", "peers_python"),
        ("checkpoint list URL", "run"),
        ("checkpoint verify URL", "run"),
    ],
)
def test_every_command_refuses_at_once(command, option, url, tiny_store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").symlink_to(tiny_store)
    assert main(command.replace("URL", url).split()) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"distsae: error: `{option}` (={url}) must be a path in a file system of this machine")
    assert message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("spelt", ["~/run", "file://HOME/run"])
def test_a_run_goes_where_it_is_said(spelt, tiny_store, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(store=str(tiny_store), out=spelt.replace("HOME", str(tmp_path)))
    assert config.out == str(tmp_path / "run")


def test_an_sae_is_saved_and_loaded_where_it_is_said(tmp_path, monkeypatch):
    sae = _sae("token_choice")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sae.save("~/here")
    assert SAE.load(f"file://{tmp_path}/here").cfg == sae.cfg
    with pytest.raises(WrongInput, match="got a URL"):
        sae.save("s3://bucket/sae")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
