"""Rows over a limit are those whose norm in fp64 exceeds it; rows of excluded tokens are zeros."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distsae.batches import left_out_rows
from distsae.batches.left_out_rows import rows_over
from tests.store import synthetic


@given(st.integers(0, 2**32), st.floats(0.5, 50.0))
def test_rows_over_a_limit(seed, limit):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(30, 7, generator=generator) * 10 ** torch.randn(30, 1, generator=generator)
    exact = rows.double().norm(dim=1)
    assert rows_over(rows, limit).tolist() == (exact > limit).nonzero().squeeze(1).tolist()


@pytest.mark.parametrize(("norm", "over"), [(1.0, []), (1 + 2**-40, [0]), (1 - 2**-40, [])])
def test_norms_beside_the_limit_are_told_apart(norm, over):
    rows = torch.tensor([[3.0, 4.0]])
    assert rows_over(rows, 5 / norm).tolist() == over


def test_rows_that_are_not_finite_are_kept_to_be_found():
    rows = torch.tensor([[1.0, torch.nan], [torch.inf, 0.0], [9.0, 0.0]])
    assert rows_over(rows, 2.0).tolist() == [2]


def test_rows_of_excluded_tokens_are_left_out_with_and_without_a_limit(tmp_path):
    plain = synthetic.write_store(tmp_path / "plain")
    excluding = synthetic.write_store(tmp_path / "excluding", synthetic.attributes(excluded_tokens=(3,)))
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0], [9.0, 0.0], [-0.0, 0.0], [0.0, torch.nan]])
    assert left_out_rows(rows, excluding, None).tolist() == [1, 3]
    assert left_out_rows(rows, excluding, 2.0).tolist() == [1, 2, 3]
    assert left_out_rows(rows, plain, 2.0).tolist() == [2]
    assert left_out_rows(rows, plain, None) is None
