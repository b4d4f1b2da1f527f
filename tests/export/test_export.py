"""Exports from a run's folder: file to file, in little memory, with the run's figures, and nothing half-written."""

import json
import subprocess
import sys

import pytest
import torch

from distsae.errors import TornData, WrongInput
from distsae.export import ExportConfig
from distsae.export.export import export
from distsae.model import SAE
from tests.export.test_figures import EVALUATION
from tests.model.formats.samples import RULES, config, files_in, refuse_differences, sample_sae

TARGETS = {"token_choice": ("saelens", "dictionary_learning", "sparsify", "safetensors")}


@pytest.fixture
def run(tmp_path):
    sample_sae("mutual_choice").save(tmp_path / "run" / "sae")
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(EVALUATION))
    return tmp_path / "run"


@pytest.mark.parametrize("rule", RULES)
def test_from_the_file_it_is_as_from_memory(tmp_path, rule):
    sae = sample_sae(rule)
    sae.save(tmp_path / "sae")
    for to in TARGETS.get(rule, ("saelens", "dictionary_learning", "safetensors")):
        out = export(ExportConfig(run=str(tmp_path / "sae"), to=to, out=str(tmp_path / to)))
        assert out == str(tmp_path / to)
        refuse_differences(SAE.load(out), sae)
        sae.export(to, tmp_path / f"{to}-from-memory")
        for name in files_in(tmp_path / to):
            here, there = tmp_path / to / name, tmp_path / f"{to}-from-memory" / name
            assert name == "ae.pt" or here.read_bytes() == there.read_bytes(), name


def test_the_run_gives_the_figures_and_the_user_the_model(run, tmp_path, capsys):
    export(ExportConfig(run=str(run), to="saelens", out=str(tmp_path / "o"), model="user/model", license="mit"))
    card = (tmp_path / "o" / "README.md").read_text()
    assert "| FVU (fraction of variance unexplained) | 0.2500 [0.2000, 0.3000] | 0.2600 |" in card
    assert "user/model" in card
    assert json.loads((tmp_path / "o" / "cfg.json").read_text())["metadata"]["model_name"] == "user/model"
    assert "export: " in capsys.readouterr().err


def test_an_sae_of_another_tool_is_exported_again(tmp_path):
    sae = sample_sae("token_choice")
    sae.export("sparsify", tmp_path / "layers.3")
    export(ExportConfig(run=str(tmp_path / "layers.3"), to="saelens", out=str(tmp_path / "o")))
    refuse_differences(SAE.load(tmp_path / "o"), sae)


def test_what_is_refused_leaves_nothing(run, tmp_path):
    sample_sae(normalise="token").save(tmp_path / "token")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    before = files_in(tmp_path)
    cases = [
        ({"run": str(tmp_path / "nowhere"), "to": "saelens"}, "`run` .* must be an SAE folder or a finished run"),
        ({"to": "sparsify"}, "which needs thresholds"),
        ({"run": str(tmp_path / "token"), "to": "dictionary_learning"}, "one that normalises each row"),
        ({"to": "saelens", "out": str(tmp_path / "full")}, "got one with files in it"),
    ]
    for keys, words in cases:
        with pytest.raises(WrongInput, match=words):
            export(ExportConfig(**{"run": str(run), "out": str(tmp_path / "o"), **keys}))
    assert files_in(tmp_path) == before


def test_damaged_weights_are_named_before_anything_is_written(run, tmp_path):
    file = run / "sae" / "sae.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 64
    file.write_bytes(content)
    with pytest.raises(TornData, match=r"sae\.safetensors is damaged"):
        export(ExportConfig(run=str(run), to="saelens", out=str(tmp_path / "o")))
    assert not (tmp_path / "o").exists()


def test_without_a_network_the_hub_is_refused_before_anything_is_written(run):
    with pytest.raises(WrongInput, match=r"`repo` \(=user/name\) must be a repository that you may write to"):
        export(ExportConfig(run=str(run), to="hub", repo="user/name"))


MEMORY = """
import re, sys
from pathlib import Path
from distsae.export import ExportConfig
from distsae.export.export import export
import torch

def peak():  # what getrusage has is inherited from the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

torch.zeros(8) @ torch.zeros(8)
before = peak()
export(ExportConfig(run=sys.argv[1], to=sys.argv[2], out=sys.argv[3]))
print((peak() - before) >> 10)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("to", ["saelens", "dictionary_learning", "sparsify", "safetensors"])
def test_a_wide_sae_needs_the_memory_of_a_few_blocks(tmp_path, to):
    """Two matrices of 512 MiB each."""
    d_in, d_sae = 1024, 1 << 17
    cfg = config("token_choice", d_in=d_in, d_sae=d_sae)
    W = torch.randn(d_in, d_sae)
    SAE(cfg, W_enc=W, W_dec=W.t(), b_enc=torch.randn(d_sae), b_dec=torch.randn(d_in)).save(tmp_path / "sae")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "sae"), to, str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400
    assert torch.equal(SAE.load(tmp_path / "o").W_enc, W)
