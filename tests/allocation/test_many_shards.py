"""Sixteen shards and one that holds every winner: nothing is lost, nothing selected twice.

A peer's sharded top-k keeps a fixed capacity a shard and loses matches beyond four of them. Real processes prove the
exchanges on up to four ranks; here threads stand for more.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor

from distsae.allocation import (
    FeatureSelector,
    Matches,
    MutualSelector,
    Placement,
    TokenSelector,
    feature_choice,
    mutual_choice,
    select,
    token_choice,
)
from distsae.collective import Solo
from tests.allocation.samples import chunks

TOKENS = 16
FEATURES = 90
K = 3
RULES = ("token_choice", "mutual_choice", "feature_choice")


class _Threads:
    """What the ranks of a group share."""

    def __init__(self, size: int) -> None:
        self.barrier, self.slots = Barrier(size, timeout=300), [torch.zeros(0)] * size


class _Thread:
    """A collective whose ranks are threads of this process."""

    def __init__(self, threads: _Threads, rank: int) -> None:
        self._threads = threads
        self.rank = rank
        self.size = len(threads.slots)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        self._threads.slots[self.rank] = tensor.clone()
        self._threads.barrier.wait()
        found = list(self._threads.slots)
        self._threads.barrier.wait()
        return found

    def stack(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.gather(tensor))

    def sum(self, tensor: Tensor) -> Tensor:
        return self.stack(tensor).sum(0).to(tensor.dtype)

    def max(self, tensor: Tensor) -> Tensor:
        return self.stack(tensor).amax(0)


def _on_shards(size: int, work: Callable[[_Thread, range], list[Matches]]) -> list[Matches]:
    """Runs `work` for each shard of the features and returns its batches' matches of all shards, by token."""
    threads, ends = _Threads(size), [FEATURES * rank // size for rank in range(size + 1)]
    with ThreadPoolExecutor(size) as pool:
        parts = list(
            pool.map(lambda rank: work(_Thread(threads, rank), range(ends[rank], ends[rank + 1])), range(size))
        )
    return [
        Matches(
            *(torch.cat([getattr(part, name) for part in batch]) for name in ("token", "feature", "score"))
        ).by_token()
        for batch in zip(*parts, strict=True)
    ]


def _batches(kind: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = [torch.randn(TOKENS, FEATURES, generator=generator) for _ in range(6)]
    for place, x in enumerate(found):
        if kind == "every winner on one shard":
            x[:, 40:45] = x[:, 40:45].abs() + 10
        elif kind == "one winner a shard":
            x[:, ::6] = x[:, ::6].abs() + 10
        elif kind == "another shard every time":
            x[:, 15 * place : 15 * place + 5] = x[:, 15 * place : 15 * place + 5].abs() * 1000**place
        elif kind == "all equal":
            x.fill_(1.5)
    return found


@pytest.mark.parametrize("size", [5, 8, 16])
@pytest.mark.parametrize(
    "kind", ["every winner on one shard", "one winner a shard", "another shard every time", "all equal"]
)
@pytest.mark.parametrize("rule", RULES)
def test_any_number_of_shards_selects_what_one_does(rule, kind, size):
    batches = _batches(kind)
    quotas = torch.arange(FEATURES) % TOKENS

    def work(group: _Thread, features: range) -> list[Matches]:
        selector = {
            "token_choice": lambda: TokenSelector(K),
            "mutual_choice": lambda: MutualSelector(K),
            "feature_choice": lambda: FeatureSelector(len(features)),
        }[rule]()
        if isinstance(selector, FeatureSelector):
            selector.grant(quotas[features.start : features.stop])
        place = Placement(group, Solo(), group, features.start, 0, FEATURES)
        found = []
        for batch in batches:
            mine = batch[:, features.start : features.stop].contiguous()
            (matches,) = select([selector], lambda mine=mine: chunks(mine, 4), place, TOKENS)
            found.append(Matches(matches.token, matches.feature + features.start, matches.score))
        return found

    for batch, found in zip(batches, _on_shards(size, work), strict=True):
        expected = {
            "token_choice": lambda x: token_choice(x, K),
            "mutual_choice": lambda x: mutual_choice(x, K * TOKENS),
            "feature_choice": lambda x: feature_choice(x, quotas),
        }[rule](batch)
        if rule != "feature_choice":
            assert len(found) == K * TOKENS
        for name in ("token", "feature", "score"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
