import json

import numpy as np
import pytest

from distsae.evaluation import EvaluateConfig, evaluate
from distsae.evaluation.evaluate import _mean_of_kept_rows
from distsae.evaluation.spliced_model import SplicedModel
from distsae.store import Store
from tests.store import synthetic

PROMISED = [
    "fvu",
    "nmse",
    "l0",
    "ce_clean",
    "ce_spliced",
    "ce_zero",
    "ce_mean",
    "loss_recovered_zero",
    "loss_recovered_mean",
    "dead_share",
    "underutilised_share",
    "features_per_token_std",
    "zipf_s",
    "zipf_q",
    "frozen_rule",
    "relative_error",
    "cosine",
    "fvu_unit_norm",
    "kl",
    "max_norm",
    "rows_left_out",
    "left_out_share",
    "with_left_out_rows",
    "features_per_token_correlations",
]


@pytest.fixture
def evaluated(tmp_path, tiny_store, by_hand):
    def run(sae, **changes):
        sae.save(tmp_path / "run" / "sae")
        return evaluate(EvaluateConfig(run=str(tmp_path / "run"), store=str(tiny_store), device="cpu", **changes))

    return run


@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice", "feature_choice"])
def test_files_hold_every_promised_key(evaluated, by_hand, tiny_store, allocation):
    out, result = evaluated(by_hand.random(allocation))
    assert json.loads(out.read_text()) == result
    assert set(PROMISED) <= set(result)
    assert {"l0", "fvu", "loss_recovered_zero"} <= set(result["frozen_rule"])
    for name in ("fvu", "l0", "ce_clean", "loss_recovered_zero"):
        assert len(result[f"{name}_ci95"]) == 2
    store = Store.open(tiny_store)
    assert result["rows"] == store.heldout_rows
    assert result["allocation"] == allocation
    assert result["trained_on_this_store"] is False
    with np.load(out.with_suffix(".npz")) as kept:
        assert kept["density"].shape == (64,)
        for name in (
            "token_loss",
            "features_per_token",
            "norm",
            "difficulty",
            "token_id",
            "token_frequency",
            "position",
            "context",
        ):
            assert kept[name].shape == (store.heldout_rows,)
    assert sorted(path.name for path in out.parent.iterdir()) == ["evaluation.json", "evaluation.npz", "sae"]


def test_the_rows_are_those_that_the_store_holds(evaluated, by_hand, tiny_store):
    # Activations computed now from the held-out contexts against the stored ones, by their variance and error.
    _, result = evaluated(by_hand.constant(Store.open(tiny_store).statistics("blocks.0.resid_post").mean))
    store = Store.open(tiny_store)
    stored = np.concatenate(
        [store.read_chunk(by_hand.hook, chunk).double().numpy() for chunk in store.chunks("heldout")]
    )
    variance = np.square(stored - stored.mean(0)).sum(1).mean()
    error = np.square(stored - store.statistics(by_hand.hook).mean.double().numpy()).sum(1).mean()
    assert result["variance"] == pytest.approx(variance, rel=1e-3)
    assert result["fvu"] == pytest.approx(error / variance, rel=1e-3)
    assert result["loss_recovered_mean"] == pytest.approx(0, abs=1e-6)


def test_same_seed_same_numbers_whatever_the_batch(evaluated, by_hand):
    def numbers(result):
        return {name: result[name] for name in PROMISED if isinstance(result[name], float)}

    _, first = evaluated(by_hand.random(), batch_contexts=2)
    _, second = evaluated(by_hand.random(), batch_contexts=50)
    assert first["text_digest"] == second["text_digest"]
    assert numbers(first) == pytest.approx(numbers(second), rel=1e-4, abs=1e-5)


def test_out_names_the_files(evaluated, by_hand, tmp_path):
    out, _ = evaluated(by_hand.random(), out=str(tmp_path / "deep" / "numbers.json"), max_tokens=64)
    assert out == tmp_path / "deep" / "numbers.json"
    assert (tmp_path / "deep" / "numbers.npz").is_file()


def test_rows_over_the_limit_of_the_sae_are_left_out_of_the_figures(evaluated, by_hand, tiny_store):
    store = Store.open(tiny_store)
    stored = np.concatenate(
        [store.read_chunk(by_hand.hook, chunk).double().numpy() for chunk in store.chunks("heldout")]
    )
    norms = np.sort(np.linalg.norm(stored, axis=1))
    limit = float(norms[-20:-18].mean())
    _, result = evaluated(by_hand.random(max_norm=limit))
    assert result["max_norm"] == limit
    assert result["rows_left_out"] == 19
    assert result["rows"] == store.heldout_rows - 19
    kept = stored[np.linalg.norm(stored, axis=1) <= limit]
    assert result["variance"] == pytest.approx(np.square(kept - kept.mean(0)).sum(1).mean(), rel=1e-3)
    assert result["with_left_out_rows"]["fvu"] != result["frozen_rule"]["fvu"]


def test_shared_ablations_are_not_repeated_and_change_no_figure(tmp_path, tiny_store, by_hand, monkeypatch):
    passes = []
    spliced_logits = SplicedModel.spliced_logits
    monkeypatch.setattr(
        SplicedModel, "spliced_logits", lambda *arguments: (passes.append(1), spliced_logits(*arguments))[1]
    )

    def run(rule, **shared):
        by_hand.random(rule).save(tmp_path / rule / "sae")
        passes.clear()
        config = EvaluateConfig(run=str(tmp_path / rule), store=str(tiny_store), device="cpu", batch_contexts=100)
        _, result = evaluate(config, **shared)
        return len(passes), {name: value for name, value in result.items() if name != "seconds"}

    shared = {}
    first, _ = run("token_choice", shared=shared)
    after, with_shared = run("mutual_choice", shared=shared)
    alone, without = run("mutual_choice")
    assert with_shared == without
    # Two ablations of the rows and two of all positions; the trial of the model is part of each.
    assert alone - after == 4
    assert first == alone - 1  # Token Choice has one rule


def test_mean_ablation_is_without_the_rows_that_the_sae_leaves_out(tmp_path):
    store = synthetic.write_store(tmp_path / "s", change=synthetic.plant_outliers)
    for hook in store.attributes.hooks:
        limit = store.norms(hook).limit(10)
        everything = store.statistics(hook).mean
        kept = _mean_of_kept_rows(store, hook, limit)
        assert kept.equal(store.statistics(hook, limit).mean)
        assert not kept.allclose(everything)
        for other in (None, limit / 1000):  # a limit of another model's norms
            assert _mean_of_kept_rows(store, hook, other).equal(everything)
    older = synthetic.as_older(store)
    assert _mean_of_kept_rows(older, hook, limit).equal(everything)
