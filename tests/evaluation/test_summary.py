import copy
import json

import numpy as np
import pytest
import torch

from distsae.evaluation.measure import measure
from distsae.evaluation.summary import arrays, headline
from distsae.language_model import capture

HOOK, D_IN = "blocks.0.resid_post", 32


@pytest.fixture(scope="module")
def mean(tiny_model, token_ids):
    return capture(tiny_model, [HOOK], token_ids)[HOOK][:, 1:].double().mean((0, 1)).float().clone()


@pytest.fixture
def conclude(tiny_model, token_ids, mean):
    def run(sae):
        found = measure(
            sae, tiny_model, HOOK, token_ids, mean=mean, excluded_positions=1, batch_contexts=4, block_rows=10_000
        )
        return headline(found, seed=0), arrays(found)

    return run


@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice", "feature_choice"])
def test_a_perfect_sae(by_hand, conclude, allocation):
    result, _ = conclude(by_hand.perfect(allocation))
    for numbers in (result, result["frozen_rule"]) if allocation != "feature_choice" else (result["frozen_rule"],):
        assert numbers["fvu"] == pytest.approx(0, abs=1e-10)
        assert numbers["relative_error"] == pytest.approx(0, abs=1e-5)
        assert numbers["fvu_unit_norm"] == pytest.approx(0, abs=1e-10)
        assert numbers["cosine"] == pytest.approx(1, abs=1e-10)
        assert numbers["kl"] == pytest.approx(0, abs=1e-8)
        assert numbers["l0"] == D_IN
        assert numbers["loss_recovered_zero"] == pytest.approx(1, abs=1e-5)
        assert numbers["loss_recovered_mean"] == pytest.approx(1, abs=1e-5)
    assert result["all_positions"]["loss_recovered_zero"] == pytest.approx(1, abs=1e-5)


def test_the_mean_explains_nothing(by_hand, conclude, mean):
    result, _ = conclude(by_hand.constant(mean))
    assert result["fvu"] == pytest.approx(1, rel=1e-6)
    assert result["relative_error"] > 0
    assert result["loss_recovered_mean"] == pytest.approx(0, abs=1e-6)
    assert result["ce_spliced"] == pytest.approx(result["ce_mean"])
    assert result["dead_share"] == 1
    assert result["l0"] == 0
    assert result["zipf_s"] is None
    assert result["zipf_residual"] is None
    assert result["top_feature_share"] is None


def test_zeros_recover_nothing(by_hand, conclude):
    result, _ = conclude(by_hand.constant(torch.zeros(D_IN)))
    assert result["loss_recovered_zero"] == pytest.approx(0, abs=1e-9)
    assert result["nmse"] == pytest.approx(1)


def test_every_number_is_finite_or_null_and_lies_in_its_interval(by_hand, conclude):
    result, _ = conclude(by_hand.random())
    json.dumps(result, allow_nan=False)
    names = ["fvu", "nmse", "l0", "ce_clean", "ce_spliced", "ce_zero", "ce_mean"]
    for name in [*names, "relative_error", "cosine", "fvu_unit_norm", "kl"]:
        low, high = result[f"{name}_ci95"]
        assert low <= result[name] <= high
    correlations = result["features_per_token_correlations"]
    for name in ("loss", "frequency", "position", "norm", "loss_given_norm"):
        low, high = correlations[f"{name}_ci95"]
        assert -1 <= low <= correlations[name] <= high <= 1
    assert result["loss_rank_correlation"] == correlations["loss"]
    assert set(result["frozen_rule"]) >= {"l0", "fvu", "loss_recovered_zero", "l0_gap", "fvu_ci95"}
    assert result["frozen_rule"]["l0_gap"] == pytest.approx(result["frozen_rule"]["l0"] - result["l0"])
    assert result["features_per_token_std"] > 0


def test_token_choice_has_no_gap_and_no_spread(by_hand, conclude):
    result, _ = conclude(by_hand.random("token_choice"))
    assert result["frozen_rule"]["fvu_gap"] == result["frozen_rule"]["l0_gap"] == 0
    assert result["features_per_token_std"] == 0
    assert result["loss_rank_correlation"] is None
    assert result["features_per_token_correlations"]["loss_given_norm_ci95"] == [None, None]


