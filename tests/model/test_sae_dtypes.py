"""An SAE in any floating-point dtype, on activations in any other; what its config says of it is so."""

import json
import math
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from distsae import SAE
from distsae.batches import NormalisationName
from distsae.errors import TornData, WrongInput
from distsae.model import NORMALISATIONS, SAEConfig

D_IN = 8
D_SAE = 24
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
RULES = ("token_choice", "mutual_choice", "feature_choice")


def _sae(rule="mutual_choice", normalise="none", **changes):
    generator = torch.Generator().manual_seed(0)
    cfg = SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        k=4,
        allocation=rule,
        hook_name="h",
        hook_layer=None,
        model_name="m",
        context_size=8,
        prepend_bos=True,
        normalise=normalise,
    )
    weights = {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "W_dec": torch.nn.functional.normalize(torch.randn(D_SAE, D_IN, generator=generator), dim=1),
        "b_enc": torch.randn(D_SAE, generator=generator),
        "b_dec": torch.randn(D_IN, generator=generator),
        "threshold": None if rule == "token_choice" else torch.rand(D_SAE, generator=generator),
        "quota_per_token": torch.full((D_SAE,), 4 / D_SAE) if rule == "feature_choice" else None,
    }
    return SAE(cfg, **(weights | changes))


@pytest.fixture
def x():
    return torch.randn(30, D_IN, generator=torch.Generator().manual_seed(1)).half().float()


@pytest.mark.parametrize("normalise", ["none", "token"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weights", DTYPES)
@pytest.mark.parametrize("rows", DTYPES)
def test_activations_of_any_dtype(rule, normalise, weights, rows, x):
    plain, sae = _sae(rule, normalise), _sae(rule, normalise).to(weights)
    near = {"rtol": 0.1, "atol": 0.2} if torch.bfloat16 in (weights, rows) else {"rtol": 0.02, "atol": 0.02}
    with torch.no_grad():
        given = x.to(rows)
        acts = sae.encode(given)
        assert acts.dtype == sae(given).dtype == sae.decode(acts, given).dtype == rows
        if torch.bfloat16 not in (weights, rows):
            torch.testing.assert_close(acts.float(), plain.encode(x), **near)
        torch.testing.assert_close(sae.decode(acts.float(), given).float(), plain.decode(acts.float(), x), **near)
        for name in ("frozen", "training", "per_token"):
            found = sae.matches(given, name)
            assert found.score.dtype == torch.float32
            assert len(found) > 0
            decoded = sae.decode_matches(found, given)
            assert decoded.dtype == weights
            torch.testing.assert_close(decoded.float(), plain.decode_matches(found, x), **near)


def test_rows_whose_norm_is_beyond_fp16_are_normalised():
    sae, rows = _sae(normalise="token").half(), torch.full((2, D_IN), 60000.0, dtype=torch.float16)
    assert rows.norm(dim=1).isinf().all()
    assert sae.matches(rows).score.isfinite().all()
    assert len(sae.matches(rows)) == len(_sae(normalise="token").matches(rows.float()))


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        (torch.ones(3, D_IN, dtype=torch.int64), r"torch.int64 \[3, 8\]"),
        (torch.ones(3, D_IN + 1), r"torch.float32 \[3, 9\]"),
        (torch.ones(()), r"torch.float32 \[\]"),
    ],
)
def test_what_no_activations_are(rows, got):
    for call in (_sae().encode, _sae()):
        with pytest.raises(WrongInput, match=rf"`x` must have floating-point numbers .* \[..., 8\]; got {got}"):
            call(rows)
    with pytest.raises(WrongInput, match=r"`x` must have shape \[tokens, 8\]; got \[2, 3, 8\]"):
        _sae().matches(torch.ones(2, 3, D_IN))


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "float16"), (torch.bfloat16, "bfloat16")])
def test_the_config_says_what_the_weights_are(tmp_path, dtype, name):
    sae = _sae().to(dtype)
    assert sae.cfg.dtype == name
    sae.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == name
    loaded = SAE.load(tmp_path)
    assert (loaded.dtype, loaded.cfg.dtype) == (dtype, name)
    widened = SAE.load(tmp_path, dtype=torch.float64)
    assert (widened.dtype, widened.cfg.dtype) == (torch.float64, "float64")
    assert torch.equal(widened.W_enc, loaded.W_enc.double())
    assert loaded.float().cfg.dtype == "float32"


def test_an_sae_whose_config_has_another_dtype_loads_with_that_of_its_weights(tmp_path):
    """As `half().save()` of earlier versions wrote it."""
    _sae().half().save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "float32"}))
    assert SAE.load(tmp_path).cfg.dtype == "float16"


def test_weights_that_are_no_floating_point_numbers():
    with pytest.raises(WrongInput, match=r"`W_enc` must have one of the dtypes float32, .*; got torch.int64"):
        _sae(W_enc=torch.zeros(D_IN, D_SAE, dtype=torch.int64))


def _spoiled(folder, name, value):
    _sae("feature_choice").save(folder)
    tensors = load_file(folder / "sae.safetensors")
    tensors[name].view(-1)[3] = value
    save_file(tensors, folder / "sae.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["weights_sha256"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "threshold", "quota_per_token"])
def test_weights_that_are_not_finite_are_refused(tmp_path, name, value):
    _spoiled(tmp_path, name, value)
    with pytest.raises(TornData, match=rf"safetensors must have finite weights; got 1 infinities or NaNs in `{name}`"):
        SAE.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": D_SAE + 1}, r"`k` \(=25\) must be between 1 and `d_sae` \(=24\)"),
        ({"k": 0}, "`k` must be at least 1; got 0"),
        ({"k": -3}, "`k` must be at least 1; got -3"),
        ({"normalise": "tokens"}, r"`normalise` \(=tokens\) must be one of none, scale, centre, token, unit"),
        ({"max_norm": -1.0}, "`max_norm` must be at least 0"),
        ({"normalisation_scale": float("nan")}, "`normalisation_scale` must be at least 0"),
    ],
)
def test_numbers_that_no_sae_has_are_refused(tmp_path, changes, words):
    _sae().save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(TornData, match=rf"config.json is not the config of an SAE: {words}"):
        SAE.load(tmp_path)


def test_the_normalisations_are_those_of_training_and_of_peers():
    assert set(NORMALISATIONS) == {*get_args(NormalisationName), "unit"}
    for name in NORMALISATIONS:
        assert _sae(normalise=name).normalises_rows == (name == "token")


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_an_unknown_device_is_no_damage(tmp_path, device):
    _sae().save(tmp_path)
    with pytest.raises(WrongInput, match=rf"`device` \(={device}\) must be auto or a device of .*; got .*; use"):
        SAE.load(tmp_path, device=device)
    assert SAE.load(tmp_path, device=torch.device("cpu")).device.type == "cpu"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(30, D_IN), (2, 5, 3, D_IN), (D_IN,)])
def test_sparse_encoding_gives_the_dense_one(rule, shape, x):
    sae, given = _sae(rule), x.flatten()[: math.prod(shape)].reshape(shape)
    found = sae.encode_sparse(given)
    dense = torch.zeros(math.prod(shape[:-1]), D_SAE)
    dense[found.token, found.feature] = found.score
    torch.testing.assert_close(dense.reshape(*shape[:-1], D_SAE), sae.encode(given), rtol=1e-5, atol=1e-5)
    with pytest.raises(WrongInput, match="`x` must have"):
        sae.encode_sparse(given[..., :3])
