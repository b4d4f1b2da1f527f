"""From equal scores every mesh selects what the plain statement of the global batch selects, bit for bit.

Hypothesis tells stories: consecutive batches of one run, of any size, shape, distribution and precision, whose scale
may jump; each story is lived through by real processes, under every rule.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    TokenSelector,
    feature_choice,
    mutual_choice,
    select,
    token_choice,
)
from distsae.errors import NonFiniteScores
from distsae.parallel import Mesh
from tests.allocation.samples import KINDS, chunks, scores
from tests.distributed.processes import MESHES, run_on_mesh

LOUD = ("one shard 10 times larger", "one shard 1000 times larger", "one data rank 1000 times larger")
ADVERSARIAL = ("rising by feature", "falling by feature", "the cut tied everywhere", "winners on one rank")
RULES = ("token_choice", "mutual_choice", "auxiliary", "feature_choice")


@dataclass(frozen=True)
class Story:
    """Consecutive batches and how they are selected from.

    Args:
        batches: pre-activations of the global batches, `[tokens, features]`, in fp32, bf16 or fp64.
        quotas: of each batch, int64 `[features]`.
        k: matches per token.
        k_aux: matches per token of the auxiliary selection; need not be whole.
        allowed: features of the auxiliary selection, bool `[features]`.
        chunk: features in a chunk.
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

    def plainly(self, rule: str, batch: int) -> Matches:
        x = self.batches[batch].float()
        match rule:
            case "token_choice":
                return token_choice(x, self.k)
            case "mutual_choice":
                return mutual_choice(x, self.k * self.tokens)
            case "auxiliary":
                return mutual_choice(x.masked_fill(~self.allowed, 0.0), round(self.k_aux * self.tokens))
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
        case "the cut tied everywhere":  # fewer above the cut than the budget, more at it than there is room for
            x = torch.where(torch.rand(tokens, features, generator=generator) < 0.5 * k / features, x.abs() + 1, 0.5)
        case "winners on one rank":
            x = x.abs()
            x[:, features // 2 :] = -1.0
    return x


def _in(dtype: torch.dtype, batch: Tensor, generator: torch.Generator) -> Tensor:
    """In double precision with differences that single precision, in which scores are compared, does not see."""
    if dtype == torch.float64:
        return batch.double() * (1 + 1e-12 * torch.randn(batch.shape, generator=generator, dtype=dtype))
    return batch.to(dtype)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    tokens, features = 4 * draw(st.integers(1, 10)), draw(st.integers(4, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kinds = draw(st.lists(st.sampled_from(KINDS + LOUD + ADVERSARIAL), min_size=2, max_size=8))
    scales = draw(st.lists(st.sampled_from([1.0, 1.0, 100.0, 0.01]), min_size=len(kinds), max_size=len(kinds)))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
    k = draw(st.integers(1, min(features, 8)))
    batches = [_batch(kind, tokens, features, k, generator) * scale for kind, scale in zip(kinds, scales, strict=True)]
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Story(
        batches=tuple(_in(dtype, batch, generator) for batch in batches),
        quotas=tuple(torch.randint(0, tokens + 2, (features,), generator=generator) // 2 for _ in kinds),
        k=k,
        k_aux=draw(st.sampled_from([0.01, 0.5, 1.0, 2.3])),
        allowed=torch.rand(features, generator=generator) < share,
        chunk=draw(st.integers(1, features)),
    )


@dataclass(frozen=True)
class Found:
    """What one rank selected from one batch, in global indices."""

    matches: Matches
    shortfall: int
    cut: float | None


def live_through(mesh: Mesh, story: Story) -> dict[str, list[Found]]:
    """Selects under every rule from this rank's part of every batch."""
    tokens, features = story.tokens // mesh.data.size, mesh.features(story.features)
    placement = mesh.placement(story.features, tokens)
    rows, columns = slice(placement.first_token, placement.first_token + tokens), slice(features.start, features.stop)
    selectors = {
        "token_choice": TokenSelector(story.k),
        "mutual_choice": MutualSelector(story.k),
        "auxiliary": MutualSelector(story.k_aux, story.allowed[columns]),
        "feature_choice": FeatureSelector(len(features)),
    }
    lived: dict[str, list[Found]] = {rule: [] for rule in selectors}
    for batch, quotas in zip(story.batches, story.quotas, strict=True):
        selectors["feature_choice"].grant(quotas[columns])
        mine = batch[rows, columns]
        found = select(list(selectors.values()), lambda mine=mine: chunks(mine, story.chunk), placement, tokens)
        for (rule, selector), matches in zip(selectors.items(), found, strict=True):
            lived[rule].append(Found(_globally(matches, placement), selector.shortfall, getattr(selector, "cut", None)))
    return lived


def _globally(matches: Matches, placement: Placement) -> Matches:
    ordered = matches.by_feature()
    assert torch.equal(matches.token, ordered.token), "not by feature, then token"
    assert torch.equal(matches.feature, ordered.feature), "not by feature, then token"
    return Matches(matches.token + placement.first_token, matches.feature + placement.first_feature, matches.score)


def check(shape: tuple[int, int], story: Story) -> None:
    ranks = run_on_mesh(live_through, shape, story)
    for rule in RULES:
        for batch in range(len(story.batches)):
            expected, found = story.plainly(rule, batch), [rank[rule][batch] for rank in ranks]
            together = Matches(
                torch.cat([part.matches.token for part in found]),
                torch.cat([part.matches.feature for part in found]),
                torch.cat([part.matches.score for part in found]),
            ).by_token()
            assert torch.equal(together.token, expected.token), (rule, batch)
            assert torch.equal(together.feature, expected.feature), (rule, batch)
            assert torch.equal(together.score.float(), expected.score), (rule, batch)
            x = story.batches[batch].float().clamp(min=0)
            if rule == "mutual_choice":
                assert len(together) == min(story.k * story.tokens, int((x > 0).sum()))
                full = len(together) == story.k * story.tokens
                assert {part.cut for part in found} == {expected.score.min().item() if full else None}
                assert {part.shortfall for part in found} == {story.k * story.tokens - len(together)}
            elif rule == "token_choice":
                assert {part.shortfall for part in found} == {story.k * story.tokens - len(together)}
            elif rule == "feature_choice":
                assert {part.shortfall for part in found} == {int(story.quotas[batch].sum()) - len(together)}


FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
EVERY_MESH = pytest.mark.parametrize("shape", [(1, 1), *MESHES], ids=lambda shape: f"{shape[0]}x{shape[1]}")


@EVERY_MESH
@FEW
@given(story=stories())
def test_selects_what_the_plain_statement_selects(shape, story):
    check(shape, story)


@pytest.mark.heavy
@EVERY_MESH
@MANY
@given(story=stories())
def test_selects_what_the_plain_statement_selects_in_many_stories(shape, story):
    check(shape, story)


@pytest.mark.parametrize("shape", [(2, 2), (1, 3), (1, 4)], ids=["2x2", "1x3", "1x4"])
def test_many_ties_between_ranks_are_settled_by_token_and_feature(shape):
    """More of them than a histogram's bin may send at once, so that they are counted down first."""
    generator = torch.Generator().manual_seed(5)
    batches = tuple(scores(kind, 512, 300, generator) for kind in ("equal", "tied", "equal", "normal", "tied"))
    quotas = tuple(torch.randint(0, 60, (300,), generator=generator) for _ in batches)
    check(shape, Story(batches, quotas, 16, 30.0, torch.rand(300, generator=generator) < 0.5, 64))


def _one_bad_score(mesh: Mesh, bad_rank: int) -> list[str]:
    """Returns what each rule says of a score that is not finite on one rank."""
    tokens, features = 8 // mesh.data.size, mesh.features(12)
    placement, answers = mesh.placement(12, tokens), []
    mine = torch.rand(tokens, len(features), generator=torch.Generator().manual_seed(mesh.world.rank))
    if mesh.world.rank == bad_rank:
        mine[1, 2] = torch.nan
    for_all = torch.ones(len(features), dtype=torch.bool)
    for selector in (TokenSelector(2), MutualSelector(2), MutualSelector(2, for_all), FeatureSelector(len(features))):
        if isinstance(selector, FeatureSelector):
            selector.grant(torch.full((len(features),), 2))
        try:
            select([selector], lambda: chunks(mine, 5), placement, tokens)
            answers.append("nothing was raised")
        except NonFiniteScores as error:
            answers.append(str(error))
    return answers


@pytest.mark.parametrize("shape", [(2, 2), (1, 3)], ids=["2x2", "1x3"])
def test_a_score_that_is_not_finite_on_one_rank_stops_all(shape):
    for answers in run_on_mesh(_one_bad_score, shape, 2):
        assert answers == ["1 scores are not finite, the first of them on rank 2"] * 4
