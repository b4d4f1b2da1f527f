"""Which positions are replaced, selected for and counted when rows are left out, and which passes that takes."""

import pytest
import torch

from distsae.evaluation.block import Block, passes
from distsae.evaluation.next_token import token_losses
from distsae.evaluation.spliced_model import SplicedModel

HOOK, D_IN, EXCLUDED = "blocks.0.resid_post", 32, 1


@pytest.fixture(scope="module")
def clean(tiny_model, token_ids):
    return SplicedModel(tiny_model, HOOK).clean(token_ids)


@pytest.fixture(scope="module")
def norms(clean):
    return clean.activations.double().norm(dim=-1)


@pytest.fixture(scope="module")
def limit(norms):
    """Four rows are over it, in contexts 0 to 6."""
    return float(norms[:, EXCLUDED:].flatten().sort().values[-4]) * (1 - 1e-9)


def block(sae, model, token_ids, excluded=EXCLUDED, batch=3, done=None):
    spliced = SplicedModel(model, HOOK)
    made = Block(
        sae,
        spliced,
        token_ids,
        mean=torch.zeros(D_IN),
        excluded=excluded,
        batch_contexts=batch,
        advance=(done if done is not None else []).append,
    )
    return made.measure(torch.bincount(token_ids.flatten()), 0)


def test_rows_over_the_limit_keep_their_activation_and_do_not_count(
    by_hand, tiny_model, token_ids, clean, norms, limit
):
    output = torch.linspace(-1, 1, D_IN)
    sae = by_hand.constant(output, max_norm=limit)
    found = block(sae, tiny_model, token_ids)
    kept = norms <= limit
    kept[:, :EXCLUDED] = False
    assert found.rows_left_out == 4
    assert torch.equal(found.sums["rows"], kept.sum(1).double())
    assert torch.equal(found.rows.norm, norms[kept].float())
    activations = clean.activations.clone()
    activations[kept] = output
    spliced = SplicedModel(tiny_model, HOOK)
    spliced.clean(token_ids)
    losses = token_losses(spliced.spliced_logits(clean, activations), token_ids)
    expected = (losses.double() * kept[:, :-1]).sum(1)
    torch.testing.assert_close(found.rules["training"].sums["ce_spliced"], expected)
    torch.testing.assert_close(found.sums["ce_clean"], (clean.losses.double() * kept[:, :-1]).sum(1))


def test_the_budget_is_shared_over_the_rows_that_are_kept(by_hand, tiny_model, token_ids, limit):
    for allocation in ("mutual_choice", "feature_choice"):
        found = block(by_hand.random(allocation, max_norm=limit), tiny_model, token_ids)
        assert int(found.rules["training"].counts.sum()) <= 6 * (105 - 4)
        assert len(found.rules["training"].features_per_token) == len(found.rules["frozen"].squared_error) == 101
    assert int(block(by_hand.random(max_norm=limit), tiny_model, token_ids).rules["training"].counts.sum()) == 6 * 101


@pytest.mark.parametrize("max_norm", [None, 1e9])
def test_without_rows_left_out_the_model_runs_no_more_than_before(by_hand, tiny_model, token_ids, max_norm):
    sae, calls, done = by_hand.random(max_norm=max_norm), [], []
    handle = tiny_model.transformer.ln_f.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    found = block(sae, tiny_model, token_ids, done=done)
    handle.remove()
    trial, again = 2 * 3, 7  # contexts: two trials on the first batch, and the clean logits once more
    assert sum(calls) == 7 * passes(sae, EXCLUDED) + trial + again
    assert sum(done) == 7 * passes(sae, EXCLUDED) * token_ids.shape[1]
    frozen = found.rules["frozen"].sums
    for name, values in found.with_left_out.items():
        assert torch.equal(values, (found.sums | frozen)[name]), name
    assert "kl" not in found.with_left_out


def test_only_contexts_with_rows_left_out_run_again(by_hand, tiny_model, token_ids, norms, limit):
    calls = []
    handle = tiny_model.transformer.ln_f.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    block(by_hand.random(), tiny_model, token_ids)
    without = sum(calls)
    calls.clear()
    found = block(by_hand.random(max_norm=limit), tiny_model, token_ids)
    handle.remove()
    touched = int((norms[:, EXCLUDED:] > limit).any(1).sum())
    assert 0 < touched < 7
    assert sum(calls) == without + 3 * touched  # the reconstruction and two ablations
    assert found.with_left_out["rows"].tolist() == [15.0] * 7
    assert found.with_left_out["predictions"].tolist() == [14.0] * 7


@pytest.mark.parametrize(
    ("excluded", "allocation", "expected"), [(0, "token_choice", 4), (0, "mutual_choice", 5), (2, "token_choice", 7)]
)
def test_number_of_passes(by_hand, excluded, allocation, expected):
    assert passes(by_hand.random(allocation), excluded) == expected


@pytest.mark.parametrize("max_norm", [None, "some"])
def test_without_excluded_positions_every_row_is_every_position(by_hand, tiny_model, token_ids, limit, max_norm):
    sae = by_hand.random(max_norm=limit if max_norm else None)
    found = block(sae, tiny_model, token_ids, excluded=0)
    for name, values in found.everywhere.items():
        assert torch.equal(values, found.with_left_out[name])
    assert found.everywhere["predictions"].tolist() == [15.0] * 7
