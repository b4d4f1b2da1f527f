"""What sums of weighted rows launch on a GPU; what they compute is tested by `test_triton_segments.py`."""

import pytest
import torch

from distsae.kernels import CPU
from tests.kernels.test_triton_gpu import installed
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda

pytestmark = installed


@pytest.mark.parametrize(("entries", "launched"), [(0, []), (256, ["_weighted_sums"]), (257, None)])
def test_segments_are_launched_only_where_a_row_may_be_long(entries, launched):
    from distsae.kernels.triton_sums import block_for, row_sums, total_for

    generator = torch.Generator().manual_seed(entries)
    starts, index = torch.tensor([0, 0, entries, entries]), torch.randint(4, (entries,), generator=generator)
    weight, vectors = torch.randn(entries, generator=generator), torch.randn(4, 6, generator=generator)
    with pretended_cuda():
        operands = [tensor.to(CUDA) for tensor in (starts, index, weight, vectors)]
        LEDGER.clear()
        found = row_sums(*operands).cpu()
        names = sorted(name for name in LEDGER.launches if name.endswith("_sums"))
    assert names == (["_segment_sums", "_weighted_sums"] if launched is None else launched)
    torch.testing.assert_close(found, CPU.row_sums(starts, index, weight, vectors))
    assert (block_for(5), block_for(768)) == (8, 256)
    assert str(total_for(vectors)) == "fp32"
