"""A chunk of scores answers as its matrix of scores implies."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.allocation import ExactScores
from distsae.allocation.scores import feature_and_token, in_chunk
from tests.allocation.samples import cases, modest


@modest
@given(cases(), st.sampled_from(["one", "token", "feature"]), st.data())
def test_above(case, kind, data):
    pre_acts = case.batches[0].t().contiguous()
    rows = torch.tensor(data.draw(st.lists(st.booleans(), min_size=case.features, max_size=case.features))).nonzero()
    rows = data.draw(st.sampled_from([None, rows.squeeze(1)]))
    height = case.features if rows is None else len(rows)
    shape = {"one": (1, 1), "token": (1, case.tokens), "feature": (height, 1)}[kind]
    bound = torch.randn(shape, generator=torch.Generator().manual_seed(1)).clamp(min=0)
    flat, score = ExactScores(pre_acts).above(bound, rows)
    wanted = torch.full_like(pre_acts, -1.0)
    searched = torch.arange(case.features) if rows is None else rows
    wanted[searched] = torch.where(pre_acts[searched] >= bound, pre_acts[searched], -1.0)
    assert torch.equal(flat, (wanted.flatten() > 0).nonzero().squeeze(1))
    assert torch.equal(score, pre_acts.flatten()[flat])


def test_nothing_reaches_an_infinite_bound():
    flat, score = ExactScores(torch.full((2, 3), 3e38)).above(torch.full((2, 1), torch.inf))
    assert flat.numel() == score.numel() == 0


def test_half_precision_scores_are_widened():
    assert ExactScores(torch.ones(2, 3, dtype=torch.bfloat16)).above(torch.zeros(1))[1].dtype == torch.float32
    assert ExactScores(torch.ones(2, 3, dtype=torch.float64)).above(torch.zeros(1))[1].dtype == torch.float64


def test_leading_and_sample():
    pre_acts = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ExactScores(pre_acts).leading(3), pre_acts.sort(0, descending=True).values[2])
    rows = torch.tensor([1, 7])
    assert torch.equal(ExactScores(pre_acts).sample(rows, 4), pre_acts[rows, ::4])


def test_flat_indices():
    flat = torch.tensor([0, 4, 5, 14])  # of 3 features and 5 tokens
    feature, token = feature_and_token(flat, 5)
    assert feature.tolist() == [0, 0, 1, 2]
    assert token.tolist() == [0, 4, 0, 4]
    assert in_chunk(flat, torch.tensor([1, 4, 7]), 5).tolist() == [5, 9, 20, 39]
    empty = torch.zeros(0, dtype=torch.long)
    assert all(part.numel() == 0 for part in feature_and_token(empty, 0))
    assert in_chunk(empty, torch.tensor([2]), 0).numel() == 0


def test_non_finite_counts():
    assert ExactScores(torch.zeros(3, 3)).non_finite() == 0
    assert ExactScores(torch.full((10, 10), 3e38)).non_finite() == 0  # the sum overflows, the scores do not
    assert ExactScores(torch.tensor([[float("inf"), float("-inf")], [float("nan"), 1.0]])).non_finite() == 3
