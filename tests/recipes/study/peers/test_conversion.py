"""A peer's weights become an SAE on raw rows that does what the peer does on its own rows."""

import pytest
import torch

from distsae.batches import Normalisation
from distsae.model import SAEConfig
from distsae.recipes.study.peers.conversion import converted, judged

D_IN, D_SAE, K = 6, 24, 3


def _weights(threshold=None):
    torch.manual_seed(1)
    W_dec = torch.randn(D_SAE, D_IN)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    weights = {
        "W_enc": W_dec.T + 0.1 * torch.randn(D_IN, D_SAE),
        "W_dec": W_dec,
        "b_enc": 0.1 * torch.randn(D_SAE),
        "b_dec": 0.3 * torch.randn(D_IN),
    }
    return weights if threshold is None else weights | {"threshold": torch.tensor(threshold)}


def _config(allocation, normalise="unit"):
    return SAEConfig(
        d_in=D_IN,
        d_sae=D_SAE,
        k=K,
        allocation=allocation,
        hook_name="blocks.0.resid_post",
        hook_layer=0,
        model_name="tiny",
        context_size=8,
        prepend_bos=True,
        normalise=normalise,
    )


def _rows(count=400):
    return 5 + 3 * torch.randn(count, D_IN, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "normalisation", [Normalisation(1.0, None), Normalisation(0.3, None), Normalisation(0.3, torch.ones(D_IN))]
)
@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice"])
def test_it_reconstructs_raw_rows_as_the_peer_reconstructs_its_own(normalisation, allocation):
    weights, rows = _weights(), _rows()
    found = converted(weights, _config(allocation), normalisation, rows)
    x = normalisation.apply(rows.clone())
    pre_acts = (x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]
    if allocation == "token_choice":
        top = pre_acts.relu().topk(K, dim=1)
        acts = torch.zeros_like(pre_acts).scatter(1, top.indices, top.values)
        assert found.threshold is None
    else:
        cut = pre_acts.relu().flatten().topk(K * len(rows)).values[-1]
        acts = pre_acts * (pre_acts > cut)
        assert found.threshold == pytest.approx(float(cut), rel=1e-5)
    own = acts @ weights["W_dec"] + weights["b_dec"]
    raw = own / normalisation.scale + (normalisation.shift if normalisation.shift is not None else 0)
    same = torch.isclose(found.sae(rows), raw, atol=2e-3).all(1)
    assert int(same.sum()) >= len(rows) - 1  # the score at the cut may be rounded to either side of it


def test_the_frozen_rule_reaches_k_and_the_peers_own_threshold_is_recorded():
    found = converted(_weights(threshold=0.2), _config("mutual_choice"), Normalisation(0.3, None), _rows())
    l0 = float((found.sae.encode(_rows()) > 0).sum()) / 400
    assert l0 == pytest.approx(K, abs=0.01)
    x = 0.3 * _rows()
    weights = _weights()
    expected = ((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"] > 0.2).sum(1).double().mean()
    assert found.own_l0 == pytest.approx(float(expected))
    assert found.facts()["own_threshold"] == pytest.approx(0.2)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, float("nan")])
def test_a_threshold_that_was_never_set_is_not_tried(threshold):
    found = converted(_weights(threshold), _config("mutual_choice"), Normalisation(0.3, None), _rows())
    assert found.own_l0 is None
    assert found.threshold > 0


def test_both_rules_are_judged_on_raw_rows():
    found = converted(_weights(), _config("mutual_choice"), Normalisation(0.3, None), _rows())
    rows = _rows(100)
    judgement = judged(found.sae, rows, batch_tokens=50)
    error = (found.sae(rows).detach() - rows).double().square().sum()
    energy = (rows.double() - rows.double().mean(0)).square().sum()
    assert judgement["fvu"] == pytest.approx(float(error / energy), rel=1e-5)
    assert judgement["l0"] == pytest.approx(float((found.sae.encode(rows) > 0).sum()) / 100)
    assert judgement["l0_training"] == K
    assert judgement["rows"] == 100
    assert judged(found.sae, torch.ones(4, D_IN), 4)["fvu"] is None
