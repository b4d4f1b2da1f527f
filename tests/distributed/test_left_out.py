"""A step on a batch in which rows are left out is the step on the other rows alone, on every mesh."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distsae.allocation import FeatureSelector, Matches, MutualSelector
from distsae.parallel import Mesh, MeshConfig, build_mesh
from distsae.training import Selectors, forward_backward
from distsae.training.step import NONE_LEFT_OUT, fitted_encoder_scale, left_out_of
from tests.distributed.processes import run_on_mesh
from tests.training.dense_step import ALPHA, K_AUX, dense_step
from tests.training.samples import (
    D_IN,
    D_SAE,
    RULES,
    TOKENS,
    activations,
    credit,
    dense_gradients,
    mean_and_variance,
    moved_shard_on,
    selector_on,
    shard_on,
)

SHAPES = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3))
LEFT_OUT = torch.tensor([0, 1, 7, 30, 51, 77])  # more of them in the first half than in the second
MEMBERS = torch.arange(D_SAE) % 3 == 0


def _batch() -> Tensor:
    """Returns the rows of `activations(0)`, among them rows of a thousand times their norm."""
    x = torch.empty(TOKENS + len(LEFT_OUT), D_IN, dtype=torch.float64)
    x[LEFT_OUT] = 1000 * activations(1)[: len(LEFT_OUT)]
    x[_kept()] = activations(0)
    return x


def _kept() -> Tensor:
    kept = torch.ones(TOKENS + len(LEFT_OUT), dtype=torch.bool)
    kept[LEFT_OUT] = False
    return kept.nonzero().squeeze(1)


def _share(mesh: Mesh) -> tuple[Tensor, Tensor, int]:
    """Returns this data rank's rows, the indices of those that are left out, and the global index of the first row."""
    x = _batch()
    rows = len(x) // mesh.data.size
    first = mesh.data.rank * rows
    here = LEFT_OUT[(first <= LEFT_OUT) & (first + rows > LEFT_OUT)] - first
    return x[first : first + rows], here, first


def _step(mesh: Mesh, rule: str):
    shard = moved_shard_on(mesh)
    features = mesh.features(D_SAE)
    x, rows, first = _share(mesh)
    selector = selector_on(mesh, rule)
    if isinstance(selector, FeatureSelector):
        selector.grant(credit().pay(TOKENS)[features.start : features.stop])
    auxiliary = MutualSelector(K_AUX, MEMBERS[features.start : features.stop])
    (left_out,) = left_out_of([rows], mesh)
    mean, variance = mean_and_variance()
    selectors = Selectors(selector, auxiliary)
    outcome = forward_backward(shard, x, mesh, selectors, mean, variance, ALPHA, left_out=left_out)
    gradients = dense_gradients(outcome.gradients.gathered(mesh.data), shard, mesh)
    gradients = {n: t if n == "b_dec" else torch.cat(mesh.feature.gather(t)) for n, t in gradients.items()}
    found = outcome.matches
    matches = Matches(found.token + first, found.feature + features.start, found.score)
    return matches, outcome, gradients, selector.shortfall


@pytest.mark.parametrize("rule", RULES)
def test_the_step_is_that_of_the_other_rows(rule):
    shard = moved_shard_on(build_mesh(MeshConfig(), 1, "cpu"))
    expected = dense_step(shard, activations(0), rule, MEMBERS)
    energy = (activations(0) - mean_and_variance()[0]).square().sum().item()
    for shape in SHAPES:
        ranks = run_on_mesh(_step, shape, rule)
        together = Matches.joined([rank[0] for rank in ranks]).by_token()
        assert torch.equal(together.token, _kept()[expected.matches.token]), shape
        assert torch.equal(together.feature, expected.matches.feature), shape
        for _, outcome, gradients, shortfall in ranks:
            assert outcome.tokens == TOKENS
            assert outcome.loss == pytest.approx(expected.loss, rel=1e-12), shape
            assert outcome.aux_loss == pytest.approx(expected.aux_loss, rel=1e-12), shape
            assert outcome.energy == pytest.approx(energy, rel=1e-12), shape
            assert shortfall == 0
            for name, tensor in expected.gradients.items():
                torch.testing.assert_close(gradients[name], tensor, rtol=1e-10, atol=1e-13, msg=f"{name}, {shape}")


def _fitted(mesh: Mesh, rule: str) -> float:
    x, rows, _ = _share(mesh)
    features = mesh.features(D_SAE)
    quotas = credit()
    quotas.quota_per_token = quotas.quota_per_token[features.start : features.stop]
    quotas.credit = quotas.credit[features.start : features.stop]
    quotas._feature = mesh.feature
    parts = [(x, left_out_of([rows], mesh)[0])]
    return fitted_encoder_scale(shard_on(mesh), parts, mesh, selector_on(mesh, rule), quotas)


@pytest.mark.parametrize("rule", RULES)
def test_the_scale_of_the_encoder_is_the_least_squares_one_of_the_other_rows_on_every_mesh(rule):
    alone = build_mesh(MeshConfig(), 1, "cpu")
    shard = shard_on(alone)
    x = activations(0)
    found = dense_step(shard, x, rule).matches
    with torch.no_grad():
        centred = x - shard.b_dec
        x_hat = (centred @ shard.W_enc.T * (found.dense(TOKENS, D_SAE) > 0)) @ shard.W_dec
        best = float((x_hat * centred).sum() / x_hat.square().sum())
        errors = [(scale * x_hat - centred).square().sum() for scale in (best, 0.98 * best, 1.02 * best)]
    assert errors[0] < min(errors[1:])
    assert 0.1 < best < 1
    for shape in SHAPES:
        assert {*run_on_mesh(_fitted, shape, rule)} == {float(f"{best:.4g}")}, shape


def test_rows_without_any_match_leave_the_encoder_as_it_is():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    shard = shard_on(mesh)
    x = shard.b_dec.detach().expand(8, D_IN)
    assert fitted_encoder_scale(shard, [(x, NONE_LEFT_OUT)], mesh, selector_on(mesh, "mutual_choice")) == 1.0


def test_a_batch_of_left_out_rows_alone_changes_nothing():
    mesh = build_mesh(MeshConfig(), 1, "cpu")
    shard = moved_shard_on(mesh)
    (left_out,) = left_out_of([torch.arange(TOKENS)], mesh)
    selectors = Selectors(selector_on(mesh, "mutual_choice"))
    outcome = forward_backward(shard, activations(0), mesh, selectors, *mean_and_variance(), ALPHA, left_out=left_out)
    assert (outcome.tokens, len(outcome.matches), outcome.loss, outcome.energy) == (0, 0, 0.0, 0.0)
    assert all(not tensor.any() for tensor in dense_gradients(outcome.gradients, shard, mesh).values())
