"""SAEs by their names in SAELens's own table do here what `SAE.from_pretrained` of SAELens does.

DISTSAE_PEERS_PYTHON=PEERS/bin/python bash launch/test.sh -m heavy tests/export/test_releases.py
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from distsae.model import SAE
from distsae.model.formats.saelens_releases import released_sae
from tests.model.hub_server import hub_server

PYTHON = os.environ.get("DISTSAE_PEERS_PYTHON")
pytestmark = [pytest.mark.heavy, pytest.mark.skipif(PYTHON is None, reason="DISTSAE_PEERS_PYTHON is not set")]

WIDTH, FEATURES = 768, 200
WHERE = "import importlib.util; print(importlib.util.find_spec('sae_lens').submodule_search_locations[0])"
SAES = {
    ("gpt2-small-res-jb", "blocks.8.hook_resid_pre"): {"hook_point": "blocks.8.hook_resid_pre"},
    ("gpt2-small-mlp-tm", "blocks.0.hook_mlp_out"): {
        "hook_name": "blocks.0.hook_mlp_out",
        "normalize_activations": "expected_average_only_in",
    },
    ("mistral-7b-res-wg", "blocks.8.hook_resid_pre"): {"hook_point": "blocks.8.hook_resid_pre"},
}
"""SAEs of centred activations, of centred and scaled ones, and of ones that are normalised; each with its config."""


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The table of the installed sae-lens, found as if it were installed here."""
    found = subprocess.run([PYTHON, "-c", WHERE], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "sae_lens").symlink_to(found)
    monkeypatch.syspath_prepend(tmp_path / "packages")


def _repositories(root):
    generator = torch.Generator().manual_seed(1)
    for (release, sae_id), cfg in SAES.items():
        released = released_sae(f"saelens:{release}/{sae_id}")
        folder = root / released.repo / released.folder
        folder.mkdir(parents=True)
        W_dec = torch.nn.functional.normalize(torch.randn(FEATURES, WIDTH, generator=generator), dim=1)
        weights = {"W_enc": W_dec.T.contiguous(), "W_dec": W_dec, "b_enc": torch.zeros(FEATURES)}
        weights["b_dec"] = torch.randn(WIDTH, generator=generator)
        save_file(weights, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(
            json.dumps(
                {"d_in": WIDTH, "d_sae": FEATURES, "model_name": "m", "context_size": 8, "dtype": "float32"} | cfg
            )
        )


def test_a_release_is_the_same_sae(table, tmp_path, monkeypatch):
    _repositories(tmp_path / "repositories")
    x = 2 * torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(2)) + 1
    centred = x - x.mean(1, keepdim=True)
    for number, (release, sae_id) in enumerate(SAES):
        seen = x if release == "mistral-7b-res-wg" else centred  # what TransformerLens gives it there
        np.save(tmp_path / "rows.npy", seen.numpy())
        with hub_server(tmp_path / "repositories") as server:
            job = {"saes": [(release, sae_id)], "rows": str(tmp_path / "rows.npy"), "out": str(tmp_path / "out.npz")}
            subprocess.run(
                [PYTHON, "-W", "ignore", Path(__file__).with_name("released_by_saelens.py"), json.dumps(job)],
                env=os.environ
                | {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
                | {"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": ""},
                check=True,
            )
        theirs = np.load(tmp_path / "out.npz")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        sae = SAE.load(f"saelens:{release}/{sae_id}", k=20)  # offline, from the cache that SAELens has filled
        acts, x_hat = torch.from_numpy(theirs["acts_0"]), torch.from_numpy(theirs["x_hat_0"])
        assert torch.equal(sae.encode(x) > 0, acts > 0), number
        assert int((acts > 0).sum()) > 1000
        assert float((sae(x) - x_hat).norm() / x_hat.norm()) < 1e-6
