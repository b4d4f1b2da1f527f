"""The pass over one batch on one process: losses, and gradients against finite differences, in fp64."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.errors import NonFiniteScores
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import Selectors, forward_backward
from tests.training.dense_step import ALPHA, K_AUX, dense_step
from tests.training.samples import (
    D_SAE,
    RULES,
    TOKENS,
    activations,
    credit,
    dense_gradients,
    mean_and_variance,
    moved_shard_on,
    selector_on,
)

MESH = build_mesh(MeshConfig(), 1, "cpu")
MEMBERS = torch.arange(D_SAE) % 3 == 0


def _selectors(rule, auxiliary):
    selector = selector_on(MESH, rule)
    if isinstance(selector, FeatureSelector):
        selector.grant(credit().pay(TOKENS))
    return [selector, *([MutualSelector(K_AUX, MEMBERS)] if auxiliary else [])]


def _step(shard, x, rule="mutual_choice", auxiliary=True):
    mean, variance = mean_and_variance()
    return forward_backward(shard, x, MESH, Selectors(*_selectors(rule, auxiliary)), mean, variance, ALPHA)


def _gradients(shard, outcome):
    return dense_gradients(outcome.gradients, shard, MESH)


@pytest.mark.parametrize("rule", RULES)
def test_energies_are_those_of_the_batch(rule):
    """tests/distributed/test_step.py compares losses and gradients with dense autograd, on every mesh."""
    shard, x = moved_shard_on(MESH), activations(0)
    mean, _ = mean_and_variance()
    outcome = _step(shard, x, rule)
    x_hat = outcome.matches.dense(TOKENS, D_SAE) @ shard.W_dec + shard.b_dec
    assert outcome.squared_error == pytest.approx((x - x_hat).square().sum().item(), rel=1e-12)
    assert outcome.energy == pytest.approx((x - mean).square().sum().item(), rel=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec"])
def test_the_gradient_predicts_small_changes_of_the_loss(rule, name):
    """Finite differences, without autograd, of the loss that the step returns and of the auxiliary loss."""
    shard = moved_shard_on(MESH)
    x = activations(0)
    h = 1e-6
    main = _gradients(shard, _step(shard, x, rule, auxiliary=False))[name]
    gain = _gradients(shard, _step(shard, x, rule))[name] - main
    found = dense_step(shard, x, rule, MEMBERS)
    direction = torch.randn(main.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses, aux_losses = [], []
    for sign in (1, -1):
        moved = moved_shard_on(MESH)
        getattr(moved, name).data += sign * h * direction
        losses.append(_step(moved, x, rule, auxiliary=False).loss)
        there = dense_step(moved, x, rule, MEMBERS, found.residual)  # the residual is a constant
        aux_losses.append(there.aux_loss)
        for chosen, before in ((there.matches, found.matches), (there.auxiliary, found.auxiliary)):
            assert torch.equal(chosen.token, before.token)  # otherwise the loss jumps
            assert torch.equal(chosen.feature, before.feature)
    slope, aux_slope = ((plus - minus) / (2 * h) for plus, minus in (losses, aux_losses))
    assert slope == pytest.approx((main * direction).sum().item(), rel=1e-6)
    assert ALPHA * aux_slope == pytest.approx((gain * direction).sum().item(), rel=1e-6)
    assert abs(slope) > 1e-3
    assert abs(aux_slope) > 1e-3


def test_the_residual_is_detached():
    """Otherwise the auxiliary loss would also train the main reconstruction."""
    shard, x = moved_shard_on(MESH), activations(0)
    main = _gradients(shard, _step(shard, x, auxiliary=False))["W_dec"]
    both = _gradients(shard, _step(shard, x))["W_dec"]
    trained = torch.bincount(dense_step(shard, x, "mutual_choice", MEMBERS).auxiliary.feature, minlength=D_SAE) > 0
    assert torch.equal(both[~trained], main[~trained])
    assert (both[trained] - main[trained]).abs().max() > 1e-4


def test_a_perfect_reconstruction_has_no_loss_and_no_gradient():
    shard, x = moved_shard_on(MESH), activations(0)
    perfect = shard.b_dec.detach().expand_as(x).clone()
    with torch.no_grad():
        shard.b_enc.fill_(-1.0)  # no feature fires, and `b_dec` alone reconstructs
    outcome = _step(shard, perfect)
    assert (outcome.loss, outcome.aux_loss, len(outcome.matches)) == (0.0, 0.0, 0)
    for gradient in _gradients(shard, outcome).values():
        assert (gradient == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_score_that_is_not_finite_raises(rule):
    shard, x = moved_shard_on(MESH), activations(0)
    x[3, 2] = torch.inf
    with pytest.raises(NonFiniteScores, match="64 scores are not finite"):
        _step(shard, x, rule, auxiliary=False)


def test_an_observer_selects_and_changes_nothing():
    """Mutual Choice beside Token Choice selects what it selects alone, and the gradients are the same as without it."""
    (mean, variance), x = mean_and_variance(), activations(0)

    def step(rule, observers=()):
        shard = moved_shard_on(MESH)
        selector = selector_on(MESH, rule)
        outcome = forward_backward(shard, x, MESH, Selectors(selector, None, observers), mean, variance, ALPHA)
        return outcome, list(_gradients(shard, outcome).values())

    observed_step, gradients = step("token_choice", (selector_on(MESH, "mutual_choice"),))
    alone, expected = step("token_choice")
    assert observed_step.loss == alone.loss
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    mutual, _ = step("mutual_choice")
    assert alone.observed == ()
    (observed,) = observed_step.observed
    for name in ("token", "feature", "score"):
        assert torch.equal(getattr(observed, name), getattr(mutual.matches, name))


def test_descending_these_gradients_lowers_the_loss():
    shard = moved_shard_on(MESH)
    losses = []
    for step in range(40):
        outcome = _step(shard, activations(step % 8))
        losses.append(outcome.loss)
        with torch.no_grad():
            for name, gradient in _gradients(shard, outcome).items():
                getattr(shard, name).sub_(0.3 * gradient)
            shard.normalise_decoder()
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])
