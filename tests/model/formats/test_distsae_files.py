"""distsae's own files, written in blocks: the same SAE, and any reader of safetensors opens it."""

import json

import pytest
import torch
from safetensors.torch import load_file

from distsae.model import SAE
from distsae.model.formats.distsae_files import CONFIG, WEIGHTS
from tests.model.formats.samples import RULES, refuse_differences, sample_sae


@pytest.mark.parametrize("normalise", ["none", "token"])
@pytest.mark.parametrize("rule", RULES)
def test_out_and_back(tmp_path, rule, normalise):
    sae = sample_sae(rule, normalise=normalise)
    sae.export("safetensors", tmp_path / "sae")
    refuse_differences(SAE.load(tmp_path / "sae"), sae)
    assert load_file(tmp_path / "sae" / WEIGHTS).keys() == sae.state_dict().keys()


def test_it_has_the_digest_that_saving_gives_it(tmp_path):
    sae = sample_sae()
    sae.save(tmp_path / "saved")
    sae.export("safetensors", tmp_path / "exported")
    saved, exported = (json.loads((tmp_path / name / CONFIG).read_text()) for name in ("saved", "exported"))
    assert saved == exported


def test_another_dtype(tmp_path):
    sae = sample_sae("feature_choice")
    quotas = sae.quota_per_token
    sae.export("safetensors", tmp_path / "sae", dtype="bf16")
    back = SAE.load(tmp_path / "sae")
    assert back.cfg.dtype == "bfloat16"
    assert torch.equal(back.quota_per_token, quotas)
    for name, tensor in back.state_dict().items():
        torch.testing.assert_close(tensor.double(), sae.state_dict()[name].double(), rtol=2**-8, atol=0)
