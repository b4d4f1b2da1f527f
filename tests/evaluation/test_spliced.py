import numpy as np
import pytest
import torch
from torch.nn import functional

from distsae.errors import WrongInput
from distsae.evaluation.spliced import capture_with_losses, loss_recovered, mean_loss, spliced_losses
from distsae.language_model import load_language_model

HOOK = "blocks.0.resid_post"


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return load_language_model(str(tiny_model_dir)).model


@pytest.fixture(scope="module")
def token_ids(model):
    return torch.randint(1, model.config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))


def test_clean_losses_are_the_models_own(model, token_ids):
    activations, losses = capture_with_losses(model, HOOK, token_ids)
    logits = model(token_ids).logits
    expected = functional.cross_entropy(logits[:, :-1].transpose(1, 2), token_ids[:, 1:], reduction="none")
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(activations, model(token_ids, output_hidden_states=True).hidden_states[1])


def test_the_activation_itself_changes_nothing(model, token_ids):
    activations, clean = capture_with_losses(model, HOOK, token_ids)
    for first in (0, 1, 5):
        same = spliced_losses(model, HOOK, token_ids, activations[:, first:], first)
        torch.testing.assert_close(same, clean, rtol=0, atol=0)


def test_earlier_positions_stay_clean(model, token_ids):
    _, clean = capture_with_losses(model, HOOK, token_ids)
    spliced = spliced_losses(model, HOOK, token_ids, torch.zeros(32), 4)
    torch.testing.assert_close(spliced[:, :4], clean[:, :4], rtol=0, atol=0)
    assert ((spliced[:, 4:] - clean[:, 4:]).abs() > 1e-6).all()


def test_a_hook_that_never_runs_is_refused(model, token_ids):
    # the blocks of a module list run, but the list itself never does
    with pytest.raises(WrongInput, match="must run once in a forward pass; got 0 times"):
        capture_with_losses(model, "transformer.h", token_ids)


def sums(clean, spliced, ablated):
    return {"ce_clean": np.array([clean]), "ce_spliced": np.array([spliced]), "ce_zero": np.array([ablated])}


@pytest.mark.parametrize(
    ("spliced", "expected"),
    [(2.0, 1.0), (10.0, 0.0), (4.0, 0.75), (12.0, -0.25)],
    ids=["as good as clean", "as bad as ablated", "between", "worse than ablated"],
)
def test_sign_of_loss_recovered(spliced, expected):
    assert loss_recovered("ce_spliced", "ce_zero")(sums(2.0, spliced, 10.0))[0] == pytest.approx(expected)


def test_nothing_to_recover():
    assert np.isnan(loss_recovered("ce_spliced", "ce_zero")(sums(2.0, 2.0, 2.0))[0])


def test_mean_loss():
    assert mean_loss("ce_clean")({"ce_clean": np.array([6.0]), "predictions": np.array([3.0])})[0] == 2.0
