"""From equal scores, every mesh selects the same matches as the plain functions on the global batch, bit for bit.

Hypothesis draws consecutive batches of a run, of any size, distribution and precision, whose scale may jump. Real
processes select from all of them under every rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
from distsae.errors import NonFiniteScores
from distsae.parallel import Mesh
from tests.allocation.samples import KINDS, chunks, scores
from tests.distributed.processes import MESHES, run_on_mesh

LARGER = ("one shard 10 times larger", "one shard 1000 times larger", "one data rank 1000 times larger")
ADVERSARIAL = ("rising by feature", "falling by feature", "the cut tied everywhere", "winners on one rank")
RULES = ("token_choice", "mutual_choice", "auxiliary", "feature_choice", "priced_choice")


@dataclass(frozen=True)
class Batches:
    """Consecutive batches of a run, and the budgets of their selections.

    Args:
        batches: pre-activations of each global batch, `[tokens, features]`, in fp32, bf16 or fp64.
        quotas: quotas of each batch, int64 `[features]`. A feature's price is 0.1 more.
        k: matches per token.
        k_aux: matches per token of the auxiliary selection; need not be an integer.
        allowed: features of the auxiliary selection, bool `[features]`.
        chunk: number of features in a chunk.
    """

    batches: tuple[Tensor, ...]
    quotas: tuple[Tensor, ...]
    k: int
    k_aux: float
    allowed: Tensor
    chunk: int

    @property
    def tokens(self) -> int:
        return self.batches[0].shape[0]

    @property
    def features(self) -> int:
        return self.batches[0].shape[1]

    def expected(self, rule: str, batch: int) -> Matches:
        """Returns the matches of a batch under a rule, by the plain functions."""
        x = self.batches[batch].float()
        match rule:
            case "token_choice":
                return token_choice(x, self.k)
            case "mutual_choice":
                return mutual_choice(x, self.k * self.tokens)
            case "auxiliary":
                return mutual_choice(x.masked_fill(~self.allowed, 0.0), round(self.k_aux * self.tokens))
            case "priced_choice":
                return priced_choice(self.batches[batch], 0.1 + self.quotas[batch].double(), self.k * self.tokens)
            case _:
                return feature_choice(x, self.quotas[batch])


def _batch(kind: str, tokens: int, features: int, k: int, generator: torch.Generator) -> Tensor:
    if kind in KINDS:
        return scores(kind, tokens, features, generator)
    x = torch.randn(tokens, features, generator=generator)
    match kind:
        case "one shard 10 times larger":
            x[:, -(features // 4) - 1 :] *= 10
        case "one shard 1000 times larger":
            x[:, -(features // 4) - 1 :] *= 1000
        case "one data rank 1000 times larger":
            x[: tokens // 4] *= 1000
        case "rising by feature":
            x = x.abs() + torch.arange(features) * 10.0
        case "falling by feature":
            x = x.abs() + torch.arange(features).flip(0) * 10.0
        case "the cut tied everywhere":  # with those at the cut, more scores than the budget
            x = torch.where(torch.rand(tokens, features, generator=generator) < 0.5 * k / features, x.abs() + 1, 0.5)
        case "winners on one rank":
            x = x.abs()
            x[:, features // 2 :] = -1.0
    return x


def _in(dtype: torch.dtype, batch: Tensor, generator: torch.Generator) -> Tensor:
    """Converts a batch; in fp64 with differences that vanish in fp32, in which scores are compared."""
    if dtype == torch.float64:
        return batch.double() * (1 + 1e-12 * torch.randn(batch.shape, generator=generator, dtype=dtype))
    return batch.to(dtype)


@st.composite
def drawn_batches(draw: st.DrawFn) -> Batches:
    tokens, features = 4 * draw(st.integers(1, 10)), draw(st.integers(4, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kinds = draw(st.lists(st.sampled_from(KINDS + LARGER + ADVERSARIAL), min_size=2, max_size=8))
    scales = draw(st.lists(st.sampled_from([1.0, 1.0, 100.0, 0.01]), min_size=len(kinds), max_size=len(kinds)))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
    k = draw(st.integers(1, min(features, 8)))
    batches = [_batch(kind, tokens, features, k, generator) * scale for kind, scale in zip(kinds, scales, strict=True)]
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Batches(
        batches=tuple(_in(dtype, batch, generator) for batch in batches),
        quotas=tuple(torch.randint(0, tokens + 2, (features,), generator=generator) // 2 for _ in kinds),
        k=k,
        k_aux=draw(st.sampled_from([0.01, 0.5, 1.0, 2.3])),
        allowed=torch.rand(features, generator=generator) < share,
        chunk=draw(st.integers(1, features)),
    )


@dataclass(frozen=True)
class Found:
    """What one rank selected from one batch.

    Args:
        matches: matches of this rank, in global indices.
        shortfall: number of matches by which all ranks missed the budget.
        cut: smallest selected score of all ranks, for Mutual Choice.
    """

    matches: Matches
    shortfall: int
    cut: float | None


def select_from(mesh: Mesh, run: Batches) -> dict[str, list[Found]]:
    """Selects under every rule from this rank's part of every batch."""
    tokens, features = run.tokens // mesh.data.size, mesh.features(run.features)
    placement = mesh.placement(run.features, tokens)
    rows, columns = slice(placement.first_token, placement.first_token + tokens), slice(features.start, features.stop)
    price = torch.ones(len(features), dtype=torch.float64)
    selectors: dict[str, Any] = {
        "token_choice": TokenSelector(run.k),
        "mutual_choice": MutualSelector(run.k),
        "auxiliary": MutualSelector(run.k_aux, run.allowed[columns]),
        "feature_choice": FeatureSelector(len(features)),
        "priced_choice": PricedSelector(run.k, price),
    }
    by_rule: dict[str, list[Found]] = {rule: [] for rule in selectors}
    for batch, quotas in zip(run.batches, run.quotas, strict=True):
        selectors["feature_choice"].grant(quotas[columns])
        price.copy_(0.1 + quotas[columns].double())
        local = batch[rows, columns]
        selected = select(list(selectors.values()), lambda local=local: chunks(local, run.chunk), placement, tokens)
        for (rule, selector), matches in zip(selectors.items(), selected, strict=True):
            cut = getattr(selector, "cut", None)
            by_rule[rule].append(Found(_in_global_indices(matches, placement), selector.shortfall, cut))
    return by_rule


