"""A name of the Hub does in every command what a folder does; nothing is written beside it."""

import json

import pytest
import torch

from distsae import SAE
from distsae.cli.main import main
from tests.end_to_end.runs import arguments

NAME = "user/saes/layer-1"


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    short = {"steps": 10, "mesh.feature": 1, "finetune_fc_from": "null", "quota_refresh": "null"}
    assert main(arguments(tiny_store, out, **short, allocation="mutual_choice")) == 0
    return out


@pytest.fixture
def cached(run, tmp_path, monkeypatch):
    """The run's SAE as what was fetched earlier: in the cache, in a folder of a repository."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--user--saes"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c" * 40)
    SAE.load(run).save(repository / "snapshots" / ("c" * 40) / "layer-1")
    monkeypatch.chdir(tmp_path)
    return repository


def _files(folder):
    return sorted(path for path in folder.rglob("*"))


def test_every_command_takes_a_name(cached, run, tiny_store, tmp_path, capsys):
    before = _files(cached)
    store = ["--store", str(tiny_store)]
    found = []
    for sae in (NAME, str(run)):
        out = tmp_path / f"{len(found)}.json"
        assert main(["evaluate", sae, *store, "--max_tokens", "600", "--out", str(out)]) == 0
        found.append(json.loads(out.read_text()))
    assert found[0].pop("sae") == NAME
    found[1].pop("sae")
    assert {**found[0], "seconds": 0} == {**found[1], "seconds": 0}
    assert main(["features", NAME, *store, "--out", "pages", "--max_rows", "600"]) == 0
    assert "layer-1" in (tmp_path / "pages" / "index.html").read_text()
    assert main(["export", NAME, "--to", "saelens", "--out", "exported"]) == 0
    assert main(["import", NAME, "--out", "imported"]) == 0
    for folder in ("exported", "imported"):
        assert torch.equal(SAE.load(folder).W_dec, SAE.load(run).W_dec)
    keys = {"steps": 1, "mesh.feature": 1, "finetune_fc_from": "null", "quota_refresh": "null"}
    assert main(arguments(tiny_store, tmp_path / "next", **keys, init=NAME)) == 0
    assert _files(cached) == before
    capsys.readouterr()


@pytest.mark.parametrize("command", ["evaluate", "features"])
def test_nothing_is_written_into_the_cache(cached, tiny_store, capsys, command):
    before = _files(cached)
    assert main([command, NAME, "--store", str(tiny_store)]) == 2
    said = capsys.readouterr().err
    assert f"`out` must be given with `run` (={NAME}), an SAE of the Hub" in said
    assert said.endswith("give --out\n")
    assert _files(cached) == before


@pytest.mark.parametrize("command", ["evaluate", "features", "export", "import"])
def test_a_name_of_nothing(tiny_store, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    more = {"export": ["--to", "saelens", "--out", "o"], "import": ["--out", "o"]}.get(command, ["--store", tiny_store])
    assert main([command, "runs/mc", *map(str, more)]) == 2
    option = "sae" if command == "import" else "run"
    assert f"`{option}` (=runs/mc) must be a folder, or an SAE on the Hugging Face Hub" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
