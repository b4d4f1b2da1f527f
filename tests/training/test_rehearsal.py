"""A rehearsal counts the matches of Mutual Choice, starting with the statistics of Mutual Choice so far."""

import torch

from distsae.allocation import MutualSelector, Placement, mutual_choice, select
from distsae.collective import Solo
from distsae.losses import FiringStatistics
from distsae.training.rehearsal import Rehearsal

FEATURES = 12
TOKENS = 30
K = 2


def _before():
    statistics = FiringStatistics(FEATURES, window_tokens=200, dead_after_tokens=100)
    statistics.update(torch.arange(FEATURES).repeat_interleave(torch.arange(FEATURES)), TOKENS, Solo())
    return statistics


def test_it_starts_with_a_copy_of_the_statistics_so_far():
    before = _before()
    rehearsal = Rehearsal(K, before)
    assert torch.equal(rehearsal.statistics.density(), before.density())
    assert rehearsal.statistics.window_tokens == before.window_tokens
    rehearsal.statistics.update(torch.zeros(5, dtype=torch.long), TOKENS, Solo())
    assert torch.equal(before.density(), _before().density())


def test_its_selector_is_mutual_choice():
    scores = torch.randn(TOKENS, FEATURES, generator=torch.Generator().manual_seed(0))
    selector = Rehearsal(K, _before()).selector
    assert isinstance(selector, MutualSelector)
    (found,) = select([selector], lambda: [(0, scores.t().contiguous())], Placement.solo(FEATURES), TOKENS)
    assert torch.equal(found.by_token().feature, mutual_choice(scores, K * TOKENS).feature)


def test_its_tensors_are_live_and_have_names_of_their_own():
    rehearsal, before = Rehearsal(K, _before()), _before()
    assert rehearsal.tensors().keys() == {"rehearsal.matches", "rehearsal.tokens_since_fired", "rehearsal.tokens"}
    rehearsal.statistics.update(torch.tensor([3]), TOKENS, Solo())
    resumed = Rehearsal(K, before)
    for name, tensor in resumed.tensors().items():
        tensor.copy_(rehearsal.tensors()[name])
    assert torch.equal(resumed.statistics.density(), rehearsal.statistics.density())
