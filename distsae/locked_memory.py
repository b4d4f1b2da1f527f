"""Page-locked host memory, to and from which a GPU copies while everything else goes on: of exact size, given back.

torch's own (`pin_memory=True`) takes the next power of two (1.33 times as much at width 768, 1.78 at 2304) and keeps it
until the process ends. Here ordinary memory of the size that is needed is locked, and unlocked before it is freed.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable

import torch
from torch import Tensor

from distsae.progress import speak

__all__ = ["LockedMemory", "lock", "unlock"]


def lock(address: int, size: int, device: torch.device) -> str:
    """Locks host memory; returns why that cannot be done, empty if it is done.

    Args:
        address: first byte.
        size: number of bytes.
        device: GPU that copies to the memory.
    """
    try:
        outcome = int(torch.cuda.cudart().cudaHostRegister(address, size, 0))  # type: ignore[no-untyped-call]
    except (AssertionError, AttributeError, RuntimeError) as error:  # a torch or a device without this function
        return str(error).partition("\n")[0]
    if outcome == 0:
        return ""
    with contextlib.suppress(RuntimeError):
        torch.ones(1, device=device)  # the next launch of a kernel reports the failure once more: this one
    return f"CUDA error {outcome}"


def unlock(address: int) -> None:
    """Unlocks host memory that was locked."""
    torch.cuda.cudart().cudaHostUnregister(address)  # type: ignore[no-untyped-call]


class LockedMemory:
    """Makes tensors in page-locked memory, or in ordinary memory once no more can be locked.

    Args:
        purpose: what the memory is for, and what happens without: the end of the warning.
        locking: function that locks memory, as `lock` does.
        unlocking: function that unlocks it.

    Attributes:
        bytes: size of the memory that is locked.
    """

    def __init__(
        self,
        purpose: str,
        locking: Callable[[int, int, torch.device], str] = lock,
        unlocking: Callable[[int], None] = unlock,
    ) -> None:
        self._purpose = purpose
        self._locking = locking
        self._unlocking = unlocking
        self._sizes: dict[int, int] = {}
        self._refused = False

    @property
    def bytes(self) -> int:  # noqa: D102  (an attribute, above)
        return sum(self._sizes.values())

    def like(self, tensor: Tensor) -> Tensor:
        """Returns a tensor on the CPU of the shape and dtype of one on a GPU, with any values."""
        if not tensor.nbytes:
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        return self.pages(tensor.nbytes, tensor.device).view(tensor.dtype).view(tensor.shape)

    def pages(self, size: int, device: torch.device) -> Tensor:
        """Returns `size` bytes of memory, uint8 `[size]`, that begin at a page.

        Args:
            size: number of bytes, at least 1.
            device: GPU that copies to or from the memory.
        """
        # Pages of its own: two tensors that shared a page could not both lock it.
        made = torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8, count=size)
        if self._refused:
            return made
        if why := self._locking(made.data_ptr(), size, device):
            self._refused = True
            speak(
                f"warning: {size / 2**20:,.0f} MiB of host memory could not be locked for copies to or from the GPU "
                f"({why}); {self._purpose}"
            )
        else:
            self._sizes[made.data_ptr()] = size
        return made

    def release(self, tensor: Tensor) -> None:
        """Unlocks the memory of a tensor, which stays valid; it is freed with its last reference."""
        if self._sizes.pop(tensor.data_ptr(), None) is not None:
            self._unlocking(tensor.data_ptr())

    def release_all(self) -> None:
        """Unlocks the memory of all tensors."""
        while self._sizes:
            address, _ = self._sizes.popitem()
            self._unlocking(address)
