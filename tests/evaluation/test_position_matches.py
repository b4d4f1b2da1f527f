import pytest
import torch

from distsae.evaluation.position_matches import PositionMatches

D_IN = 32


@pytest.fixture
def activations():
    return torch.randn(5, 6, D_IN, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def chosen():
    chosen = torch.rand(5, 6, generator=torch.Generator().manual_seed(4)) < 0.6
    chosen[2] = False
    return chosen


@pytest.mark.parametrize("rule", ["training", "frozen"])
@pytest.mark.parametrize("allocation", ["token_choice", "mutual_choice", "feature_choice"])
def test_the_chosen_rows_are_the_batch(by_hand, activations, chosen, allocation, rule):
    sae = by_hand.random(allocation)
    selected = PositionMatches(sae, activations, chosen, rule)
    matches = sae.matches(activations[chosen], rule=rule)
    assert selected.counts.tolist() == torch.bincount(matches.feature, minlength=64).tolist()
    assert torch.equal(selected.found[chosen], torch.bincount(matches.token, minlength=int(chosen.sum())))
    assert (selected.found[~chosen] == 0).all()
    x_hat = sae.decode_matches(matches, activations[chosen])
    for contexts in (slice(0, 5), slice(0, 2), slice(1, 4), slice(2, 3), slice(4, 5)):
        part = selected.reconstructed(activations[contexts], contexts)
        expected = activations.clone()
        expected[chosen] = x_hat.detach()
        torch.testing.assert_close(part, expected[contexts])
        kept = ~chosen[contexts]
        assert torch.equal(part[kept], activations[contexts][kept])


def test_nothing_chosen(by_hand, activations, chosen):
    selected = PositionMatches(by_hand.random(), activations, torch.zeros_like(chosen), "training")
    assert int(selected.counts.sum()) == int(selected.found.sum()) == 0
    part = selected.reconstructed(activations[:2], slice(0, 2))
    assert torch.equal(part, activations[:2])
    assert part.data_ptr() != activations.data_ptr()


def test_rows_without_matches_become_the_bias(by_hand, activations, chosen):
    output = torch.linspace(-1, 1, D_IN)
    part = PositionMatches(by_hand.constant(output), activations, chosen, "frozen").reconstructed(
        activations, slice(0, 5)
    )
    torch.testing.assert_close(part[chosen], output.expand(int(chosen.sum()), -1))
