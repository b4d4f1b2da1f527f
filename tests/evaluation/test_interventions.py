import pytest
import torch

from distsae.evaluation.interventions import Interventions
from distsae.evaluation.next_token import divergences, token_losses
from distsae.evaluation.positions import Positions
from distsae.evaluation.spliced_model import SplicedModel

D_IN = 32


@pytest.fixture(scope="module")
def spliced(tiny_model):
    return SplicedModel(tiny_model, "blocks.0.resid_post")


@pytest.fixture(scope="module")
def clean(spliced, token_ids):
    return spliced.clean(token_ids)


@pytest.fixture(scope="module")
def positions(token_ids):
    chosen = torch.rand(token_ids.shape, generator=torch.Generator().manual_seed(5)) < 0.7
    chosen[:, 0] = False
    return Positions(chosen, 1)


def at(spliced, clean, positions, value):
    """Losses with `value` at the chosen positions, and the logits."""
    activations = clean.activations.clone()
    activations[positions.chosen] = value
    logits = spliced.spliced_logits(clean, activations)
    return token_losses(logits, clean.token_ids), logits


def test_ablations_replace_and_count_the_chosen_positions(spliced, clean, positions):
    mean = torch.linspace(-1, 1, D_IN)
    sums = Interventions(spliced, mean).ablations(clean, positions)
    counted = positions.chosen[:, :-1]
    assert torch.equal(sums["predictions"], counted.sum(1).double())
    for name, losses in (
        ("ce_clean", clean.losses),
        ("ce_zero", at(spliced, clean, positions, 0.0)[0]),
        ("ce_mean", at(spliced, clean, positions, mean)[0]),
    ):
        torch.testing.assert_close(sums[name], (losses.double() * counted).sum(1))


def test_reconstructions_with_and_without_the_divergence(spliced, clean, positions):
    x_hat = clean.activations + 0.2
    interventions = Interventions(spliced, torch.zeros(D_IN))
    losses, logits = at(spliced, clean, positions, x_hat[positions.chosen])
    counted = positions.chosen[:, :-1]
    plain = interventions.reconstruction(clean, positions, x_hat)
    torch.testing.assert_close(plain["ce_spliced"], (losses.double() * counted).sum(1))
    clean_logits = spliced.clean_logits(clean)
    compared = interventions.compared(clean, clean_logits, positions, x_hat)
    assert torch.equal(compared["ce_spliced"], plain["ce_spliced"])
    torch.testing.assert_close(compared["kl"], (divergences(clean_logits, logits) * counted).sum(1))
    assert (compared["kl"] > 0).all()
