"""Summaries of tensors with and without finite numbers."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from distsae.training.guards.numeric_summary import summarise


def _broken_tensor() -> torch.Tensor:
    tensor = torch.ones(5, 3)
    tensor[1, 0] = math.nan
    tensor[4, 1] = math.inf
    tensor[4, 2] = -math.inf
    tensor[0, 0] = -2
    return tensor


@pytest.mark.parametrize("block_size", [1, 6, 1000])
def test_entries_that_are_not_finite_are_counted_and_left_out_of_the_range(block_size):
    summary = summarise(_broken_tensor(), block_size=block_size)
    assert (summary.shape, summary.not_finite, summary.rows) == ((5, 3), 3, (1, 4))
    assert (summary.min, summary.max) == (-2, 1)
    assert summary.norm == pytest.approx(math.sqrt(4 + 11))


def test_a_tensor_without_finite_entries_has_no_range():
    summary = summarise(torch.full((2, 2), math.nan))
    assert (summary.not_finite, summary.min, summary.max, summary.norm) == (4, None, None, None)


def test_only_the_first_rows_are_listed():
    assert summarise(torch.full((9, 2), math.inf), most_rows=3, block_size=4).rows == (0, 1, 2)


def test_a_scalar_is_one_row():
    assert summarise(torch.tensor(math.nan)).rows == (0,)


def test_in_words():
    assert summarise(_broken_tensor()).not_finite_in_words() == "3 numbers in rows 1, 4"
    assert summarise(torch.tensor([0.0, math.nan])).not_finite_in_words() == "1 numbers in row 1"
    many = summarise(torch.full((20, 2), math.nan)).not_finite_in_words()
    assert many == f"40 numbers in rows {', '.join(map(str, range(16)))} and more"


def test_as_json():
    assert json.loads(json.dumps(asdict(summarise(_broken_tensor()[1:2])))) == {
        "shape": [1, 3],
        "not_finite": 1,
        "rows": [0],
        "min": 1.0,
        "max": 1.0,
        "norm": pytest.approx(math.sqrt(2)),
    }