def test_arrays_agree_with_the_numbers(by_hand, conclude):
    result, kept = conclude(by_hand.random())
    assert kept["density"].sum() == pytest.approx(result["l0"])
    assert kept["density_frozen"].sum() == pytest.approx(result["frozen_rule"]["l0"])
    assert kept["features_per_token"].mean() == pytest.approx(result["l0"])
    assert kept["features_per_token"].std() == pytest.approx(result["features_per_token_std"])
    assert np.nanmean(kept["token_loss"]) == pytest.approx(result["ce_clean"], rel=1e-5)
    assert (kept["density"] == 0).mean() == result["dead_share"]
    assert kept["position"].tolist() == list(range(1, 16)) * 7
    assert np.isnan(kept["token_loss"][kept["position"] == 15]).all()
    assert kept["context"].tolist() == [context for context in range(7) for _ in range(15)]
    assert (kept["norm"].dtype, kept["token_id"].dtype) == (np.float32, np.int32)


def test_without_rows_left_out_their_block_is_the_frozen_rule(by_hand, conclude):
    result, _ = conclude(by_hand.random(max_norm=1e9))
    assert result["rows_left_out"] == result["left_out_share"] == 0
    for name, value in result["with_left_out_rows"].items():
        assert value == result["frozen_rule"][name]


def test_arrays_have_the_rows_that_are_not_left_out(by_hand, conclude, tiny_model, token_ids):
    norms = capture(tiny_model, [HOOK], token_ids)[HOOK][:, 1:].double().norm(dim=-1).flatten().numpy()
    limit = float(np.sort(norms)[-10])
    result, kept = conclude(by_hand.random(max_norm=limit))
    assert result["rows_left_out"] == 9
    assert result["left_out_share"] == 9 / 105
    assert len(kept["norm"]) == len(kept["features_per_token_frozen"]) == 96
    np.testing.assert_allclose(kept["norm"], norms[norms <= limit], rtol=1e-6)
    assert kept["density"].sum() == pytest.approx(result["l0"])
    assert kept["features_per_token"].mean() == pytest.approx(result["l0"])


def test_loss_recovered_is_not_defined_where_an_ablation_costs_nothing(by_hand, tiny_model, token_ids, mean):
    def concluded(model, contexts):
        found = measure(
            by_hand.random(),
            model,
            HOOK,
            contexts,
            mean=mean,
            excluded_positions=1,
            batch_contexts=4,
            block_rows=10_000,
        )
        result = headline(found, seed=0)
        json.dumps(result, allow_nan=False)
        return result

    assert "undefined" not in concluded(tiny_model, token_ids)
    deaf = copy.deepcopy(tiny_model)
    deaf.lm_head.weight = torch.nn.Parameter(torch.zeros_like(deaf.lm_head.weight))  # a head tied in name only
    result = concluded(deaf, token_ids)
    for numbers in (result, result["frozen_rule"], result["all_positions"], result["with_left_out_rows"]):
        assert numbers["loss_recovered_zero"] is None
        assert numbers["loss_recovered_mean_ci95"] == [None, None]
        assert "zero ablation raises the loss by 0 nats" in numbers["undefined"]["loss_recovered_zero"]
    noise = torch.randint(1, 270, token_ids.shape, generator=torch.Generator().manual_seed(0))
    assert concluded(tiny_model, noise)["loss_recovered_zero"] is None  # no ablation makes such text less likely


def test_one_context_alone_gives_no_interval(by_hand, tiny_model, token_ids, mean):
    found = measure(
        by_hand.random(),
        tiny_model,
        HOOK,
        token_ids[:1],
        mean=mean,
        excluded_positions=1,
        batch_contexts=4,
        block_rows=10_000,
    )
    result = headline(found, seed=0)
    assert result["fvu"] > 0
    assert result["fvu_ci95"] == [None, None]
