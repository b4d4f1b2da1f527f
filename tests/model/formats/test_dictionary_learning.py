"""dictionary_learning: its classes in plain torch do what the SAE does here, both ways; the rest is refused by name.

`tests/export/test_peers.py` does the same with the installed package.
"""

import json

import pytest
import torch

from distsae.errors import TornData, WrongInput
from distsae.model import SAE
from distsae.model.formats.dictionary_learning import CONFIG, WEIGHTS, read
from tests.model.formats.samples import D_IN, D_SAE, RULES, K, refuse_differences, rows, sample_sae

CLASSES = {
    "token_choice": "AutoEncoderTopK",
    "mutual_choice": "BatchTopKSAE",
    "feature_choice": "JumpReluAutoEncoder",
}


def theirs(folder, x):
    """The forward of each class of dictionary_learning, in plain torch."""
    kind = json.loads((folder / CONFIG).read_text())["trainer"]["dict_class"]
    t = torch.load(folder / WEIGHTS, weights_only=True)
    linear = "encoder.weight" in t
    W_enc, b_enc = (t["encoder.weight"].t(), t["encoder.bias"]) if linear else (t["W_enc"], t["b_enc"])
    W_dec = t["decoder.weight"].t() if linear else t["W_dec"]
    b_dec = t.get("b_dec", t.get("bias", t.get("decoder.bias")))
    shift = 0 if kind in ("JumpReluAutoEncoder", "AutoEncoderNew") else b_dec
    pre = (x - shift) @ W_enc + b_enc
    if kind == "AutoEncoderTopK":
        top = pre.relu().topk(int(t["k"]), dim=-1)
        acts = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
    elif kind.startswith("AutoEncoder"):
        acts = pre.relu()
    else:
        acts = pre.relu() * (pre > t["threshold"])
    return acts, acts @ W_dec + b_dec


@pytest.mark.parametrize("rule", RULES)
def test_out_and_back(tmp_path, rule):
    sae, x = sample_sae(rule, normalise="centre"), rows()
    out = tmp_path / "sae"
    sae.export("dictionary_learning", out)
    acts, x_hat = theirs(out, x)
    assert torch.equal(acts > 0, sae.encode(x) > 0)
    torch.testing.assert_close(x_hat, sae(x), rtol=1e-5, atol=1e-5)
    refuse_differences(SAE.load(out), sae)
    trainer = json.loads((out / CONFIG).read_text())["trainer"]
    assert trainer["dict_class"] == CLASSES[rule]
    assert (trainer["activation_dim"], trainer["dict_size"], trainer["k"], trainer["layer"]) == (D_IN, D_SAE, K, 3)
    assert trainer["submodule_name"] == "resid_post_layer_3"


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("rule", RULES)
def test_half_precision_comes_back_as_it_was_written(tmp_path, rule, dtype):
    sae = sample_sae(rule)
    sae.export("dictionary_learning", tmp_path / "sae", dtype=dtype)
    quotas = sae.quota_per_token
    expected = sae.bfloat16() if dtype == "bf16" else sae.half()
    expected.quota_per_token = quotas  # they sum to k, and are never rounded
    refuse_differences(SAE.load(tmp_path / "sae"), expected)


def test_a_bias_that_was_changed_is_taken_from_the_weights(tmp_path):
    sample_sae("feature_choice").export("dictionary_learning", tmp_path / "sae")
    file = tmp_path / "sae" / WEIGHTS
    weights = torch.load(file, weights_only=True)
    weights["b_enc"] += 3
    torch.save(weights, file)
    x = rows()
    acts, _ = theirs(tmp_path / "sae", x)
    torch.testing.assert_close(SAE.load(tmp_path / "sae").encode(x), acts, rtol=1e-4, atol=1e-4)


def test_rows_that_are_normalised_cannot_be_written(tmp_path):
    for rule in RULES:
        with pytest.raises(WrongInput, match="one that normalises each row, for which biases"):
            sample_sae(rule, normalise="token").export("dictionary_learning", tmp_path / "sae")
    assert list(tmp_path.iterdir()) == []


