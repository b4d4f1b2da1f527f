import torch

from distsae.batches import Batch


def test_joined_batches_keep_their_rows_and_those_that_are_left_out():
    first = Batch(torch.arange(6.0).view(3, 2), torch.tensor([0, 2]))
    second = Batch(torch.arange(8.0).view(4, 2), torch.tensor([1]))
    joined = Batch.joined([first, second])
    assert torch.equal(joined.x, torch.cat([first.x, second.x]))
    assert joined.left_out.tolist() == [0, 2, 4]
    assert Batch.joined([Batch(first.x), Batch(second.x)]).left_out is None


def test_both_parts_go_to_a_device():
    moved = Batch(torch.zeros(2, 3), torch.tensor([1])).to(torch.device("meta"))
    assert (moved.x.device.type, moved.left_out.device.type) == ("meta", "meta")
    assert Batch(torch.zeros(2, 3)).to(torch.device("cpu")).left_out is None
