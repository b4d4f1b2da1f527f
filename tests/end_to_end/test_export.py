"""Out and in as a user types it: a run is trained, exported, imported, evaluated in each form, and begun from."""

import json
import shutil

import pytest
import torch

from distsae import SAE
from distsae.cli.main import main
from tests.end_to_end.runs import arguments


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    short = {"steps": 20, "mesh.feature": 1, "finetune_fc_from": "null", "quota_refresh": "null", "normalise": "centre"}
    assert main(arguments(tiny_store, out, **short, allocation="mutual_choice")) == 0
    return out


def _evaluated(sae, store, out):
    assert main(["evaluate", str(sae), "--store", str(store), "--max_tokens", "600", "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.parametrize("to", ["saelens", "dictionary_learning"])
def test_an_sae_is_the_same_after_every_door(run, tiny_store, tmp_path, to):
    expected = _evaluated(run, tiny_store, tmp_path / "expected.json")
    assert main(["export", str(run), "--to", to, "--out", str(tmp_path / "there"), "--license", "mit"]) == 0
    assert main(["import", str(tmp_path / "there"), "--out", str(tmp_path / "back")]) == 0
    trained, back = SAE.load(run), SAE.load(tmp_path / "back")
    assert trained.cfg == back.cfg
    assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in trained.state_dict().items())
    found = _evaluated(tmp_path / "back", tiny_store, tmp_path / "back.json")
    for name in ("fvu", "l0", "ce_spliced", "frozen_rule"):
        assert found[name] == expected[name], name
    # From the tool's own files the matrices may lie the other way round in memory, which changes the last bits of sums.
    found = _evaluated(tmp_path / "there", tiny_store, tmp_path / "there.json")
    for name in ("fvu", "l0", "ce_spliced"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
        assert found["frozen_rule"][name] == pytest.approx(expected["frozen_rule"][name], rel=1e-5), name


def test_a_run_begins_from_an_sae_of_another_tool(run, tiny_store, tmp_path):
    assert main(["export", str(run), "--to", "saelens", "--out", str(tmp_path / "there")]) == 0
    keys = {"steps": 2, "mesh.feature": 1, "finetune_fc_from": "null", "quota_refresh": "null", "normalise": "centre"}
    assert main(arguments(tiny_store, tmp_path / "next", **keys, init=tmp_path / "there")) == 0
    assert SAE.load(tmp_path / "next").cfg.init_scale is None


def test_a_relu_sae_is_measured_and_evaluated(run, tiny_store, tmp_path, capsys):
    """One of which the files say neither budget nor hook, as most published ones do not."""
    assert main(["export", str(run), "--to", "saelens", "--out", str(tmp_path / "relu")]) == 0
    file = tmp_path / "relu" / "cfg.json"
    cfg = json.loads(file.read_text()) | {"architecture": "standard", "metadata": {"sae_lens_version": "6.0.0"}}
    file.write_text(json.dumps(cfg))
    assert main(["evaluate", str(tmp_path / "relu"), "--store", str(tiny_store)]) == 2
    assert "`k` must be given" in capsys.readouterr().err
    file.write_text(json.dumps(cfg | {"k": 4}))
    assert main(["evaluate", str(tmp_path / "relu"), "--store", str(tiny_store)]) == 2
    assert "must be an SAE whose hook is known" in capsys.readouterr().err
    file.write_text(json.dumps(cfg))
    keys = ["--hook", "blocks.0.resid_post", "--store", str(tiny_store), "--out", str(tmp_path / "in")]
    assert main(["import", str(tmp_path / "relu"), *keys]) == 0
    found = _evaluated(tmp_path / "in", tiny_store, tmp_path / "in.json")
    assert found["frozen_rule"]["l0"] == pytest.approx(found["k"], rel=0.1)
    shutil.rmtree(tmp_path / "in")
