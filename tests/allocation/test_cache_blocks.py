"""Blocks are views that cover every row once."""

import pytest
import torch

from distsae.allocation import cache_blocks


@pytest.mark.parametrize("rows", [1, 5, 131_072, 131_073, 400_000])
def test_every_row_once_and_in_place(rows):
    numbers, found = torch.arange(rows), torch.zeros(rows, 2, dtype=torch.long)
    blocks = 0
    for numbers_block, found_block in cache_blocks(numbers, found):
        assert numbers_block.shape[0] == found_block.shape[0] <= 131_072
        found_block += numbers_block[:, None] + 1
        blocks += 1
    assert torch.equal(found, (numbers + 1)[:, None].expand(-1, 2))
    assert blocks == -(-rows // 131_072)


def test_tensors_of_different_length_are_refused():
    with pytest.raises(ValueError, match="zip"):
        list(cache_blocks(torch.zeros(131_073), torch.zeros(5)))
