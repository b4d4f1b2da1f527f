"""NCCL on the pretended device: its refusals, with gloo underneath.

A group that is asked for with the backend `nccl` says that it is one, takes only what NCCL takes, and sends it with
gloo. Groups that are asked for with gloo stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from tests.pretended_cuda.costs import tensors_in
from tests.pretended_cuda.ledger import LEDGER

__all__ = ["check_collective", "pretended_nccl"]

_DTYPES = frozenset(
    (
        torch.uint8,
        torch.int8,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.bool,
    )
)
_nccl_groups: set[str] = set()
_make_group = c10d._new_process_group_helper
_object_device = c10d._get_object_coll_device


def check_collective(name: str, arguments: Any) -> None:
    """Refuses what NCCL refuses, and enters a collective of such a group into the ledger.

    Args:
        name: name of torch's operation, such as `allreduce_`.
        arguments: its arguments, the process group among them.
    """
    if name == "barrier" or not _nccl_groups & {_group_name(argument) for argument in arguments}:
        return
    tensors = tensors_in(arguments)
    for tensor in tensors:
        if not tensor.is_cuda:
            raise RuntimeError(f"No backend type associated with device type cpu ({name})")
        if not tensor.is_contiguous():
            raise ValueError(f"Tensors must be contiguous ({name} {tuple(tensor.shape)} {tensor.stride()})")
        if tensor.dtype not in _DTYPES:
            raise TypeError(f"Unconvertible NCCL type {tensor.dtype} ({name})")
    sent = getattr(tensors[-1], "held", tensors[-1])  # the others receive; objects are sent in a resized tensor
    LEDGER.collectives.append(f"{name} {str(sent.dtype).removeprefix('torch.')} {[*sent.shape]}")


def _group_name(argument: Any) -> str | None:
    """Returns the name of a process group; None for any other argument."""
    if not isinstance(argument, torch.ScriptObject):
        return None
    try:
        return dist.ProcessGroup.unbox(argument).group_name
    except RuntimeError:  # the operation of a reduction, for example
        return None


@contextmanager
def pretended_nccl() -> Iterator[None]:
    """Within this block, torch.distributed offers the backend `nccl`."""

    def make(size: int, rank: int, ranks: list[int], backend: Any, *rest: Any, **named: Any) -> Any:
        if str(backend) != "nccl":
            return _make_group(size, rank, ranks, backend, *rest, **named)
        group, store = _make_group(size, rank, ranks, dist.Backend("gloo"), *rest, **named)
        if isinstance(group, dist.ProcessGroup):
            _nccl_groups.add(group.group_name)
            c10d._world.pg_map[group] = (dist.Backend("nccl"), c10d._world.pg_map[group][1])
        return group, store

    def object_device(group: Any = None) -> str:
        found = group or dist.group.WORLD
        return "cuda" if found.group_name in _nccl_groups else _object_device(group)

    with ExitStack() as stack:
        for name, value in (("_new_process_group_helper", make), ("_get_object_coll_device", object_device)):
            stack.enter_context(mock.patch.object(c10d, name, value))
        yield