def _folder(path, kind, change=None, **trainer):
    """A folder as the trainers of dictionary_learning write it."""
    generator = torch.Generator().manual_seed(3)
    W_enc, W_dec = torch.randn(D_IN, D_SAE, generator=generator), torch.randn(D_SAE, D_IN, generator=generator)
    W_dec = W_dec * (0.5 + torch.rand(D_SAE, 1, generator=generator))
    b_enc, b_dec = torch.randn(D_SAE, generator=generator), torch.randn(D_IN, generator=generator)
    linear = {"encoder.weight": W_enc.t().clone(), "encoder.bias": b_enc, "decoder.weight": W_dec.t().clone()}
    plain = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    budget = {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(1.5)}
    weights = {
        "AutoEncoder": {**linear, "bias": b_dec},
        "AutoEncoderNew": {**linear, "decoder.bias": b_dec},
        "AutoEncoderTopK": {**linear, "b_dec": b_dec, **budget},
        "BatchTopKSAE": {**linear, "b_dec": b_dec, **budget},
        "MatryoshkaBatchTopKSAE": {**plain, **budget, "group_sizes": torch.tensor([20, 30])},
        "JumpReluAutoEncoder": {**plain, "threshold": torch.rand(D_SAE, generator=generator)},
    }.get(kind, linear)
    path.mkdir()
    torch.save((change or (lambda w: w))(weights), path / WEIGHTS)
    content = {"dict_class": kind, "layer": 3, "lm_name": "gpt2", "submodule_name": "resid_post_layer_3", **trainer}
    (path / CONFIG).write_text(json.dumps({"trainer": content, "buffer": {"ctx_len": 64}}))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
        "JumpReluAutoEncoder",
    ],
)
def test_an_sae_of_theirs_does_here_what_it_does_there(tmp_path, kind):
    folder = _folder(tmp_path / "a", kind)
    x = rows()
    acts, x_hat = theirs(folder, x)
    knows_k = "TopK" in kind
    sae = SAE.load(folder, k=None if knows_k else K)
    assert torch.equal(sae.encode(x) > 0, acts > 0)
    torch.testing.assert_close(sae(x), x_hat, rtol=1e-4, atol=1e-4)
    assert sae.cfg.k == K
    assert (sae.cfg.hook_name, sae.cfg.model_name, sae.cfg.context_size) == ("blocks.3.resid_post", "gpt2", 64)
    assert sae.cfg.allocation == ("token_choice" if kind == "AutoEncoderTopK" else "mutual_choice")
    if kind == "AutoEncoder":  # its own loading brings decoder rows to norm 1
        torch.testing.assert_close(torch.linalg.vector_norm(sae.W_dec, dim=1), torch.ones(D_SAE))


def test_the_threshold_of_a_short_training_lets_every_positive_score_pass(tmp_path):
    folder = _folder(tmp_path / "a", "BatchTopKSAE", lambda w: w | {"threshold": torch.tensor(-1.0)})
    x = rows()
    sae = SAE.load(folder)
    assert (sae.threshold == 0).all()
    assert torch.equal(sae.encode(x) > 0, theirs(folder, x)[0] > 0)


def test_what_cannot_be_carried_is_named(tmp_path):
    with pytest.raises(WrongInput, match="got 'GatedAutoEncoder'; use dictionary_learning itself"):
        read(_folder(tmp_path / "a", "GatedAutoEncoder"))


def test_a_budget_must_be_given_for_plain_relu(tmp_path):
    with pytest.raises(WrongInput, match=r"`k` must be given for .*thresholds do not say how many features fire"):
        SAE.load(_folder(tmp_path / "a", "AutoEncoder"))


@pytest.mark.parametrize(
    ("kind", "change", "trainer", "words"),
    [
        ("BatchTopKSAE", lambda w: {"b_dec": w["b_dec"]}, {}, "must have a matrix `encoder.weight`"),
        ("BatchTopKSAE", lambda w: w | {"threshold": torch.rand(3)}, {}, "must have one finite `threshold`"),
        ("BatchTopKSAE", None, {"k": K + 1}, "must have the `k` of its config.json; got 5 and 6"),
        ("BatchTopKSAE", None, {"dict_class": 3}, "`trainer.dict_class` must be text"),
        ("AutoEncoderTopK", lambda w: w | {"decoder.weight": torch.randn(3, 3)}, {}, "of shape"),
        ("JumpReluAutoEncoder", lambda w: w | {"b_enc": w["b_enc"] / 0}, {}, "must have finite weights"),
        ("AutoEncoder", lambda w: [w], {}, "must hold a dict of tensors"),
    ],
)
def test_damaged_files_are_named(tmp_path, kind, change, trainer, words):
    with pytest.raises(TornData, match=words):
        read(_folder(tmp_path / "a", kind, change, **trainer))
