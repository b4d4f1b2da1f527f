"""A GPU that is none: tensors that say they are elsewhere, computed on the CPU, and refuse to meet CPU tensors.

What CUDA would refuse is refused: an operation on tensors of both devices, but for a single number of the CPU in an
elementwise operation, CPU indices, and copies. Everything else really runs, data-dependent operations too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["GPU", "PretendedGpu"]

GPU = torch.device("meta")
"""Torch slices and guards tensors of this device on any machine, which it does not for cuda."""

_COPIES = ("copy_.default", "_to_copy.default")


class _OnGpu(Tensor):
    """A CPU tensor in a GPU's clothes."""

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
    """Within it, a tensor that is made on or moved to `GPU` is there as far as anyone can tell."""

    def __enter__(self) -> Any:
        make = self._make = torch.tensor  # which would never look at the values of a tensor on this device

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
    name = function.name().split("::")[1] + ("" if "." in function.name() else ".default")
    met = _tensors((arguments, named))
    there = [tensor for tensor in met if isinstance(tensor, _OnGpu)]
    here = [tensor for tensor in met if not isinstance(tensor, _OnGpu)]
    if torch.Tag.pointwise in function.tags:
        here = [tensor for tensor in here if tensor.dim()]
    if name.startswith("index.") and isinstance(arguments[0], _OnGpu):
        here = []
    if there and here and name not in _COPIES:
        raise RuntimeError(f"Expected all tensors to be on the same device; {name} got both")
    device = named.get("device")
    goes = bool(there) if device is None else torch.device(device) == GPU
    held = {id(tensor.held): tensor for tensor in there}
    inner = {**named, "device": torch.device("cpu")} if device is not None else named
    moved = name == "_to_copy.default" and device is not None and goes != bool(there)
    arguments, inner = tree_map_only(_OnGpu, lambda tensor: tensor.held, (arguments, inner))
    found = function(*arguments, **inner)
    if moved:  # a copy in every case, as between two devices
        found = found.clone()

    def dressed(tensor: Tensor) -> Tensor:
        return held[id(tensor)] if id(tensor) in held else _OnGpu(tensor)

    return tree_map_only(Tensor, dressed, found) if goes else found


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, values)
    return found
