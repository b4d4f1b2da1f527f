import pytest
import torch
from torch.nn import functional

from distsae.allocation import feature_choice, mutual_choice, token_choice
from distsae.errors import WrongInput
from distsae.evaluation.measure import block_bounds, measure
from distsae.evaluation.measured import Measured
from distsae.language_model import capture, splice

HOOK, D_IN = "blocks.0.resid_post", 32


def measured(sae, model, token_ids, **changes) -> Measured:
    values = {"mean": torch.zeros(D_IN), "excluded_positions": 1, "batch_contexts": 3, "block_rows": 10_000}
    return measure(sae, model, HOOK, token_ids, **(values | changes))


def losses(model, token_ids, at=None, positions=slice(0, 0)):
    """Losses [contexts, length - 1] of whole contexts, with `at` in place of the activations at `positions`."""

    def replace(acts):
        acts = acts.clone()
        acts[:, positions] = at
        return acts

    with splice(model, HOOK, replace if at is not None else lambda acts: acts):
        logits = model(token_ids).logits
    return functional.cross_entropy(logits[:, :-1].transpose(1, 2), token_ids[:, 1:], reduction="none")


@pytest.mark.parametrize("excluded", [0, 1, 3])
@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice", "feature_choice"])
def test_against_brute_force(by_hand, tiny_model, token_ids, allocation, excluded):
    sae = by_hand.random(allocation)
    found = measured(sae, tiny_model, token_ids, excluded_positions=excluded)
    x = capture(tiny_model, [HOOK], token_ids)[HOOK][:, excluded:].reshape(-1, D_IN).clone()
    scores = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc).relu().detach()
    dense = {"frozen": sae.encode(x).detach()}
    match allocation:
        case "token_choice":
            dense["training"] = token_choice(scores, 6).dense(len(x), 64)
        case "mutual_choice":
            dense["training"] = mutual_choice(scores, 6 * len(x)).dense(len(x), 64)
        case "feature_choice":
            quotas = found.rules["training"].counts  # the whole matches that the quotas became
            dense["training"] = feature_choice(scores, quotas).dense(len(x), 64)
    rows = slice(excluded, None)
    for rule, feature_acts in dense.items():
        part = found.rules[rule]
        assert torch.equal(part.features_per_token.long(), (feature_acts > 0).sum(1))
        assert torch.equal(part.counts, (feature_acts > 0).sum(0))
        x_hat = sae.decode(feature_acts).detach()
        error = (x - x_hat).square().sum(1)
        torch.testing.assert_close(part.squared_error, error, rtol=1e-4, atol=1e-4)
        assert float(part.sums["error"].sum()) == pytest.approx(float(error.sum()), rel=1e-5)
        at = x_hat.reshape(7, -1, D_IN)
        expected = losses(tiny_model, token_ids, at, rows)[:, excluded:].sum(1)
        torch.testing.assert_close(part.sums["ce_spliced"].float(), expected, rtol=1e-5, atol=1e-4)
    clean = losses(tiny_model, token_ids)[:, excluded:]
    torch.testing.assert_close(found.sums["ce_clean"].float(), clean.sum(1), rtol=1e-5, atol=1e-4)
    zero = losses(tiny_model, token_ids, torch.zeros(D_IN), rows)[:, excluded:]
    torch.testing.assert_close(found.sums["ce_zero"].float(), zero.sum(1), rtol=1e-5, atol=1e-4)
    assert found.sums["predictions"].tolist() == [15 - excluded] * 7
    by_row = found.rows.token_loss.reshape(7, -1)
    torch.testing.assert_close(by_row[:, :-1], clean)
    assert by_row[:, -1].isnan().all()


def test_token_choice_rules_are_one(by_hand, tiny_model, token_ids):
    found = measured(by_hand.random("token_choice"), tiny_model, token_ids)
    assert found.rules["training"] is found.rules["frozen"]
    assert (found.rules["training"].features_per_token == 6).all()


def test_the_training_rule_never_exceeds_its_budget_and_the_frozen_one_may(by_hand, tiny_model, token_ids):
    found = measured(by_hand.random(threshold=0.0), tiny_model, token_ids)
    assert int(found.rules["training"].counts.sum()) == 6 * 7 * 15
    assert int(found.rules["frozen"].counts.sum()) > 6 * 7 * 15


@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice", "feature_choice"])
def test_batch_size_does_not_matter(by_hand, tiny_model, token_ids, allocation):
    one, all_at_once = (
        measured(by_hand.random(allocation), tiny_model, token_ids, batch_contexts=size) for size in (1, 100)
    )
    for name, part in one.sums.items():
        torch.testing.assert_close(part, all_at_once.sums[name], rtol=1e-5, atol=1e-5)
    assert torch.equal(one.rules["training"].counts, all_at_once.rules["training"].counts)
    torch.testing.assert_close(
        one.rules["training"].sums["ce_spliced"],
        all_at_once.rules["training"].sums["ce_spliced"],
        rtol=1e-5,
        atol=1e-5,
    )


