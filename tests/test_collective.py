import torch

from distsae.collective import Collective, Solo


def test_alone_every_collective_is_the_identity():
    solo: Collective = Solo()
    tensor = torch.tensor([1.0, -2.0])
    assert (solo.rank, solo.size) == (0, 1)
    assert solo.sum(tensor) is tensor
    assert solo.max(tensor) is tensor
    assert [part is tensor for part in solo.gather(tensor)] == [True]