def _in_global_indices(matches: Matches, placement: Placement) -> Matches:
    ordered = matches.by_feature()
    assert torch.equal(matches.token, ordered.token), "not by feature, then token"
    assert torch.equal(matches.feature, ordered.feature), "not by feature, then token"
    return Matches(matches.token + placement.first_token, matches.feature + placement.first_feature, matches.score)


def check(shape: tuple[int, int], run: Batches) -> None:
    """Compares the selections of a mesh with those of the plain functions."""
    ranks = run_on_mesh(select_from, shape, run)
    for rule in RULES:
        for batch in range(len(run.batches)):
            expected, found = run.expected(rule, batch), [rank[rule][batch] for rank in ranks]
            together = Matches.joined([part.matches for part in found]).by_token()
            assert torch.equal(together.token, expected.token), (rule, batch)
            assert torch.equal(together.feature, expected.feature), (rule, batch)
            assert torch.equal(together.score.float(), expected.score), (rule, batch)
            budget = run.k * run.tokens
            if rule == "mutual_choice":
                assert len(together) == min(budget, int((run.batches[batch].float() > 0).sum()))
                full = len(together) == budget
                assert {part.cut for part in found} == {expected.score.min().item() if full else None}
                assert {part.shortfall for part in found} == {budget - len(together)}
            elif rule in ("token_choice", "priced_choice"):
                assert {part.shortfall for part in found} == {budget - len(together)}
            elif rule == "feature_choice":
                assert {part.shortfall for part in found} == {int(run.quotas[batch].sum()) - len(together)}


FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
EVERY_MESH = pytest.mark.parametrize("shape", [(1, 1), *MESHES], ids=lambda shape: f"{shape[0]}x{shape[1]}")


@EVERY_MESH
@FEW
@given(run=drawn_batches())
def test_selects_what_the_plain_functions_select(shape, run):
    check(shape, run)


@pytest.mark.heavy
@EVERY_MESH
@MANY
@given(run=drawn_batches())
def test_selects_what_the_plain_functions_select_in_many_runs(shape, run):
    check(shape, run)


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (1, 4)], ids=["2x2", "1x3", "1x4"])
def test_many_ties_between_ranks_are_resolved_by_token_and_feature(shape):
    """There are more ties than a bin of a histogram may send at once, so their number is first reduced by counting."""
    generator = torch.Generator().manual_seed(5)
    batches = tuple(scores(kind, 512, 300, generator) for kind in ("equal", "tied", "equal", "normal", "tied"))
    quotas = tuple(torch.randint(0, 60, (300,), generator=generator) for _ in batches)
    check(shape, Batches(batches, quotas, 16, 30.0, torch.rand(300, generator=generator) < 0.5, 64))


def _one_bad_score(mesh: Mesh, bad_rank: int) -> list[str]:
    """Returns the error of each rule when a score is not finite on one rank."""
    tokens, features = 8 // mesh.data.size, mesh.features(12)
    placement, errors = mesh.placement(12, tokens), []
    local = torch.rand(tokens, len(features), generator=torch.Generator().manual_seed(mesh.world.rank))
    if mesh.world.rank == bad_rank:
        local[1, 2] = torch.nan
    all_features = torch.ones(len(features), dtype=torch.bool)
    by_feature = FeatureSelector(len(features))
    by_feature.grant(torch.full((len(features),), 2))
    for selector in (TokenSelector(2), MutualSelector(2), MutualSelector(2, all_features), by_feature):
        try:
            select([selector], lambda: chunks(local, 5), placement, tokens)
            errors.append("nothing was raised")
        except NonFiniteScores as error:
            errors.append(str(error))
    return errors


@pytest.mark.parametrize("shape", [(2, 2), (1, 3)], ids=["2x2", "1x3"])
def test_a_score_that_is_not_finite_on_one_rank_stops_all(shape):
    for errors in run_on_mesh(_one_bad_score, shape, 2):
        assert errors == ["1 scores are not finite, the first of them on rank 2"] * 4
