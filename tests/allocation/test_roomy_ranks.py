"""A fixed number of places on several ranks with a pretended GPU each: the same selection, whoever lacks places."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from distsae.allocation import (
    FeatureSelector,
    Matches,
    MutualSelector,
    Placement,
    TokenSelector,
    TrainingSelector,
    feature_choice,
    mutual_choice,
    select,
    token_choice,
)
from distsae.collective import Solo
from tests.allocation.samples import scores
from tests.allocation.test_roomy_features import Searchable
from tests.allocation.thread_ranks import ThreadRank, Threads
from tests.pretended_cuda import CUDA, pretended_cuda
from tests.pretended_cuda.pretending import Dispatched

TOKENS, FEATURES, K, CHUNK = 24, 60, 3, 8
SELECTORS: dict[str, Callable[[int], TrainingSelector]] = {
    "token_choice": lambda features: TokenSelector(K),
    "mutual_choice": lambda features: MutualSelector(K),
    "feature_choice": FeatureSelector,
}
PLAIN = {
    "token_choice": lambda batch, quotas: token_choice(batch, K),
    "mutual_choice": lambda batch, quotas: mutual_choice(batch, K * TOKENS),
    "feature_choice": feature_choice,
}


def _batches():
    """Batches of which some have far more candidates on one rank than the ones before."""
    generator = torch.Generator().manual_seed(0)
    for kind in ("normal", "normal", "normal", "tied", "skewed", "normal", "equal", "sparse"):
        batch = scores(kind, TOKENS, FEATURES, generator)
        if kind == "skewed":
            batch[:, :20] = batch[:, :20].abs() * 50
        yield batch, torch.randint(0, 4, (FEATURES,), generator=generator)


def _on_rank(rule, data, feature, world):
    tokens, features = TOKENS // data.size, FEATURES // feature.size
    placement = Placement(feature, data, world, feature.rank * features, data.rank * tokens, FEATURES)
    rows = slice(placement.first_token, placement.first_token + tokens)
    columns = slice(placement.first_feature, placement.first_feature + features)
    selector = SELECTORS[rule](features)
    found = []
    with Dispatched():
        for batch, quotas in _batches():
            local = batch[rows, columns].t().contiguous().to(CUDA)
            if isinstance(selector, FeatureSelector):
                selector.grant(quotas[columns].to(CUDA))

            def chunks(local=local):
                return [(first, Searchable(local, first, first + CHUNK)) for first in range(0, features, CHUNK)]

            (matches,) = select([selector], chunks, placement, tokens)
            token, feature_of = matches.token.cpu() + rows.start, matches.feature.cpu() + columns.start
            found.append((Matches(token, feature_of, matches.score.cpu()), selector.shortfall))
    return found


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2)], ids=lambda shape: f"{shape[0]}x{shape[1]}")
@pytest.mark.parametrize("rule", SELECTORS)
def test_ranks_select_what_one_does(rule, shape):
    ranks = shape[0] * shape[1]
    world = Threads(ranks)
    by_data = [Threads(shape[1]) for _ in range(shape[0])]
    by_feature = [Threads(shape[0]) for _ in range(shape[1])]

    def work(rank):
        row, column = divmod(rank, shape[1])
        feature = ThreadRank(by_data[row], column) if shape[1] > 1 else Solo()
        data = ThreadRank(by_feature[column], row) if shape[0] > 1 else Solo()
        return _on_rank(rule, data, feature, ThreadRank(world, rank))

    with pretended_cuda(), ThreadPoolExecutor(ranks) as pool:
        by_rank = list(pool.map(work, range(ranks)))
    for index, (batch, quotas) in enumerate(_batches()):
        found = Matches.joined([of_rank[index][0] for of_rank in by_rank]).by_token()
        expected = PLAIN[rule](batch, quotas)
        for name in ("token", "feature", "score"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), (index, name)
        budget = int(quotas.sum()) if rule == "feature_choice" else K * TOKENS
        assert {of_rank[index][1] for of_rank in by_rank} == {budget - len(expected)}
