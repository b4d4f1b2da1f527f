"""A full GPU is one line; tests/end_to_end/test_rank_alone.py fills that of one rank."""

import pytest
import torch

from distsae.errors import CannotContinue
from distsae.training.guards.out_of_memory import lack_of_memory_named


def test_a_full_gpu():
    text = (
        "CUDA out of memory. Tried to allocate 64.00 MiB. GPU 3 has a total capacity of 139.81 GiB of which 3.12 MiB "
        "is free. Process 4711 has 139.80 GiB memory in use. Of the allocated memory 120.1 GiB is allocated by PyTorch"
    )
    with pytest.raises(CannotContinue) as raised, lack_of_memory_named(lambda: "step 7: selecting and stepping"):
        raise torch.OutOfMemoryError(text)
    assert str(raised.value).startswith(
        "step 7: selecting and stepping: the GPU must have room for the run; got CUDA out of memory. Tried to allocate "
        "64.00 MiB. GPU 3 has a total capacity of 139.81 GiB of which 3.12 MiB is free; use a wider `mesh.feature`, "
    )
    assert not raised.value.of_all_ranks


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: an illegal memory access"), KeyboardInterrupt()])
def test_any_other_error_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised, lack_of_memory_named(lambda: "step 7"):
        raise error
    assert raised.value is error
