"""sparsify: Token Choice alone, out and back; the rest is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae.errors import TornData, WrongInput
from distsae.model import SAE
from distsae.model.formats.sparsify import CONFIG, WEIGHTS, read
from tests.model.formats.samples import D_IN, D_SAE, K, refuse_differences, rows, sample_sae


def theirs(folder, x):
    """The forward of sparsify's SparseCoder, in plain torch."""
    t = load_file(folder / WEIGHTS)
    pre = torch.nn.functional.linear(x - t["b_dec"], t["encoder.weight"], t["encoder.bias"]).relu()
    top = pre.topk(json.loads((folder / CONFIG).read_text())["k"], dim=-1, sorted=False)
    acts = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    return acts, acts @ t["W_dec"] + t["b_dec"]


def test_out_and_back(tmp_path):
    sae, x = sample_sae("token_choice", normalise="scale"), rows()
    out = tmp_path / "layers.3"
    sae.export("sparsify", out)
    acts, x_hat = theirs(out, x)
    assert torch.equal(acts > 0, sae.encode(x) > 0)
    torch.testing.assert_close(x_hat, sae(x), rtol=1e-5, atol=1e-5)
    refuse_differences(SAE.load(out), sae)
    assert json.loads((out / CONFIG).read_text())["num_latents"] == D_SAE


@pytest.mark.parametrize(
    ("rule", "normalise", "words"),
    [
        ("mutual_choice", "none", "got one of Mutual Choice, which needs thresholds"),
        ("feature_choice", "none", "got one of Feature Choice, which needs thresholds"),
        ("token_choice", "token", "got one that normalises each row"),
    ],
)
def test_what_it_cannot_hold_is_refused(tmp_path, rule, normalise, words):
    with pytest.raises(WrongInput, match=words):
        sample_sae(rule, normalise=normalise).export("sparsify", tmp_path / "sae")
    assert list(tmp_path.iterdir()) == []


def _folder(path, change=None, **changes):
    generator = torch.Generator().manual_seed(4)
    weights = {
        "encoder.weight": torch.randn(D_SAE, D_IN, generator=generator),
        "encoder.bias": torch.randn(D_SAE, generator=generator),
        "W_dec": torch.randn(D_SAE, D_IN, generator=generator),
        "b_dec": torch.randn(D_IN, generator=generator),
    }
    path.mkdir()
    save_file((change or (lambda w: w))(weights), path / WEIGHTS)
    cfg = {"activation": "topk", "k": K, "num_latents": D_SAE, "expansion_factor": 32, "d_in": D_IN} | changes
    (path / CONFIG).write_text(json.dumps(cfg))
    return path


def test_an_sae_of_theirs_does_here_what_it_does_there(tmp_path):
    folder = _folder(tmp_path / "layers.7")
    x = rows()
    acts, x_hat = theirs(folder, x)
    sae = SAE.load(folder)
    assert torch.equal(sae.encode(x) > 0, acts > 0)
    torch.testing.assert_close(sae(x), x_hat, rtol=1e-4, atol=1e-4)
    assert (sae.cfg.k, sae.cfg.hook_name, sae.cfg.hook_layer) == (K, "blocks.7.resid_post", 7)
    assert read(_folder(tmp_path / "mine")).hook is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "groupmax"}, "got the activation 'groupmax'"),
        ({"transcode": True}, "got a transcoder"),
        ({"skip_connection": True}, "got a skip connection"),
    ],
)
def test_what_cannot_be_carried_is_named(tmp_path, changes, words):
    with pytest.raises(WrongInput, match=words):
        read(_folder(tmp_path / "a", **changes))


@pytest.mark.parametrize(
    ("change", "changes", "words"),
    [
        (None, {"num_latents": 0}, "must have `encoder.weight` of shape"),
        (None, {"k": 0}, "`k` must be at least 1"),
        (lambda w: w | {"b_dec": w["b_dec"] / 0}, {}, "must have finite weights"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, changes, words):
    with pytest.raises(TornData, match=words):
        read(_folder(tmp_path / "a", change, **changes))
