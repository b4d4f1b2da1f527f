"""SAELens: what is written does what its own code would do, comes back bit for bit, and the rest is refused by name.

`tests/export/test_peers.py` does the same with the installed package.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae.errors import TornData, WrongInput
from distsae.model import SAE
from distsae.model.formats.saelens import CONFIG, WEIGHTS, read
from tests.model.formats.samples import D_IN, D_SAE, RULES, K, files_in, refuse_differences, rows, sample_sae


def theirs(folder, x):
    """The forward of SAELens 6 for its standard, topk and jumprelu SAEs, in plain torch."""
    cfg, t = json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
    coefficient = cfg["d_in"] ** 0.5 / x.norm(dim=-1, keepdim=True)
    if cfg["normalize_activations"] != "constant_norm_rescale":
        coefficient = torch.ones_like(coefficient)
    hidden = (x * coefficient - t["b_dec"] * cfg["apply_b_dec_to_input"]) @ t["W_enc"] + t["b_enc"]
    norms = t["W_dec"].norm(dim=-1) if cfg.get("rescale_acts_by_decoder_norm") else torch.ones(cfg["d_sae"])
    if cfg["architecture"] == "topk":
        top = (hidden * norms).topk(cfg["k"], dim=-1)
        acts = torch.zeros_like(hidden).scatter(-1, top.indices, top.values.relu())
    elif cfg["architecture"] == "jumprelu":
        acts = hidden.relu() * (hidden > t["threshold"])
    else:
        acts = hidden.relu()
    return acts, ((acts / norms) @ t["W_dec"] + t["b_dec"]) / coefficient


@pytest.mark.parametrize("normalise", ["none", "token"])
@pytest.mark.parametrize("rule", RULES)
def test_out_and_back(tmp_path, rule, normalise):
    sae, x = sample_sae(rule, normalise=normalise), rows()
    out = tmp_path / "sae"
    sae.export("saelens", out)
    acts, x_hat = theirs(out, x)
    assert torch.equal(acts > 0, sae.encode(x) > 0)
    torch.testing.assert_close(x_hat, sae(x), rtol=1e-5, atol=1e-5)
    refuse_differences(SAE.load(out), sae)
    cfg = json.loads((out / CONFIG).read_text())
    assert cfg["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    assert cfg["metadata"]["sae_lens_version"] >= "6"
    assert cfg["architecture"] == ("topk" if rule == "token_choice" else "jumprelu")
    expected = ["README.md", CONFIG, WEIGHTS, *(["distsae.safetensors"] if rule == "feature_choice" else [])]
    assert files_in(out) == sorted(expected)


def _folder(path, change_weights=None, **changes):
    """A folder as SAELens writes it, without anything of distsae."""
    generator = torch.Generator().manual_seed(2)
    weights = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "W_dec": torch.randn(D_SAE, D_IN, generator=generator),
        "b_enc": torch.randn(D_SAE, generator=generator),
        "b_dec": torch.randn(D_IN, generator=generator),
        "threshold": 1 + torch.rand(D_SAE, generator=generator),
    }
    cfg = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "architecture": "jumprelu",
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": "6.20.0",
            "model_name": "gpt2",
            "hook_name": "blocks.3.hook_resid_pre",
            "context_size": 64,
            "prepend_bos": False,
        },
    } | changes
    cfg = {name: value for name, value in cfg.items() if value != "left out"}
    if cfg.get("architecture") != "jumprelu":
        del weights["threshold"]
    path.mkdir(parents=True)
    (path / CONFIG).write_text(json.dumps(cfg))
    save_file((change_weights or (lambda w: w))(weights), path / WEIGHTS)
    return path


@pytest.mark.parametrize("apply_b_dec", [False, True])
@pytest.mark.parametrize("normalisation", ["none", "constant_norm_rescale"])
@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "topk by norm"])
def test_an_sae_of_theirs_does_here_what_it_does_there(tmp_path, kind, normalisation, apply_b_dec):
    changes = {"k": K, "rescale_acts_by_decoder_norm": "norm" in kind} if "topk" in kind else {}
    folder = _folder(
        tmp_path / "a",
        architecture=kind.partition(" ")[0],
        normalize_activations=normalisation,
        apply_b_dec_to_input=apply_b_dec,
        **changes,
    )
    x = rows()
    acts, x_hat = theirs(folder, x)
    sae = SAE.load(folder, k=None if changes else K)
    assert torch.equal(sae.encode(x) > 0, acts > 0)
    torch.testing.assert_close(sae(x), x_hat, rtol=1e-4, atol=1e-4)
    assert sae.cfg.allocation == ("token_choice" if changes else "mutual_choice")
    assert (sae.cfg.k, sae.cfg.hook_name, sae.cfg.hook_layer) == (K, "blocks.3.resid_pre", 3)
    assert (sae.cfg.model_name, sae.cfg.context_size, sae.cfg.prepend_bos) == ("gpt2", 64, False)
    assert sae.cfg.store_fingerprint == ""
    matches = sae.matches(x)
    torch.testing.assert_close(matches.dense(len(x), D_SAE), sae.encode(x))


def test_configs_of_older_versions(tmp_path):
    old = {
        "metadata": "left out",
        "architecture": "left out",
        "normalize_activations": False,
        "apply_b_dec_to_input": True,
        "hook_point": "blocks.3.hook_resid_post",
        "hook_point_layer": 3,
        "model_name": "gpt2",
        "context_size": 128,
    }
    found = read(_folder(tmp_path / "relu", **old))
    assert (found.hook, found.model, found.context_size, found.k) == ("blocks.3.resid_post", "gpt2", 128, None)
    assert (found.tensors["threshold"] == 0).all()
    topk = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 7}}
    found = read(_folder(tmp_path / "topk", **old, **topk))
    assert found.k == 7
    assert "threshold" not in found.tensors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "gated"}, "got the architecture 'gated'; use SAELens itself"),
        ({"architecture": "transcoder"}, "the architecture 'transcoder'"),
        ({"normalize_activations": "layer_norm"}, "got normalize_activations 'layer_norm'; use SAELens itself"),
        ({"normalize_activations": "expected_average_only_in"}, "fold_activation_norm_scaling_factor"),
        ({"normalize_activations": True}, "fold_activation_norm_scaling_factor"),
        ({"normalize_activations": "covariance_whitening"}, "fold_activation_whitening"),
        ({"reshape_activations": "hook_z"}, "activations of heads"),
        ({"metadata": {"hook_name": "a", "hook_name_out": "b"}}, "a transcoder, from 'a' to 'b'"),
    ],
)
def test_what_cannot_be_carried_is_named(tmp_path, changes, words):
    with pytest.raises(WrongInput, match=words):
        read(_folder(tmp_path / "a", **changes))


@pytest.mark.parametrize(
    ("changes", "change", "words"),
    [
        ({"d_sae": D_SAE + 1}, None, r"must have `W_enc` of shape \(12, 51\); got \(12, 50\)"),
        ({"d_in": "12"}, None, r"cfg.json is not the config of an SAE of SAELens: `d_in` must be a whole number"),
        ({"d_in": "left out"}, None, r"`d_in` is missing"),
        ({"architecture": "topk"}, None, "must have the `k` of a topk SAE"),
        ({"metadata": {"distsae": {"d_in": 3}}}, None, "config of distsae that cannot be read"),
        ({}, lambda w: {"W_enc": w["W_enc"]}, "must have the tensor `W_dec`"),
        ({}, lambda w: w | {"b_dec": w["b_dec"].int()}, "must have a floating-point `b_dec`"),
        ({}, lambda w: w | {"b_dec": w["b_dec"] * float("nan")}, "must have finite weights"),
    ],
)
def test_damaged_files_are_named(tmp_path, changes, change, words):
    with pytest.raises(TornData, match=words):
        read(_folder(tmp_path / "a", change, **changes))


def test_a_scaling_factor(tmp_path):
    ones = _folder(tmp_path / "ones", lambda w: w | {"scaling_factor": torch.ones(D_SAE)})
    assert "scaling_factor" not in read(ones).tensors
    with pytest.raises(WrongInput, match="a scaling factor per feature from fine-tuning"):
        read(_folder(tmp_path / "other", lambda w: w | {"scaling_factor": 2 * torch.ones(D_SAE)}))


def test_a_config_of_distsae_that_is_not_of_these_weights(tmp_path):
    sample_sae("token_choice").export("saelens", tmp_path / "a")
    content = json.loads((tmp_path / "a" / CONFIG).read_text())
    content["k"] = K + 1
    (tmp_path / "a" / CONFIG).write_text(json.dumps(content))
    with pytest.raises(TornData, match="another rule, budget or normalisation"):
        SAE.load(tmp_path / "a")
