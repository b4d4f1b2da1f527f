"""A pretended GPU: its tensors are computed on the CPU, but cannot be mixed with CPU tensors.

As with CUDA, an operation on tensors of both devices raises an error, except for copies, indices on the CPU, and
scalars on the CPU in elementwise operations. All other operations run as usual, including data-dependent ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["GPU", "PretendedGpu"]

GPU = torch.device("meta")
"""Device of the pretended GPU: torch can slice tensors of this device on any machine, unlike those of cuda."""

_COPIES = ("copy_.default", "_to_copy.default")


class _OnGpu(Tensor):
    """A CPU tensor that looks like one on the GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> _OnGpu:
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=GPU
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    def new_tensor(self, data: Any, **named: Any) -> Tensor:
        return self.held.new_tensor(data, **named).to(GPU)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _run(function, arguments, named or {})


class PretendedGpu(TorchDispatchMode):
    """Within this mode, tensors created on `GPU` or moved to it look as if they were there."""

    def __enter__(self) -> Any:
        make = self._make = torch.tensor  # drops the values of a tensor on the meta device

        def tensor(data: Any, device: Any = None, **named: Any) -> Tensor:
            return make(data, **named) if device is None else make(data, **named).to(device)

        torch.tensor = tensor
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        torch.tensor = self._make
        super().__exit__(*failure)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return _run(function, arguments, named or {})


def _run(function: Any, arguments: Any, named: dict[str, Any]) -> Any:
    """Runs an operation on the CPU tensors behind its arguments, if CUDA would run it on these devices."""
    name = function.name().split("::")[1] + ("" if "." in function.name() else ".default")
    tensors = _tensors((arguments, named))
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, _OnGpu)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, _OnGpu)]
    if torch.Tag.pointwise in function.tags:
        on_cpu = [tensor for tensor in on_cpu if tensor.dim()]
    if name.startswith("index.") and isinstance(arguments[0], _OnGpu):
        on_cpu = []
    if on_gpu and on_cpu and name not in _COPIES:
        raise RuntimeError(f"Expected all tensors to be on the same device; {name} got both")
    device = named.get("device")
    result_on_gpu = bool(on_gpu) if device is None else torch.device(device) == GPU
    wrapper_of = {id(tensor.held): tensor for tensor in on_gpu}
    inner = {**named, "device": torch.device("cpu")} if device is not None else named
    moved = name == "_to_copy.default" and device is not None and result_on_gpu != bool(on_gpu)
    arguments, inner = tree_map_only(_OnGpu, lambda tensor: tensor.held, (arguments, inner))
    result = function(*arguments, **inner)
    if moved:  # between two devices there is always a copy
        result = result.clone()

    def wrapped(tensor: Tensor) -> Tensor:
        """Results in place keep their wrapper."""
        return wrapper_of[id(tensor)] if id(tensor) in wrapper_of else _OnGpu(tensor)

    return tree_map_only(Tensor, wrapped, result) if result_on_gpu else result


def _tensors(values: Any) -> list[Tensor]:
    """Returns all tensors in nested values."""
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, values)
    return found