def test_blocks_do_not_matter_to_the_frozen_rule(by_hand, tiny_model, token_ids):
    whole, split = (measured(by_hand.random(), tiny_model, token_ids, block_rows=rows) for rows in (10_000, 31))
    assert (whole.blocks, split.blocks) == (1, 4)
    assert torch.equal(whole.rules["frozen"].counts, split.rules["frozen"].counts)
    torch.testing.assert_close(whole.rules["frozen"].sums["error"], split.rules["frozen"].sums["error"])
    assert int(split.rules["training"].counts.sum()) == int(whole.rules["training"].counts.sum())


def test_all_positions_splices_the_excluded_ones_too(by_hand, tiny_model, token_ids):
    output = torch.linspace(-1, 1, D_IN)
    found = measured(by_hand.constant(output), tiny_model, token_ids)
    everywhere = losses(tiny_model, token_ids, output, slice(0, None))
    torch.testing.assert_close(found.everywhere["ce_spliced"].float(), everywhere.sum(1), rtol=1e-5, atol=1e-4)
    assert found.everywhere["predictions"].tolist() == [15] * 7
    assert found.sums["predictions"].tolist() == [14] * 7


def test_blocks_are_even_and_whole():
    assert block_bounds(10, 15, 60) == [(0, 3), (3, 6), (6, 10)]
    assert block_bounds(3, 100, 10) == [(0, 1), (1, 2), (2, 3)]
    assert block_bounds(1, 15, 60) == [(0, 1)]
    for contexts in range(1, 40):
        bounds = block_bounds(contexts, 7, 30)
        assert [first for first, _ in bounds] == [0, *[last for _, last in bounds[:-1]]]
        assert bounds[-1][1] == contexts
        sizes = [last - first for first, last in bounds]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) * 7 <= 30


def test_a_limit_that_leaves_nothing_is_refused(by_hand, tiny_model, token_ids):
    with pytest.raises(
        WrongInput, match=r"`max_norm` \(=1e-09\) of the SAE must leave rows.*none of 105 rows under it"
    ):
        measured(by_hand.random(max_norm=1e-9), tiny_model, token_ids)


def test_a_limit_that_leaves_nothing_of_a_block(by_hand, tiny_model, token_ids):
    norms = capture(tiny_model, [HOOK], token_ids)[HOOK][:, 1:].double().norm(dim=-1)
    limit = float(norms.amin(1).max())  # no row of one context is under it, of the others some are
    found = measured(by_hand.random(max_norm=limit * (1 - 1e-9)), tiny_model, token_ids, block_rows=15)
    assert found.blocks == 7
    assert found.sums["rows"].min() == 0
    assert len(found.rows) == int((norms < limit).sum()) == found.sums["rows"].sum()


@pytest.mark.parametrize("hook", ["blocks.1.resid_pre", "blocks.1.attn_out", "blocks.1.mlp_out", "transformer.h.1.mlp"])
def test_starting_from_the_hook_changes_nothing(by_hand, tiny_model, token_ids, hook):
    norms = capture(tiny_model, [hook], token_ids)[hook][:, 1:].double().norm(dim=-1)
    sae = by_hand.random(threshold=0.1, max_norm=float(norms.quantile(0.95)))
    options = {"mean": torch.ones(D_IN), "excluded_positions": 1, "batch_contexts": 3, "block_rows": 60}
    resumed, whole = (measure(sae, tiny_model, hook, token_ids, resume=resume, **options) for resume in (True, False))
    assert resumed.rows_left_out > 0
    pairs = [(resumed.sums, whole.sums), (resumed.everywhere, whole.everywhere)]
    pairs.append((resumed.with_left_out, whole.with_left_out))
    pairs += [(resumed.rules[rule].sums, whole.rules[rule].sums) for rule in ("training", "frozen")]
    for ours, others in pairs:
        assert ours.keys() == others.keys()
        for name, values in ours.items():
            assert torch.equal(values, others[name]), name


def test_frequencies_are_those_in_all_evaluated_text(by_hand, tiny_model, token_ids):
    rows = measured(by_hand.random(), tiny_model, token_ids, block_rows=31).rows
    assert torch.equal(rows.token_id.long(), token_ids[:, 1:].flatten())
    for token, frequency in zip(rows.token_id.tolist(), rows.frequency.tolist(), strict=True):
        assert frequency == int((token_ids == token).sum())
    assert rows.context.tolist() == [context for context in range(7) for _ in range(15)]
