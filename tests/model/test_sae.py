"""The public SAE: dense and sparse ways agree, what is saved is what is loaded, wrong shapes are refused."""

import json
import resource

import pytest
import torch

from distsae import SAE
from distsae.allocation import QuotaCredit, feature_choice, mutual_choice, token_choice, zipf_quotas
from distsae.errors import CannotContinue, TornData, WrongInput
from distsae.model import SELECTION_MB, FeatureShard, SAEConfig

D_IN = 12
D_SAE = 50
K = 5
TOKENS = 40
RULES = ("token_choice", "mutual_choice", "feature_choice")


def _sae(rule, seed=0, normalise="none", **changes):
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1)
    values = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "W_dec": decoder,
        "b_enc": 0.1 * torch.randn(D_SAE, generator=generator),
        "b_dec": 0.5 * torch.randn(D_IN, generator=generator),
        "threshold": None if rule == "token_choice" else 2 + torch.rand(D_SAE, generator=generator),
        "quota_per_token": zipf_quotas(D_SAE, K, s=0.8, q=3) if rule == "feature_choice" else None,
    } | changes
    cfg = SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        k=K,
        allocation=rule,
        hook_name="blocks.0.resid_post",
        hook_layer=0,
        model_name="tiny",
        context_size=16,
        prepend_bos=True,
        normalise=normalise,
    )
    return SAE(cfg, **values)


@pytest.fixture
def x():
    return torch.randn(TOKENS, D_IN, generator=torch.Generator().manual_seed(9))


chunked = pytest.mark.parametrize("selection_mb", [SELECTION_MB, 0], ids=["one chunk", "eight features a chunk"])


@chunked
@pytest.mark.parametrize("rule", RULES)
def test_frozen_matches_are_the_dense_acts(rule, x, selection_mb):
    sae = _sae(rule)
    matches = sae.matches(x, selection_mb=selection_mb)
    dense = sae.encode(x)
    torch.testing.assert_close(matches.dense(TOKENS, D_SAE), dense)
    assert 0 < len(matches) < TOKENS * D_SAE / 2
    assert (matches.score > 0).all()
    assert torch.equal(matches.token, matches.by_token().token)
    torch.testing.assert_close(sae.decode_matches(matches, x), sae(x))
    torch.testing.assert_close(sae.decode(dense), sae(x))
    if rule == "token_choice":
        assert ((dense > 0).sum(1) == K).all()
    else:
        assert torch.equal(dense > 0, dense > sae.threshold)


def test_per_token_keeps_the_k_largest_scores_under_any_rule(x):
    for rule in RULES:
        sae = _sae(rule)
        found = sae.matches(x, rule="per_token")
        scores = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu()
        top = scores.topk(sae.cfg.k, dim=1)
        assert torch.equal(torch.bincount(found.token, minlength=len(x)), (top.values > 0).sum(1))
        kept = torch.zeros_like(scores).scatter(1, top.indices, top.values)
        torch.testing.assert_close(kept[found.token, found.feature], found.score)


@chunked
@pytest.mark.parametrize("rule", RULES)
def test_training_rule_takes_these_tokens_as_the_batch(rule, x, selection_mb):
    sae = _sae(rule)
    scores = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu().detach()
    expected = {
        "token_choice": lambda: token_choice(scores, K),
        "mutual_choice": lambda: mutual_choice(scores, K * TOKENS),
        "feature_choice": lambda: feature_choice(scores, QuotaCredit(zipf_quotas(D_SAE, K, s=0.8, q=3), K).pay(TOKENS)),
    }[rule]()
    found = sae.matches(x, "training", selection_mb)
    assert torch.equal(found.token, expected.token)
    assert torch.equal(found.feature, expected.feature)
    torch.testing.assert_close(found.score, expected.score)


@pytest.mark.parametrize("rule", RULES)
def test_an_sae_that_normalises_rows_is_one_on_rows_of_equal_norm(rule, x):
    """Whatever the norm of a row, its features are the same, and its reconstruction is as long as the row."""
    plain, sae = _sae(rule), _sae(rule, normalise="token")
    scales = x.norm(dim=1, keepdim=True) / D_IN**0.5
    with torch.no_grad():
        torch.testing.assert_close(sae(x), scales * plain(x / scales))
        torch.testing.assert_close(sae.encode(x), scales * plain.encode(x / scales))
        torch.testing.assert_close(sae.decode(sae.encode(x)), sae(x))
        torch.testing.assert_close(sae.decode(sae.encode(x)[::2], x[::2]), sae(x)[::2])
        torch.testing.assert_close(sae.encode(1000 * x), 1000 * sae.encode(x))
        for name in ("frozen", "training"):
            matches, expected = sae.matches(x, name), plain.matches(x / scales, name)
            assert torch.equal(matches.token, expected.token)
            assert torch.equal(matches.feature, expected.feature)
            torch.testing.assert_close(matches.score, expected.score * scales.squeeze(1)[expected.token])
            x_hat = scales * plain.decode_matches(expected, x)
            torch.testing.assert_close(sae.decode_matches(matches, x), x_hat)


def test_a_row_of_zeros_is_not_normalised():
    sae = _sae("token_choice", normalise="token")
    torch.testing.assert_close(sae(torch.zeros(2, D_IN)), _sae("token_choice")(torch.zeros(2, D_IN)))


def test_decoding_other_rows_than_were_encoded_needs_them(x):
    sae = _sae("mutual_choice", normalise="token")
    with pytest.raises(WrongInput, match=r"`x` must be given to decode \[40\] rows .*; got none encoded last"):
        sae.decode(torch.zeros(TOKENS, D_SAE))
    sae.encode(x)
    with pytest.raises(WrongInput, match=r"to decode \[3\] rows .*; got \[40\] encoded last"):
        sae.decode(torch.zeros(3, D_SAE))


