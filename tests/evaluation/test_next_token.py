import numpy as np
import pytest
import torch
from torch.nn import functional

from distsae.evaluation.next_token import divergences, token_losses


def logits(seed, scale=3.0, vocabulary=300):
    return scale * torch.randn(2, 5, vocabulary, generator=torch.Generator().manual_seed(seed))


def plain(clean, spliced):
    log_p, log_q = (part[:, :-1].double().log_softmax(-1).numpy() for part in (clean, spliced))
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def test_losses_are_those_of_the_next_token():
    token_ids = torch.randint(0, 300, (2, 5), generator=torch.Generator().manual_seed(9))
    expected = functional.cross_entropy(logits(0)[:, :-1].transpose(1, 2), token_ids[:, 1:], reduction="none")
    torch.testing.assert_close(token_losses(logits(0), token_ids), expected)


@pytest.mark.parametrize("vocabulary", [3, 300, 100_000], ids=["a few", "some", "pieces of one row"])
def test_divergence_against_its_definition(vocabulary):
    clean, spliced = (logits(seed, vocabulary=vocabulary) for seed in (0, 1))
    np.testing.assert_allclose(divergences(clean, spliced).numpy(), plain(clean, spliced), rtol=1e-11)


def test_small_divergences_are_not_rounding():
    clean = logits(0)
    spliced = clean + 1e-4 * logits(1)
    np.testing.assert_allclose(divergences(clean, spliced).numpy(), plain(clean, spliced), rtol=1e-6)


def test_the_same_predictions_do_not_diverge_and_others_do():
    clean = logits(0)
    assert divergences(clean, clean).abs().max() < 1e-14
    torch.testing.assert_close(
        divergences(clean, clean + 7.0), torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-5
    )
    assert (divergences(clean, logits(1)) > 0.1).all()
    assert not torch.allclose(divergences(clean, logits(1)), divergences(logits(1), clean))  # it has a direction


def test_tokens_that_cannot_come_have_no_share():
    clean, spliced = logits(0), logits(1)
    clean[..., 3] = spliced[..., 3] = -torch.inf
    rest = [part[..., torch.arange(300) != 3] for part in (clean, spliced)]
    torch.testing.assert_close(divergences(clean, spliced), divergences(*rest))


def test_logits_are_left_as_they_are():
    clean, spliced = logits(0).double(), logits(1).double()
    kept = spliced.clone()
    divergences(clean, spliced)
    assert torch.equal(spliced, kept)
