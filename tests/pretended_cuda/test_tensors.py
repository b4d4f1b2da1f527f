"""The pretended device: it computes what the CPU computes, refuses what CUDA refuses, and counts."""

import pytest
import torch

from distsae.kernels import CPU, kernels_for, row_starts
from tests.pretended_cuda import CUDA, LEDGER, OnCuda, pretended_cuda


@pytest.fixture(autouse=True)
def device():
    LEDGER.clear()
    with pretended_cuda():
        yield


def test_tensors_say_where_they_are_and_keep_their_numbers():
    numbers = torch.arange(12.0).view(3, 4)
    there = numbers.to("cuda")
    assert there.is_cuda
    assert there.device == CUDA
    assert there[1:].t().is_cuda
    assert torch.equal((there * 2)[1:].t().cpu(), (numbers * 2)[1:].t())
    there[0] = 7
    assert there.cpu()[0].tolist() == [7, 7, 7, 7]
    assert numbers[0, 1] == 1  # a copy between devices is one
    assert torch.cuda.is_available()


def test_tensors_of_two_devices_do_not_meet():
    there = torch.ones(3, device=CUDA)
    assert torch.equal((there + torch.tensor(2.0)).cpu(), torch.full((3,), 3.0))  # a scalar on the CPU may
    assert there[torch.tensor([0, 2])].shape == (2,)  # and so may indices
    for mixed in (
        lambda: there + torch.ones(3),
        lambda: torch.stack([there, torch.ones(3)]),
        lambda: there.dot(torch.ones(3)),
        lambda: torch.zeros(3).index_add_(0, torch.arange(3), there),
    ):
        with pytest.raises(RuntimeError, match="found at least two devices"):
            mixed()
    with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
        there.numpy()


@pytest.mark.parametrize(
    ("action", "waits"),
    [
        (lambda x: x + 1, 0),
        (lambda x: x[1:3], 0),
        (lambda x: x.sort(), 0),
        (lambda x: torch.full((3,), 2.0, device=x.device), 0),
        (lambda x: x.nonzero_static(size=2), 0),
        (lambda x: x.long().repeat_interleave(x.long(), output_size=6), 0),
        (lambda x: x.sum().item(), 1),
        (lambda x: bool((x > 1).any()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: torch.ones(4).to(x.device), 1),
        (lambda x: torch.tensor(2.0, device=x.device), 1),
        (lambda x: x.new_tensor(2.0), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 1], 1),
        (lambda x: x.masked_select(x > 1), 1),
        (lambda x: x.long().repeat_interleave(x.long()), 1),
        (lambda x: x[torch.tensor([1])], 1),
        (lambda x: x.long().bincount(minlength=5), 2),
        (lambda x: torch.ones(4).to(x.device, non_blocking=True), 0),
    ],
)
def test_waits_for_the_device_are_counted(action, waits):
    x = torch.arange(4.0).to(CUDA)
    LEDGER.clear()
    action(x)
    assert LEDGER.waits.total() == waits


def test_launches_and_bytes_are_counted():
    x = torch.ones(100, 10, device=CUDA)
    LEDGER.clear()
    x[:3].t()
    assert LEDGER.totals() == (0, 0, 0)
    x.mul_(2)  # read and written
    assert LEDGER.totals() == (1, 0, 8000)
    LEDGER.clear()
    x[:50] + x[50:]
    assert LEDGER.totals() == (1, 0, 6000)
    LEDGER.clear()
    x[torch.arange(5, device=CUDA)]  # five rows gathered: the others are not read
    assert LEDGER.totals()[2] == 5 * 8 + 5 * 8 + 2 * 5 * 40


def test_triton_kernels_compute_their_plain_statement():
    generator = torch.Generator().manual_seed(0)
    feature = torch.tensor([0, 0, 2, 3])
    token = torch.tensor([1, 2, 0, 2])
    rows, vectors = torch.randn(4, 8, generator=generator), torch.randn(3, 8, generator=generator)
    triton = kernels_for("triton", CUDA)
    there = [tensor.to(CUDA) for tensor in (feature, token, rows, vectors)]
    dots = triton.match_dots(*there)
    assert isinstance(dots, OnCuda)
    assert torch.equal(dots.cpu(), CPU.match_dots(feature, token, rows, vectors))
    sums = triton.row_sums(row_starts(there[0], 4), there[1], dots, there[3])
    assert torch.equal(sums.cpu(), CPU.row_sums(row_starts(feature, 4), token, dots.cpu(), vectors))
    with pytest.raises(AssertionError, match="token is on the CPU"):
        triton.match_dots(there[0], token, there[2], there[3])