def test_any_leading_dimensions(x):
    sae = _sae("mutual_choice")
    cube = x.view(4, 10, D_IN)
    assert sae.encode(cube).shape == (4, 10, D_SAE)
    torch.testing.assert_close(sae(cube).view(TOKENS, D_IN), sae(x))


def test_the_gate_is_exclusive_and_positive():
    sae = _sae(
        "mutual_choice",
        W_enc=torch.zeros(D_IN, D_SAE),
        b_dec=torch.zeros(D_IN),
        b_enc=torch.tensor([1.0, 2.0, 3.0, -1.0] + [0.0] * 46),
        threshold=torch.tensor([1.0, 1.0, 4.0, -2.0] + [-1.0] * 46),
    )
    fired = sae.encode(torch.zeros(1, D_IN))
    assert fired.nonzero().tolist() == [[0, 1]]
    assert sae.matches(torch.zeros(1, D_IN)).feature.tolist() == [1]


@pytest.mark.parametrize("rule", RULES)
def test_saved_and_loaded(rule, x, tmp_path):
    sae = _sae(rule)
    sae.save(tmp_path / "run" / "sae")
    for path in (tmp_path / "run" / "sae", tmp_path / "run", str(tmp_path / "run")):
        again = SAE.load(path)
        assert again.cfg == sae.cfg
        assert again.state_dict().keys() == sae.state_dict().keys()
        for name, tensor in sae.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor)
            assert again.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(again(x), sae(x))
    content = json.loads((tmp_path / "run" / "sae" / "config.json").read_text())
    assert content["architecture"] == ("topk" if rule == "token_choice" else "jumprelu")
    assert len(content.pop("weights_sha256")) == 64
    assert content == sae.cfg.to_dict()


def test_what_others_expect_of_it():
    """SAEBench asks for these by name."""
    sae = _sae("mutual_choice")
    assert sae.device == torch.device("cpu")
    assert sae.dtype == torch.float32
    assert sae.W_enc.shape == (D_IN, D_SAE)
    assert sae.W_dec.shape == (D_SAE, D_IN)
    assert sae.cfg.dtype == "float32"
    assert {"d_in", "d_sae", "hook_name", "hook_layer", "model_name", "architecture", "dtype", "prepend_bos"} <= set(
        sae.cfg.to_dict()
    )
    assert sae.cfg.context_size == 16


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("W_enc", (D_SAE, D_IN)),
        ("W_dec", (D_IN, D_SAE)),
        ("b_enc", (D_IN,)),
        ("b_dec", (D_SAE,)),
        ("threshold", ()),
        ("quota_per_token", (D_SAE, 1)),
    ],
)
def test_wrong_shapes_are_refused(name, shape):
    with pytest.raises(WrongInput, match=rf"`{name}` must have shape .*; got \({', '.join(map(str, shape))}"):
        _sae("feature_choice", **{name: torch.zeros(shape)})


def test_a_rule_with_thresholds_needs_them(x):
    with pytest.raises(WrongInput, match=r"`threshold` must be given for `allocation` \(=mutual_choice\)"):
        _sae("mutual_choice", threshold=None)
    with pytest.raises(WrongInput, match="needs `quota_per_token`"):
        _sae("feature_choice", quota_per_token=None).matches(x, "training")


def test_nothing_to_load_is_named(tmp_path):
    with pytest.raises(WrongInput, match=rf"`{tmp_path}/nowhere` must be an SAE folder or a finished run; got no such"):
        SAE.load(tmp_path / "nowhere")
    _sae("mutual_choice").save(tmp_path / "half")
    (tmp_path / "half" / "sae.safetensors").unlink()
    with pytest.raises(WrongInput, match="half"):
        SAE.load(tmp_path / "half")


def test_damaged_files_are_named(tmp_path):
    for name, content in (("config.json", b'{"d_in": 12'), ("sae.safetensors", b"damaged"), ("config.json", b"{}")):
        folder = tmp_path / "sae"
        _sae("mutual_choice").save(folder)
        (folder / name).write_bytes(content)
        with pytest.raises(TornData, match=str(folder / name)):
            SAE.load(folder)


def test_a_full_disk_is_one_line_and_leaves_the_old_sae(tmp_path):
    sae = _sae("mutual_choice")
    sae.save(tmp_path)
    old = (tmp_path / "sae.safetensors").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        with pytest.raises(CannotContinue, match=r"the SAE could not be written into .*: raise `ulimit -f`"):
            sae.save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "sae.safetensors").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "sae.safetensors"]


def test_an_sae_from_a_shard_has_its_weights():
    shard = FeatureShard(4, 8, range(8), torch.ones(4), seed=0)
    sae = SAE.from_shard(shard, 2)
    x = torch.randn(5, 4)
    scores = ((x - 1) @ shard.W_enc.T).relu()
    expected = torch.zeros_like(scores).scatter(1, scores.topk(2).indices, scores.topk(2).values) @ shard.W_dec + 1
    torch.testing.assert_close(sae(x), expected)
    shard.W_enc.data.zero_()
    assert sae.W_enc.abs().sum() > 0  # copies, so that further steps do not change it
    frozen = SAE.from_shard(shard, 2, "mutual_choice", torch.full((8,), 0.3))
    assert frozen.cfg.architecture == "jumprelu"
    with pytest.raises(WrongInput, match="`shard` must hold all 8 features; got 3"):
        SAE.from_shard(FeatureShard(4, 8, range(3), torch.ones(4), seed=0), 2)
