import torch

from distsae.row_scales import row_scales


def test_scales_bring_rows_to_the_root_of_their_width():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.equal(row_scales(rows), torch.tensor([[5 / 2**0.5], [1.0]]))
