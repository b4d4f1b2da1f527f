"""Memory is locked in its exact size and given back; `mlock` stands for CUDA's function, and really locks pages."""

from __future__ import annotations

import ctypes
import gc
import mmap
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from distsae.checkpoint import Ranks
from distsae.checkpoint.snapshot import HostCopies, Snapshot
from distsae.checkpoint.write_plan import REPLICATED
from distsae.locked_memory import LockedMemory, lock
from tests.pretended_cuda import CUDA, pretended_cuda

_LIBC = ctypes.CDLL(None, use_errno=True)
_GPU = torch.device("cuda", 0)
PAGES = 37
"""A number of pages far from a power of two."""


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def _on_gpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_subclass(OnGpu)


class _Pages:
    """Locks pages of this process for real."""

    def __init__(self, most: int = 1 << 62) -> None:
        self.most = most
        self.sizes: dict[int, int] = {}

    def lock(self, address: int, size: int, device: torch.device) -> str:
        assert address % mmap.PAGESIZE == 0
        if sum(self.sizes.values()) + size > self.most or _LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)):
            return "CUDA error 2"
        self.sizes[address] = size
        return ""

    def unlock(self, address: int) -> None:
        assert not _LIBC.munlock(ctypes.c_void_p(address), ctypes.c_size_t(self.sizes.pop(address)))


def _locked() -> int:
    """Returns the bytes that this process has locked."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck"))
    return int(line.split()[1]) * 1024


def _is_mapped(address: int) -> bool:
    """Returns whether this process has memory at an address."""
    spans = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    return any(int(first, 16) <= address < int(last, 16) for first, last in spans)


def test_memory_is_locked_in_its_exact_size_and_given_back():
    pages, before = _Pages(), _locked()
    copies = HostCopies(LockedMemory("PURPOSE", pages.lock, pages.unlock))
    rows = torch.arange(PAGES * mmap.PAGESIZE // 4).view(PAGES, -1).float()
    copy = copies.copy("rows", _on_gpu(rows))
    small = copies.copy("one", _on_gpu(torch.tensor(3.0)))
    assert torch.equal(copy, rows)
    assert small == 3
    assert _locked() - before == (PAGES + 1) * mmap.PAGESIZE  # 64 pages and one with torch's pinned memory
    assert copies.bytes == copies.locked.bytes == rows.nbytes + 4
    assert copies.copy("rows", _on_gpu(rows + 1)).data_ptr() == copy.data_ptr()
    address = copy.data_ptr()
    copies.free()
    assert _locked() == before
    assert pages.sizes == {}
    assert torch.equal(copy, rows + 1), "a save under way must keep its memory"
    assert _is_mapped(address)
    del copy
    gc.collect()
    assert not _is_mapped(address)


def test_another_shape_takes_other_memory():
    pages, before = _Pages(), _locked()
    copies = HostCopies(LockedMemory("PURPOSE", pages.lock, pages.unlock))
    copies.copy("a", _on_gpu(torch.zeros(mmap.PAGESIZE)))
    copies.copy("a", _on_gpu(torch.zeros(3)))
    assert _locked() - before == mmap.PAGESIZE
    copies.free()


def test_what_cannot_be_locked_is_ordinary_memory(capfd):
    pages = _Pages(most=2 * mmap.PAGESIZE)
    copies = HostCopies(LockedMemory("PURPOSE", pages.lock, pages.unlock))
    for name, size in (("a", 2), ("b", 3), ("c", 1)):
        values = torch.rand(size * mmap.PAGESIZE // 8)
        assert torch.equal(copies.copy(name, _on_gpu(values)), values)
    assert len(pages.sizes) == 1
    assert (
        capfd.readouterr().err.count(
            "host memory could not be locked for copies to or from the GPU (CUDA error 2); PURPOSE"
        )
        == 1
    )
    copies.free()
    assert pages.sizes == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 5)])
def test_every_shape_and_dtype(dtype, shape):
    pages = _Pages()
    copies = HostCopies(LockedMemory("PURPOSE", pages.lock, pages.unlock))
    values = torch.ones(shape).to(dtype)
    copy = copies.copy("a", _on_gpu(values))
    assert torch.equal(copy, values)
    assert (copy.shape, copy.dtype) == (values.shape, values.dtype)
    copies.free()


def test_a_snapshot_of_a_pretended_gpu_goes_through_cuda_s_own_functions():
    calls = []
    functions = SimpleNamespace(
        cudaHostRegister=lambda address, size, flags: calls.append((address, size, flags)) or 0,
        cudaHostUnregister=lambda address: calls.append(address),
    )
    copies = HostCopies()
    with pretended_cuda(), mock.patch.object(torch.cuda, "cudart", return_value=functions):
        state = {"w": torch.arange(6.0, device=CUDA).view(2, 3)}
        snapshot = Snapshot.take(state, Ranks(None), copies)
        copy = snapshot.files[REPLICATED]["w"]
        assert torch.equal(copy, torch.arange(6.0).view(2, 3))
        assert calls == [(copy.data_ptr(), 24, 0)]
        copies.free()
        assert calls[1:] == [copy.data_ptr()]


def test_a_failure_of_cuda_is_named():
    """The device's next kernel reports it once more, which must not end the run."""
    functions = SimpleNamespace(cudaHostRegister=lambda address, size, flags: 712)
    reported = mock.Mock(side_effect=RuntimeError("CUDA error: part or all of the requested memory range is already"))
    with mock.patch.object(torch.cuda, "cudart", return_value=functions), mock.patch.object(torch, "ones", reported):
        assert lock(4096, 4096, _GPU) == "CUDA error 712"
    reported.assert_called_once_with(1, device=_GPU)


def test_a_torch_without_cuda_says_why():
    if not torch.cuda.is_available():
        assert lock(0, 4096, _GPU)
