"""Micro-batches: each has rows of every stream, and all of them make one step."""

import dataclasses

import pytest
import torch

from distsae.allocation import MutualSelector
from distsae.batches import Batch
from distsae.errors import WrongInput
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import Selectors, forward_backward, train
from distsae.training.step.accumulation import joined_outcome, micro_batches
from tests.training.dense_step import ALPHA, K_AUX
from tests.training.sample_runs import config_of, metrics
from tests.training.samples import (
    D_SAE,
    TOKENS,
    K,
    activations,
    dense_gradients,
    mean_and_variance,
    moved_shard_on,
    selector_on,
)

MESH = build_mesh(MeshConfig(), 1, "cpu")
STREAMS = 8


def test_micro_batches_hold_the_same_rows_for_any_number_of_data_ranks():
    x = torch.arange(96.0)[:, None].expand(96, 2)
    left_out = torch.tensor([0, 5, 47, 48, 90])
    batch = Batch(x, left_out)
    whole = micro_batches(batch, 8, 3)
    assert [part.x.shape[0] for part in whole] == [32, 32, 32]
    assert torch.equal(torch.cat([part.x for part in whole]).sort(0).values, x)
    assert torch.equal(torch.cat([part.x[part.left_out, 0] for part in whole]).sort().values, left_out.float())
    halves = [micro_batches(half, 4, 3) for half in (Batch(x[:48], left_out[:3]), Batch(x[48:], left_out[3:] - 48))]
    for number in range(3):
        joined = Batch.joined([half[number] for half in halves])
        assert torch.equal(joined.x, whole[number].x)
        assert torch.equal(joined.left_out, whole[number].left_out)
    assert micro_batches(batch, 8, 1)[0] is batch
    assert all(part.left_out is None for part in micro_batches(Batch(x), 8, 3))


def _outcome(shard, x, share=1.0):
    auxiliary = MutualSelector(K_AUX, torch.arange(D_SAE) % 3 == 0)
    selectors = Selectors(selector_on(MESH, "mutual_choice"), auxiliary, (selector_on(MESH, "token_choice"),))
    return forward_backward(shard, x, MESH, selectors, *mean_and_variance(), ALPHA, share)


def test_a_step_of_micro_batches_is_their_average():
    shard, x = moved_shard_on(MESH), activations(0)
    parts = [part.x for part in micro_batches(Batch(x), STREAMS, 3)]
    alone = [_outcome(shard, part) for part in parts]
    together = joined_outcome([_outcome(shard, part, 1 / 3) for part in parts])
    assert together.loss == pytest.approx(sum(outcome.loss for outcome in alone) / 3)
    assert together.aux_loss == pytest.approx(sum(outcome.aux_loss for outcome in alone) / 3)
    assert together.squared_error == pytest.approx(sum(outcome.squared_error for outcome in alone))
    assert together.energy == pytest.approx(_outcome(shard, x).energy)
    assert len(together.matches) == sum(len(outcome.matches) for outcome in alone) == K * TOKENS
    assert len(together.observed[0]) == K * TOKENS
    assert int(together.matches.token.max()) >= 2 * TOKENS // 3
    gradients = [dense_gradients(outcome.gradients, shard, MESH) for outcome in alone]
    for name, found in dense_gradients(together.gradients, shard, MESH).items():
        torch.testing.assert_close(found, sum(gradient[name] for gradient in gradients) / 3, rtol=1e-10, atol=1e-14)


def test_a_single_micro_batch_is_the_batch():
    outcome = _outcome(moved_shard_on(MESH), activations(0))
    assert joined_outcome([outcome]) is outcome


def test_token_choice_is_the_same_with_and_without_micro_batches(tiny_store, tmp_path):
    """Matches are selected for each token separately, so only the order of sums differs."""
    whole = config_of(tiny_store, tmp_path / "whole", allocation="token_choice", aux="none")
    train(whole)
    train(dataclasses.replace(whole, out=str(tmp_path / "parts"), accumulation=4))
    for line, other in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"), strict=True):
        assert other["l0"] == line["l0"] == 4
        for name in ("loss", "fvu", "grad_norm"):
            assert other[name] == pytest.approx(line[name], rel=1e-3)


@pytest.mark.parametrize("method", [{}, {"finetune_fc_from": 0.5}], ids=["MC", "MC, FC"])
def test_every_micro_batch_spends_its_budget(method, tiny_store, tmp_path):
    train(config_of(tiny_store, tmp_path / "run", accumulation=2, **method))
    lines = metrics(tmp_path / "run")
    assert all(line["l0"] == 4 and line["shortfall"] == 0 for line in lines)
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


def test_a_number_that_does_not_divide_every_stream_is_refused(tiny_store, tmp_path):
    with pytest.raises(WrongInput, match=r"`accumulation` \(=3\) must be at least 1 and, times 64, divide"):
        config_of(tiny_store, tmp_path / "run", accumulation=3)
