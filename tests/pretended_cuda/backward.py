"""Backward passes on the pretended device: torch's engine asks a driver for streams, so the graph is walked here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.pretended_cuda.tensors import OnCuda

__all__ = ["backward", "execution_engine"]

_backward = torch.autograd.backward
_at_the_end: list[Callable[[], None]] = []

execution_engine = SimpleNamespace(queue_callback=_at_the_end.append)
"""Stands for `Variable._execution_engine`."""


def backward(tensors: Any, grad_tensors: Any = None, *rest: Any, **named: Any) -> None:
    """Stands for `torch.autograd.backward` of one scalar, without hooks of tensors that are no leaves."""
    root = tensors[0] if isinstance(tensors, list | tuple) else tensors
    if not isinstance(root, OnCuda):
        _backward(tensors, grad_tensors, *rest, **named)
        return
    under_way = mock.patch.multiple(
        torch._C, _current_graph_task_id=lambda: 0, _will_engine_execute_node=lambda node: True
    )
    with under_way, torch.no_grad():
        _walk(root.grad_fn, torch.ones_like(root))
    while _at_the_end:
        _at_the_end.pop(0)()


def _walk(root: Any, gradient: Tensor) -> None:
    """Calls each node of a graph once, with the sum of the gradients of all nodes that use it."""
    uses: Counter[Any] = Counter()
    found = [root]
    seen = {root}
    while found:
        for node, _ in found.pop().next_functions:
            if node is not None:
                uses[node] += 1
                if node not in seen:
                    seen.add(node)
                    found.append(node)
    gradients = {root: gradient}
    ready = [root]
    while ready:
        node = ready.pop(0)
        given = node(gradients.pop(node))
        given = given if isinstance(given, tuple) else (given,)
        for (following, _), part in zip(node.next_functions, given, strict=False):
            if following is None:
                continue
            if part is not None:
                gradients[following] = gradients[following] + part if following in gradients else part
            uses[following] -= 1
            if not uses[following] and following in gradients:
                ready.append(following)
