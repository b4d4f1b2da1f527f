"""The mode in which this process has a GPU: `torch.cuda` says so, and tensors can be made there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pretended_cuda.backward import backward, execution_engine
from tests.pretended_cuda.collectives import pretended_nccl
from tests.pretended_cuda.device_guard import load_device_guard
from tests.pretended_cuda.ledger import LEDGER
from tests.pretended_cuda.streams import (
    PretendedEvent,
    PretendedStream,
    current_stream,
    on_stream,
    settle_all,
)
from tests.pretended_cuda.tensors import CUDA, OnCuda, dispatched
from tests.pretended_cuda.triton_launches import launch

__all__ = ["Dispatched", "pretended_cuda"]

_MEMORY = 80 << 30
_make_tensor = torch.tensor
_run_thread = threading.Thread.run
_apply_to_module = torch.nn.Module._apply


class Dispatched(TorchDispatchMode):
    """The part of the mode that is a thread's own: further threads enter it within `pretended_cuda`."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return dispatched(function, arguments, named or {})


def _tensor(data: Any, *, device: Any = None, **named: Any) -> Tensor:
    """Stands for `torch.tensor`, which copies from the CPU and waits for the copy."""
    if device is None or torch.device(device).type != "cuda":
        return _make_tensor(data, device=device, **named)
    LEDGER.waited("torch.tensor")
    return OnCuda(_make_tensor(data.held if isinstance(data, OnCuda) else data, **named))


def _run(thread: threading.Thread) -> None:
    """Stands for `Thread.run`: a thread sees the device as well."""
    with Dispatched():
        _run_thread(thread)


def _apply(module: torch.nn.Module, function: Any, recurse: bool = True) -> torch.nn.Module:
    """Stands for `Module._apply`: a module that is where it is moved to keeps its parameters."""
    own = [*module.parameters(recurse), *module.buffers(recurse)]
    if own and all(function(tensor) is tensor for tensor in own):
        return module
    return _apply_to_module(module, function, recurse)


def _lock(address: int, size: int, flags: int) -> int:
    LEDGER.locked[address] = size
    return 0


def _synchronize(*given: Any) -> None:
    LEDGER.waited("synchronize")
    settle_all()


def _stands_for() -> Iterator[tuple[Any, str, Any]]:
    """Yields what stands for parts of torch: the object, the name of the part, and its stand-in."""
    yield torch, "tensor", _tensor
    yield Tensor, "pin_memory", lambda tensor, *rest: tensor
    yield Tensor, "cuda", lambda tensor, *rest, **named: tensor.to(CUDA)
    # A module that is moved gets new parameters: the numbers of a tensor cannot be exchanged for those of a subclass.
    yield torch.__future__, "_overwrite_module_params_on_conversion", True
    properties = SimpleNamespace(
        name="pretended", total_memory=_MEMORY, major=9, minor=0, multi_processor_count=132, warp_size=32
    )
    constants: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "device_count": int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        "current_device": CUDA.index,
        "get_device_capability": (9, 0),
        "get_device_name": properties.name,
        "get_device_properties": properties,
        "is_bf16_supported": True,
        "mem_get_info": (_MEMORY, _MEMORY),
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "memory_reserved": 0,
        "max_memory_reserved": 0,
        "reset_peak_memory_stats": None,
        "memory_stats": {},
        "is_current_stream_capturing": False,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": None,
        "manual_seed": None,
        "initial_seed": 0,
        "set_device": None,
        "empty_cache": None,
        "manual_seed_all": None,
        "device_of": nullcontext(),
        "device": nullcontext(),
    }
    for name, value in constants.items():
        yield torch.cuda, name, lambda *given, _value=value, **named: _value
    yield torch.cuda, "synchronize", _synchronize
    yield torch.cuda.nccl, "version", lambda: (2, 27, 3)
    runtime = SimpleNamespace(cudaHostRegister=_lock, cudaHostUnregister=lambda address: LEDGER.locked.pop(address))
    yield torch.cuda, "cudart", lambda: runtime
    streams = {
        "Stream": PretendedStream,
        "Event": PretendedEvent,
        "stream": on_stream,
        "current_stream": current_stream,
    }
    for name, value in streams.items():
        yield torch.cuda, name, value
    yield torch.autograd, "backward", backward
    yield torch.autograd.Variable, "_execution_engine", execution_engine
    for name in ("range_push", "range_pop"):
        yield torch.cuda.nvtx, name, lambda *given, **named: 0
    yield threading.Thread, "run", _run
    yield torch.nn.Module, "_apply", _apply
    if find_spec("triton") is not None:
        from triton.runtime.jit import JITFunction

        yield JITFunction, "run", launch


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Within this block, the process has one GPU, whose ledger is `LEDGER`."""
    load_device_guard()
    with ExitStack() as stack:
        for owner, name, value in _stands_for():
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(pretended_nccl())
        stack.enter_context(Dispatched())
        yield
