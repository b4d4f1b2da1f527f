import threading

import torch

from distsae.batches.reused_memory import ReusedMemory


def test_memory_comes_back_when_the_tensor_is_gone():
    memory = ReusedMemory((4, 8), kept=2)
    first = memory.tensor()
    assert first.shape == (4, 8)
    assert first.dtype == torch.float32
    address = first.data_ptr()
    del first
    assert memory.tensor().data_ptr() == address


def test_a_view_a_numpy_array_or_a_graph_keeps_it():
    for keep in (
        lambda tensor: tensor[1:2],
        lambda tensor: tensor.view(torch.int32),
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.detach(),
        lambda tensor: tensor.unbind(0)[3],
        lambda tensor: (tensor @ torch.ones(8, 2, requires_grad=True)).grad_fn,
    ):
        memory = ReusedMemory((4, 8), kept=3)
        tensor = memory.tensor()
        address, kept = tensor.data_ptr(), keep(tensor)
        del tensor
        others = [memory.tensor() for _ in range(4)]
        assert address not in {other.data_ptr() for other in others}
        del kept
        assert memory.tensor().data_ptr() == address


def test_every_living_tensor_has_its_own_memory():
    memory = ReusedMemory((16,), kept=3)
    tensors = [memory.tensor().fill_(number) for number in range(10)]
    assert [int(tensor[0]) for tensor in tensors] == list(range(10))
    addresses = {tensor.data_ptr() for tensor in tensors[:3]}
    del tensors
    again = [memory.tensor() for _ in range(3)]
    assert {tensor.data_ptr() for tensor in again} == addresses  # the other seven were not kept


def test_handed_to_another_thread():
    memory, kept = ReusedMemory((16,), kept=1), []
    thread = threading.Thread(target=lambda: kept.append(memory.tensor().fill_(1)))
    thread.start()
    thread.join()
    assert memory.tensor().fill_(2).data_ptr() != kept[0].data_ptr()
    assert (kept[0] == 1).all()
