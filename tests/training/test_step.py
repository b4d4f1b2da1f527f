"""The gradients that are written out by hand against autograd on dense matrices, in double precision."""

from __future__ import annotations

import pytest
import torch

from distsae.allocation import FeatureSelector, MutualSelector
from distsae.errors import NonFiniteScores
from distsae.parallel import MeshConfig, build_mesh
from distsae.training import training_step

from .samples import D_SAE, RULES, TOKENS, K, activations, credit, mean_and_variance, selector_on, shard_on

MESH = build_mesh(MeshConfig(), 1, "cpu")
ALPHA = 1 / 32


def _moved_shard():
    """Weights as in the midst of training: encoder and decoder apart, biases not zero."""
    shard = shard_on(MESH)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in shard.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        shard.normalise_decoder()
    return shard


def _dense_losses(shard, x, matches, auxiliary, mean, variance, detach=True):
    """The definition: every product dense, the selection given."""
    pre_acts = (x - shard.b_dec) @ shard.W_enc.t() + shard.b_enc

    def acts(chosen):
        mask = torch.zeros(TOKENS, D_SAE, dtype=torch.bool)
        mask[chosen.token, chosen.feature] = True
        return pre_acts.relu() * mask

    error = acts(matches) @ shard.W_dec + shard.b_dec - x
    loss = error.square().sum() / (TOKENS * variance)
    if auxiliary is None:
        return loss, torch.zeros(())
    residual = -error.detach() if detach else -error
    misfit = acts(auxiliary) @ shard.W_dec - residual
    return loss, misfit.square().sum() / residual.square().sum()


def _selectors(rule, auxiliary):
    selector = selector_on(MESH, rule)
    if isinstance(selector, FeatureSelector):
        selector.grant(credit().pay(TOKENS))
    return [selector, *([MutualSelector(2 * K, torch.arange(D_SAE) % 3 == 0)] if auxiliary else [])]


def _auxiliary_matches(shard, x):
    from distsae.allocation import Place, select

    (found,) = select(
        [MutualSelector(2 * K, torch.arange(D_SAE) % 3 == 0)],
        lambda: shard.encode_chunks(x - shard.b_dec.detach()),
        Place.solo(D_SAE),
        TOKENS,
    )
    return found


@pytest.mark.parametrize("auxiliary", [False, True], ids=["main", "main and auxiliary"])
@pytest.mark.parametrize("rule", RULES)
def test_losses_and_gradients_are_those_of_dense_autograd(rule, auxiliary):
    shard, x = _moved_shard(), activations(0)
    mean, variance = mean_and_variance()
    outcome = training_step(shard, x, MESH, D_SAE, _selectors(rule, auxiliary), mean, variance, ALPHA)
    by_hand = {name: parameter.grad.clone() for name, parameter in shard.named_parameters()}
    shard.zero_grad()

    chosen = _auxiliary_matches(shard, x) if auxiliary else None
    loss, aux_loss = _dense_losses(shard, x, outcome.matches, chosen, mean, variance)
    (loss + ALPHA * aux_loss).backward()
    assert outcome.loss == pytest.approx(loss.item(), rel=1e-12)
    assert outcome.aux_loss == pytest.approx(aux_loss.item(), rel=1e-12)
    for name, parameter in shard.named_parameters():
        torch.testing.assert_close(
            by_hand[name], parameter.grad, rtol=1e-10, atol=1e-13, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert by_hand[name].abs().max() > 0
    x_hat = outcome.matches.dense(TOKENS, D_SAE) @ shard.W_dec + shard.b_dec
    assert outcome.squared_error == pytest.approx((x - x_hat).square().sum().item(), rel=1e-12)
    assert outcome.energy == pytest.approx((x - mean).square().sum().item(), rel=1e-12)


def test_auxiliary_gradients_reach_encoder_and_decoder_rows():
    """A peer's fused encoder drops the gradient of the pre-activations: its auxiliary loss trains no encoder row."""
    shard, x = _moved_shard(), activations(0)
    with torch.no_grad():
        shard.b_enc[::3] = -0.5  # too quiet for the main selection, still positive here and there
    mean, variance = mean_and_variance()
    selectors = _selectors("mutual_choice", True)
    outcome = training_step(shard, x, MESH, D_SAE, selectors, mean, variance, ALPHA)
    with_it = {name: parameter.grad.clone() for name, parameter in shard.named_parameters()}
    training_step(shard, x, MESH, D_SAE, selectors[:1], mean, variance, ALPHA)
    trained = torch.bincount(_auxiliary_matches(shard, x).feature, minlength=D_SAE) > 0
    assert trained.any()
    assert not trained.all()
    for name in ("W_enc", "W_dec"):
        gain = (with_it[name] - getattr(shard, name).grad).norm(dim=1)
        assert (gain[trained] > 1e-6).all(), name
        assert (gain[~trained] == 0).all(), name
    assert outcome.aux_loss > 0


def test_the_residual_is_detached():
    """Otherwise the main reconstruction is pulled towards what makes the auxiliary loss small."""
    shard, x = _moved_shard(), activations(0)
    mean, variance = mean_and_variance()
    outcome = training_step(shard, x, MESH, D_SAE, _selectors("mutual_choice", True), mean, variance, ALPHA)
    by_hand = shard.W_dec.grad.clone()
    shard.zero_grad()
    chosen = _auxiliary_matches(shard, x)
    loss, aux_loss = _dense_losses(shard, x, outcome.matches, chosen, mean, variance, detach=False)
    (loss + ALPHA * aux_loss).backward()
    assert (by_hand - shard.W_dec.grad).abs().max() > 1e-4 * by_hand.abs().max()


def test_a_perfect_reconstruction_has_no_loss_and_no_gradient():
    shard, x = _moved_shard(), activations(0)
    mean, variance = mean_and_variance()
    perfect = shard.b_dec.detach().expand_as(x).clone()
    with torch.no_grad():
        shard.b_enc.fill_(-1.0)  # nothing fires, and b_dec alone is right
    outcome = training_step(shard, perfect, MESH, D_SAE, _selectors("mutual_choice", True), mean, variance, ALPHA)
    assert (outcome.loss, outcome.aux_loss, len(outcome.matches)) == (0.0, 0.0, 0)
    for parameter in shard.parameters():
        assert (parameter.grad == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_score_that_is_not_finite_raises(rule):
    shard, x = _moved_shard(), activations(0)
    x[3, 2] = torch.inf
    mean, variance = mean_and_variance()
    with pytest.raises(NonFiniteScores, match="64 scores are not finite"):
        training_step(shard, x, MESH, D_SAE, _selectors(rule, False), mean, variance, ALPHA)


def test_descending_these_gradients_lowers_the_loss():
    shard = _moved_shard()
    mean, variance = mean_and_variance()
    losses = []
    for step in range(40):
        selectors = _selectors("mutual_choice", True)
        outcome = training_step(shard, activations(step % 8), MESH, D_SAE, selectors, mean, variance, ALPHA)
        losses.append(outcome.loss)
        with torch.no_grad():
            for parameter in shard.parameters():
                parameter -= 0.3 * parameter.grad
            shard.normalise_decoder()
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])
