"""What listing the ones of a matrix of bits launches on a GPU; what it lists is tested by `test_triton_encoder.py`."""

import torch

from distsae.allocation.scores import EMPTY
from tests.kernels.test_triton_gpu import installed
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda


@installed
def test_ones_are_listed_in_a_few_launches_without_a_wait():
    from distsae.kernels.triton_bits import first_ones

    words = torch.tensor([[1, -1, 2], [0, 0, 0], [-(1 << 31), 0, 1]], dtype=torch.int32)
    expected = [0, *range(32, 64), 65, 2 * 70 + 31, 2 * 70 + 64]
    with pretended_cuda():
        there = words.to(CUDA)
        LEDGER.clear()
        found = first_ones(there, 70, 40)
        assert (LEDGER.launches.total(), LEDGER.waits.total()) == (5, 0)
        assert found.cpu().tolist() == expected + [EMPTY] * (40 - len(expected))
        assert first_ones(there, 70, 5).cpu().tolist() == expected[:5]
