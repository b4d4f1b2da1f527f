"""Many shards, one of which may hold every match: nothing is lost, nothing selected twice.

A sharded top-k elsewhere keeps a fixed number of candidates per shard and loses matches beyond four shards. Real
processes prove the exchanges on up to four ranks; here threads stand for more.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from distsae.allocation import (
    FeatureSelector,
    Matches,
    MutualSelector,
    Placement,
    PricedSelector,
    TokenSelector,
    feature_choice,
    mutual_choice,
    priced_choice,
    select,
    token_choice,
)
from distsae.collective import Solo
from tests.allocation.samples import chunks
from tests.allocation.thread_ranks import ThreadRank, Threads

TOKENS = 16
FEATURES = 90
K = 3
RULES = ("token_choice", "mutual_choice", "feature_choice", "priced_choice")


def _on_shards(size: int, work: Callable[[ThreadRank, range], list[Matches]]) -> list[Matches]:
    """Runs `work` for each shard of the features and returns the matches of all shards for each batch, by token."""
    threads = Threads(size)
    ends = [FEATURES * rank // size for rank in range(size + 1)]
    with ThreadPoolExecutor(size) as pool:
        parts = list(
            pool.map(lambda rank: work(ThreadRank(threads, rank), range(ends[rank], ends[rank + 1])), range(size))
        )
    return [Matches.joined(batch).by_token() for batch in zip(*parts, strict=True)]


def _batches(kind: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = [torch.randn(TOKENS, FEATURES, generator=generator) for _ in range(6)]
    for index, x in enumerate(found):
        if kind == "every match on one shard":
            x[:, 40:45] = x[:, 40:45].abs() + 10
        elif kind == "some matches on every shard":
            x[:, ::6] = x[:, ::6].abs() + 10
        elif kind == "another shard every time":
            x[:, 15 * index : 15 * index + 5] = x[:, 15 * index : 15 * index + 5].abs() * 1000**index
        elif kind == "all equal":
            x.fill_(1.5)
    return found


@pytest.mark.parametrize("size", [5, 8, 16])
@pytest.mark.parametrize(
    "kind", ["every match on one shard", "some matches on every shard", "another shard every time", "all equal"]
)
@pytest.mark.parametrize("rule", RULES)
def test_any_number_of_shards_selects_what_one_does(rule, kind, size):
    batches = _batches(kind)
    quotas = torch.arange(FEATURES) % TOKENS
    price = 1 + quotas.double() / 7

    def work(group: ThreadRank, features: range) -> list[Matches]:
        selector = {
            "token_choice": lambda: TokenSelector(K),
            "mutual_choice": lambda: MutualSelector(K),
            "feature_choice": lambda: FeatureSelector(len(features)),
            "priced_choice": lambda: PricedSelector(K, price[features.start : features.stop]),
        }[rule]()
        if isinstance(selector, FeatureSelector):
            selector.grant(quotas[features.start : features.stop])
        placement = Placement(group, Solo(), group, features.start, 0, FEATURES)
        found = []
        for batch in batches:
            local = batch[:, features.start : features.stop].contiguous()
            (matches,) = select([selector], lambda local=local: chunks(local, 4), placement, TOKENS)
            found.append(Matches(matches.token, matches.feature + features.start, matches.score))
        return found

    for batch, found in zip(batches, _on_shards(size, work), strict=True):
        expected = {
            "token_choice": lambda x: token_choice(x, K),
            "mutual_choice": lambda x: mutual_choice(x, K * TOKENS),
            "feature_choice": lambda x: feature_choice(x, quotas),
            "priced_choice": lambda x: priced_choice(x, price, K * TOKENS),
        }[rule](batch)
        if rule != "feature_choice":
            assert len(found) == K * TOKENS
        for name in ("token", "feature", "score"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
