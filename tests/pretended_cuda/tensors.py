"""Tensors of the pretended device, and what its operations refuse, cost and return.

A tensor says `cuda:0`, or the number of its process's device, and holds its numbers in a CPU tensor. An operation runs
on these, if CUDA would run it on the devices of its arguments: tensors of both devices meet only in copies, as indices
on the CPU, and as scalars on the CPU in elementwise operations.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from tests.pretended_cuda.collectives import check_collective
from tests.pretended_cuda.costs import launches_of, tensors_in, traffic_of, waits_of
from tests.pretended_cuda.ledger import LEDGER
from tests.pretended_cuda.streams import PretendedStream, Work, current_stream, ordered, work

__all__ = ["CUDA", "OnCuda", "dispatched"]

CUDA = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
"""The pretended device of this process: like any program here, it uses one."""

_COPIES = ("copy_", "_to_copy")
_TAKE_SCALARS = ("fill_", "fill", "masked_fill_", "masked_fill")
_TAKE_CPU_INDICES = ("index", "index_put", "index_put_", "_index_put_impl_")
_FOR_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first."


def _histogram(numbers: Tensor, bins: int, least: float, end: float) -> Tensor:
    """Stands for `histc`, which takes whole numbers on CUDA alone."""
    if numbers.is_floating_point():
        return torch.histc(numbers, bins, least, end)
    assert (least, end) == (0, bins), "a bin for each number"
    return numbers[(numbers >= 0) & (numbers < bins)].bincount(minlength=bins)


def _pinned(tensor: Tensor, device: Any = None) -> Tensor:
    """Stands for `pin_memory`: a copy in memory that counts as page-locked, for good as with torch."""
    made = tensor.clone()
    LEDGER.locked[made.data_ptr()] = made.nbytes
    return made


def _is_pinned(tensor: Tensor, device: Any = None) -> bool:
    return tensor.data_ptr() in LEDGER.locked


_data: Any = Tensor.data

_INSTEAD = {"histc": _histogram, "_pin_memory": _pinned, "is_pinned": _is_pinned}


class OnCuda(Tensor):
    """A tensor of the pretended device."""

    held: Tensor
    made_by: Work

    @staticmethod
    def __new__(cls, held: Tensor) -> OnCuda:
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=CUDA
        )
        made.held = held
        made.made_by = work()
        return made

    def __repr__(self, **named: Any) -> str:
        return f"OnCuda({self.held!r})"

    def tolist(self) -> Any:
        LEDGER.waited("tolist")
        return self.held.tolist()

    def new_tensor(self, data: Any, **named: Any) -> Tensor:
        LEDGER.waited("new_tensor")
        return OnCuda(self.held.new_tensor(data, **named))

    @property
    def data(self) -> Tensor:
        """The same numbers without history; setting it gives the tensor the numbers of another one."""
        return self.detach()

    @data.setter
    def data(self, value: OnCuda) -> None:
        _data.__set__(self, value)
        self.held = value.held
        self.made_by = value.made_by

    def record_stream(self, stream: PretendedStream) -> None:
        self.made_by.streams.add(stream)

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def numpy(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(_FOR_NUMPY)

    def __array__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(_FOR_NUMPY)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return dispatched(function, arguments, named or {})


def dispatched(function: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """Runs an operation on the CPU tensors behind its arguments, if CUDA would run it on these devices."""
    full = function.name()
    name = full.split("::")[1].split(".")[0]
    if full.startswith("c10d::"):
        check_collective(name, arguments)
    met = tensors_in((arguments, named))
    there = [tensor for tensor in met if isinstance(tensor, OnCuda)]
    _refuse_two_devices(function, name, arguments, met, bool(there))
    for tensor in there:
        ordered(tensor.made_by, name)
    device = named.get("device")
    goes_there = bool(there) if device is None else torch.device(device).type == "cuda"
    if name in ("_pin_memory", "is_pinned"):
        goes_there = False
    here_arguments, here_named = tree_map_only(OnCuda, lambda tensor: tensor.held, (arguments, named))
    if device is not None:
        here_named["device"] = torch.device("cpu")
    here_named.pop("pin_memory", None)
    result = _INSTEAD.get(name, function)(*here_arguments, **here_named)
    crosses = name == "_to_copy" and device is not None and goes_there != bool(there)
    if crosses and any(result is tensor for tensor in tensors_in(here_arguments)):
        result = result.clone()  # between two devices there is always a copy
    if there or goes_there:
        LEDGER.operations.add(full)
        _count(function, name, arguments, named, result, crosses)
    wrapper_of = {id(tensor.held): tensor for tensor in there}

    def on_device(tensor: Tensor) -> Tensor:
        """Results in place keep their wrapper."""
        if id(tensor) not in wrapper_of:
            return OnCuda(tensor)
        changed = wrapper_of[id(tensor)]
        changed.made_by = Work(current_stream(), work().number, changed.made_by.streams)
        return changed

    if not goes_there:
        return result
    with torch.inference_mode(False):  # torch gives views a version, which an inference tensor refuses
        return tree_map_only(Tensor, on_device, result)


def _refuse_two_devices(function: Any, name: str, arguments: Any, met: list[Tensor], any_there: bool) -> None:
    """Raises as CUDA does if tensors of both devices meet."""
    here = [tensor for tensor in met if not isinstance(tensor, OnCuda)]
    if not any_there or not here or name in _COPIES:
        return
    if torch.Tag.pointwise in function.tags or name in _TAKE_SCALARS:
        here = [tensor for tensor in here if tensor.dim()]
    if name in _TAKE_CPU_INDICES and isinstance(arguments[0], OnCuda):
        indices = tensors_in(arguments[1])
        for index in indices:
            if not isinstance(index, OnCuda):
                LEDGER.waited("index on the CPU")
        here = [tensor for tensor in here if tensor.dim() and not any(tensor is index for index in indices)]
    if here:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({function.name()})"
        )


def _count(function: Any, name: str, arguments: Any, named: dict[str, Any], result: Any, crosses: bool) -> None:
    """Enters an operation into the ledger."""
    if name == "copy_":
        crosses = isinstance(arguments[0], OnCuda) != isinstance(arguments[1], OnCuda)
    if crosses:
        source = arguments[1] if name == "copy_" else arguments[0]
        blocks = not (named.get("non_blocking") or (name == "copy_" and len(arguments) > 2 and arguments[2]))
        down = isinstance(source, OnCuda)
        if blocks:
            LEDGER.waited("copy to the CPU" if down else "copy from the CPU")
            current_stream().settled = current_stream().done
        target = arguments[0] if name == "copy_" else result
        LEDGER.copied_bytes(down, (target if down else source), source.nbytes)
        return
    if waits := waits_of(name, arguments, named):
        LEDGER.waited(name, waits)
        current_stream().settled = current_stream().done
    if launches := launches_of(name, arguments):
        LEDGER.launched(name, launches, traffic_of(function, arguments, named, result))
