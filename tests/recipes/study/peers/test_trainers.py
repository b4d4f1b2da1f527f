"""Every peer by its own code, in the environment that DISTSAE_PEERS_PYTHON names; without one, nothing is tried.

DISTSAE_PEERS_PYTHON=PEERS/bin/python bash launch/test.sh -m heavy tests/recipes/study/peers/test_trainers.py
"""

import json
import os

import pytest

from distsae.model import SAE
from distsae.recipes.study.grid import Member
from distsae.recipes.study.methods import Method
from distsae.recipes.study.peers import PEERS, check_peer, train_peer
from distsae.store import Store
from distsae.training import TrainConfig

PYTHON = os.environ.get("DISTSAE_PEERS_PYTHON")
pytestmark = [pytest.mark.heavy, pytest.mark.skipif(PYTHON is None, reason="DISTSAE_PEERS_PYTHON is not set")]

CASES = [
    ("sae_lens_batchtopk", 3e-3, {}),
    ("sae_lens_batchtopk", "auto", {"aux_loss_coefficient": 0.5, "dead_feature_window": 5}),
    ("sae_lens_matryoshka", 3e-3, {}),
    ("sae_lens_matryoshka", 3e-3, {"matryoshka_widths": [16, 64]}),
    ("dictionary_learning_batchtopk", 3e-3, {}),
    ("dictionary_learning_batchtopk", "auto", {"dead_feature_threshold": 500, "threshold_start_step": 5}),
    ("sparsify_topk", 1e-2, {}),
    ("sparsify_topk", "auto", {"optimizer": "adam", "auxk_alpha": 0.03, "dead_feature_threshold": 500}),
]


@pytest.mark.parametrize(("peer", "lr", "options"), CASES)
def test_a_peer_learns_and_its_sae_is_what_it_has_learnt(tiny_store, tmp_path, peer, lr, options):
    method = Method(name=peer, peer=peer, options=options)
    check_peer(method, PYTHON)
    base = TrainConfig(
        store=str(tiny_store), out=str(tmp_path), hook="blocks.0.resid_post", steps=60, batch_tokens=256, log_every=10
    )
    store = Store.open(str(tiny_store))
    train_peer(Member(method, d_sae=64, k=8, lr=lr, seed=0), base, tmp_path / "member", store, PYTHON)
    lines = [json.loads(line) for line in (tmp_path / "member" / "metrics.jsonl").read_text().splitlines()]
    gap = json.loads((tmp_path / "member" / "frozen_rule.json").read_text())
    assert lines[-1]["fvu"] < lines[0]["fvu"]
    # What it has measured itself in its last steps, on its own rows, is what the SAE does on raw rows.
    assert gap["fvu_training"] == pytest.approx(lines[-1]["fvu"], rel=0.25)
    assert gap["l0_training"] == 8
    assert gap["l0"] == pytest.approx(8, rel=0.25)
    assert SAE.load(tmp_path / "member").cfg.allocation == PEERS[peer].allocation
