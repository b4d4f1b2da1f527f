"""From equal scores every mesh selects the same matches, bit for bit, and never one over the budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distsae.allocation import (
    FeatureSelector,
    Matches,
    MutualSelector,
    QuotaCredit,
    TokenSelector,
    feature_choice,
    mutual_choice,
    select,
    token_choice,
    zipf_quotas,
)
from distsae.errors import NonFiniteScores
from distsae.parallel import Mesh
from tests.allocation.samples import chunks, scores

from .processes import MESHES, run_on_mesh

TOKENS, FEATURES, K, CHUNK = 24, 32, 3, 5
KINDS = (
    "normal",
    "tied",
    "one loud shard",
    "equal",
    "zeros",
    "sparse",
    "tied",
    "negative",
    "one loud rank",
    "bfloat16",
)
RULES = ("token_choice", "mutual_choice", "mutual_choice of some", "feature_choice")
ALLOWED = torch.arange(FEATURES) < 9  # on 1x4 two ranks have no feature that may be selected


def _batches() -> list[Tensor]:
    """Consecutive global batches, whose scale jumps, so that the bounds that selectors carry over prove wrong."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for place, kind in enumerate(KINDS * 2):
        x = scores(kind if not kind.startswith("one") else "normal", TOKENS, FEATURES, generator)
        if kind == "one loud shard":
            x[:, -FEATURES // 4 :] *= 1000
        elif kind == "one loud rank":
            x[: TOKENS // 4, : FEATURES // 4] *= 1000
        found.append(x * (1.0, 100.0, 0.01)[place % 3])
    return found


def _quotas() -> list[Tensor]:
    credit = QuotaCredit(zipf_quotas(FEATURES, K, s=1.0, q=2.0, rank=torch.randperm(FEATURES).add(1)), K)
    return [credit.pay(TOKENS) for _ in KINDS * 2]


def _select(
    mesh: Mesh, rule: str, batches: list[Tensor], quotas: list[Tensor]
) -> list[tuple[Matches, int, float | None]]:
    tokens = TOKENS // mesh.data.size
    place = mesh.place(FEATURES, tokens)
    features = mesh.features(FEATURES)
    rows, columns = slice(place.first_token, place.first_token + tokens), slice(features.start, features.stop)
    selector = {
        "token_choice": lambda: TokenSelector(K),
        "mutual_choice": lambda: MutualSelector(K),
        "mutual_choice of some": lambda: MutualSelector(K, ALLOWED[columns]),
        "feature_choice": lambda: FeatureSelector(len(features)),
    }[rule]()
    found = []
    for batch, quota in zip(batches, quotas, strict=True):
        if isinstance(selector, FeatureSelector):
            selector.grant(quota[columns])
        mine = batch[rows, columns]
        (matches,) = select([selector], lambda mine=mine: chunks(mine, CHUNK), place, tokens)
        ordered = matches.by_feature()
        assert torch.equal(matches.token, ordered.token)
        assert torch.equal(matches.feature, ordered.feature)
        whole = Matches(matches.token + place.first_token, matches.feature + features.start, matches.score)
        found.append((whole, selector.shortfall, selector.cut))
    return found


def _plain(rule: str, batch: Tensor, quota: Tensor) -> Matches:
    match rule:
        case "token_choice":
            return token_choice(batch, K)
        case "mutual_choice":
            return mutual_choice(batch, K * TOKENS)
        case "mutual_choice of some":
            return mutual_choice(batch.masked_fill(~ALLOWED, 0.0), K * TOKENS)
        case _:
            return feature_choice(batch, quota)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", MESHES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_equals_the_plain_statement_of_the_global_batch(shape, rule):
    batches, quotas = _batches(), _quotas()
    ranks = run_on_mesh(_select, shape, rule, batches, quotas)
    for step, (batch, quota) in enumerate(zip(batches, quotas, strict=True)):
        parts = [rank[step][0] for rank in ranks]
        together = Matches(
            torch.cat([part.token for part in parts]),
            torch.cat([part.feature for part in parts]),
            torch.cat([part.score for part in parts]),
        ).by_token()
        expected = _plain(rule, batch, quota)
        for name in ("token", "feature", "score"):
            assert torch.equal(getattr(together, name), getattr(expected, name)), (step, name)
        budget = int(quota.sum()) if rule == "feature_choice" else K * TOKENS
        assert {rank[step][1] for rank in ranks} == {budget - len(expected)}
        if rule.startswith("mutual_choice"):
            full = len(expected) == budget
            assert {rank[step][2] for rank in ranks} == {expected.score.min().item() if full else None}


def _one_bad_score(mesh: Mesh, rule: str, bad_rank: int) -> str:
    batch = torch.rand(TOKENS, FEATURES, generator=torch.Generator().manual_seed(1))
    if mesh.world.rank == bad_rank:
        place = mesh.place(FEATURES, TOKENS // mesh.data.size)
        batch[place.first_token + 1, place.first_feature + 2] = torch.nan
    try:
        _select(mesh, rule, [batch], [torch.full((FEATURES,), 2)])
    except NonFiniteScores as error:
        return str(error)
    return "nothing was raised"


@pytest.mark.parametrize("rule", RULES)
def test_a_score_that_is_not_finite_on_one_rank_stops_all(rule):
    bad_rank = 2 if rule != "mutual_choice of some" else 0
    answers = run_on_mesh(_one_bad_score, (2, 2), rule, bad_rank)
    assert answers == [f"1 scores are not finite, the first of them on rank {bad_rank}"] * 4
