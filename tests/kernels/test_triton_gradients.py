"""What the gradients of an update launch before it on a GPU; their sums are tested by `test_triton_segments.py`."""

import pytest
import torch

from distsae.kernels import RowTerm
from tests.kernels.test_triton_gpu import installed
from tests.pretended_cuda import CUDA, LEDGER, pretended_cuda

pytestmark = installed


@pytest.mark.parametrize(("matches", "slots"), [(256, 0), (257, 4), (1000, 8)])
def test_segments_have_room_only_where_a_feature_may_have_many_matches(matches, slots):
    from distsae.kernels.triton_gradients import warps_for, with_segments

    starts, token = torch.tensor([0, matches]), torch.zeros(matches, dtype=torch.long)
    with pretended_cuda():
        of_match, centred = torch.ones(matches, device=CUDA), torch.ones(2, 24, device=CUDA)
        term = RowTerm(starts.to(CUDA), token.to(CUDA), of_match, of_match, centred)
        LEDGER.clear()
        *_, partial = with_segments(term, centred, 1)
        assert LEDGER.launches["_segment_gradients"] == int(slots > 0)
    assert partial.shape == ((slots, 2, 24) if slots else centred.shape)
    assert [warps_for(block) for block in (16, 1024, 8192)] == [1, 4, 16]
