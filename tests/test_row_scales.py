import pytest
import torch

from distsae.row_scales import row_scales, row_scales_alone


def test_scales_bring_rows_to_the_root_of_their_width():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert torch.equal(row_scales(rows), torch.tensor([[5 / 2**0.5], [1.0]]))


@pytest.mark.parametrize("width", [*range(1, 20), 64, 100, 768, 2305])
def test_alone_they_are_the_same_to_rounding_and_do_not_depend_on_other_rows(width):
    rows = torch.randn(20, width, generator=torch.Generator().manual_seed(width))
    rows[2] = 0
    before = rows.clone()
    scales = row_scales_alone(rows)
    torch.testing.assert_close(scales, row_scales(rows), rtol=1e-6, atol=0)
    assert scales.shape == (20, 1)
    assert torch.equal(rows, before)
    assert torch.equal(row_scales_alone(rows[5:6]), scales[5:6])
    exact = rows.double().norm(dim=1, keepdim=True) / width**0.5
    torch.testing.assert_close(scales[3:].double(), exact[3:], rtol=1e-6, atol=0)
