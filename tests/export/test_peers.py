"""Exported SAEs in the hands of the tools themselves, and SAEs that the tools have trained and saved, here.

DISTSAE_PEERS_PYTHON=PEERS/bin/python bash launch/test.sh -m heavy tests/export/test_peers.py
"""

import os

import pytest
import torch

from distsae.model import SAE
from tests.benchmarks.exported_saes import THEIRS
from tests.export.loading_back import agreement, fvu, tools_view, train_theirs
from tests.model.formats.samples import D_SAE, RULES, refuse_differences, rows, sample_sae

PYTHON = os.environ.get("DISTSAE_PEERS_PYTHON")
pytestmark = [pytest.mark.heavy, pytest.mark.skipif(PYTHON is None, reason="DISTSAE_PEERS_PYTHON is not set")]

CASES = [
    *(("saelens", rule, normalise) for rule in RULES for normalise in ("none", "token")),
    *(("dictionary_learning", rule, "none") for rule in RULES),
    ("sparsify", "token_choice", "none"),
]


@pytest.mark.parametrize(("tool", "rule", "normalise"), CASES)
def test_ours_in_their_hands(tmp_path, tool, rule, normalise):
    sae, x = sample_sae(rule, normalise=normalise), rows(512)
    sae.export(tool, tmp_path / "sae")
    view = tools_view(PYTHON, tool, tmp_path / "sae", x, D_SAE, tmp_path)
    found = agreement(sae, x, view, normalised_acts=normalise == "token")
    assert found.matches > 500
    assert found.differing == 0
    assert found.x_hat < 1e-5
    assert found.acts < 1e-5
    refuse_differences(SAE.load(tmp_path / "sae"), sae)


@pytest.mark.parametrize(("tool", "kind"), [(tool, kind) for tool, kinds in THEIRS.items() for kind in kinds])
def test_theirs_in_our_hands(tmp_path, tool, kind):
    x = rows(2048)
    job = {"steps": 30, "batch": 256, "d_sae": 64, "k": 5}
    train_theirs(PYTHON, tool, kind, tmp_path / "sae", x, tmp_path, **job)
    sae = SAE.load(tmp_path / "sae", k=5)
    view = tools_view(PYTHON, tool, tmp_path / "sae", x, 64, tmp_path)
    found = agreement(sae, x, view, normalised_acts=sae.normalises_rows)
    assert found.matches > 0
    assert found.differing <= found.matches // 10_000
    assert found.x_hat < 1e-5
    with torch.no_grad():
        assert fvu(x, sae(x)) == pytest.approx(fvu(x, view.x_hat), rel=1e-5)
    if tool != "sparsify":
        assert sae.cfg.hook_name == "blocks.11.resid_post"
