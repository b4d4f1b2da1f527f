"""The cost of torch's operations on a CUDA device: kernels launched, waits of the CPU, bytes read and written.

Launches are those of ATen's CUDA sources for sizes as in a step; sorts and scans launch several, whose number depends
on the size. A wait is a synchronisation in the operation itself: where the size of a result depends on the data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

__all__ = ["launches_of", "tensors_in", "traffic_of", "waits_of"]

_NO_LAUNCH = frozenset(
    {
        "view",
        "_unsafe_view",
        "view_as",
        "_reshape_alias",
        "slice",
        "select",
        "narrow",
        "as_strided",
        "diagonal",
        "unfold",
    }
    | {
        "unsqueeze",
        "squeeze",
        "t",
        "transpose",
        "permute",
        "expand",
        "detach",
        "alias",
        "lift_fresh",
        "set_",
        "resize_",
    }
    | {"split", "split_with_sizes", "unbind", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
    | {"_local_scalar_dense", "is_nonzero", "record_stream"}
)
_SEVERAL = {
    "nonzero": 4,
    "nonzero_static": 3,
    "bincount": 4,
    "sort": 10,
    "argsort": 10,
    "topk": 8,
    "cumsum": 2,
    "masked_select": 6,
    "repeat_interleave": 3,
    "scatter_reduce": 2,
    "index_copy": 2,
    "index_fill": 2,
    "_unique2": 6,
    "_fused_adam": 3,
    "index_add": 2,
}
_WAITS = {
    "nonzero": 1,
    "bincount": 2,
    "masked_select": 1,
    "_unique2": 1,
    "_local_scalar_dense": 1,
    "is_nonzero": 1,
    "equal": 1,
    "allclose": 1,
}
_INDEXED = ("index", "index_put", "_index_put_impl", "_unsafe_index_put")
_GATHERS = frozenset({"index", "index_select", "gather", "embedding", "_embedding_bag"})
_OVERWRITES = frozenset({"copy", "fill", "zero", "normal", "uniform", "random"})


def tensors_in(values: Any) -> list[Tensor]:
    """Returns all tensors in nested values."""
    return [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]


def launches_of(name: str, arguments: Any) -> int:
    """Returns the number of kernels that an operation launches, given its name without overload."""
    if name in _NO_LAUNCH:
        return 0
    plain = name.rstrip("_")
    return _SEVERAL.get(plain, 1) + 4 * _masks(plain, arguments)


def waits_of(name: str, arguments: Any, named: dict[str, Any]) -> int:
    """Returns how often the CPU waits for the device inside an operation."""
    plain = name.rstrip("_")
    if plain == "repeat_interleave":
        return int(named.get("output_size") is None)
    if plain == "bincount" and not arguments[0].numel():
        return 0
    return _WAITS.get(plain, 0) + _masks(plain, arguments)


def _masks(plain: str, arguments: Any) -> int:
    """Returns the number of bool tensors among the indices of an operation: each is turned into indices first."""
    if plain not in _INDEXED:
        return 0
    return sum(index.dtype in (torch.bool, torch.uint8) for index in tensors_in(arguments[1]))


def traffic_of(function: Any, arguments: Any, named: dict[str, Any], result: Any) -> int:
    """Returns the bytes that an operation reads and writes: each tensor once, a gathered one as far as it is gathered.

    Args:
        function: operation of torch.
        arguments: its positional arguments, tensors of the pretended device or of the CPU.
        named: its named arguments.
        result: what it returned, as CPU tensors.
    """
    plain = function.name().split("::")[1].split(".")[0].rstrip("_")
    given = {
        argument.name: value for argument, value in zip(function._schema.arguments, arguments, strict=False)
    } | named
    bytes_moved = 0
    own: list[Tensor] = []
    for argument in function._schema.arguments:
        found = tensors_in(given.get(argument.name))
        own += [getattr(tensor, "held", tensor) for tensor in found]
        written = argument.alias_info is not None and argument.alias_info.is_write
        times = 1
        if written and not argument.is_out and plain not in _OVERWRITES and argument.name != "grads":
            times = 2  # read, then written
        if plain in _GATHERS and argument.name in ("self", "weight"):
            times = 0
        bytes_moved += times * sum(tensor.nbytes for tensor in found)
    fresh = [tensor for tensor in tensors_in(result) if not any(tensor is known for known in own)]
    return bytes_moved + (2 if plain in _GATHERS else 1) * sum(tensor.nbytes for tensor in fresh)
