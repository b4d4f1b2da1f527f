"""The seconds of a collective: bytes over the slowest link it crosses, and a latency for each step of its algorithm.

Ranks of a machine are neighbours on a link inside it (NVLink, PCIe, memory); between machines each rank has a network
link of its own, and a ring that crosses machines enters each of them by the links of all its ranks there. The library
that carries a collective chooses among algorithms and protocols; the plan takes the fastest for each message, as NCCL
does, with NCCL's own model of what their steps cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distsae.planning.exchanges import Exchange
from distsae.planning.step_shape import StepShape

__all__ = ["GLOO", "NCCL_NVLINK", "NCCL_PCIE", "Links", "WireProtocol", "exchange_seconds", "one_machine"]


@dataclass(frozen=True)
class WireProtocol:
    """A way to move a message: an algorithm with the latency of its steps, and the share of the links that it fills.

    Args:
        tree: whether ranks form trees over the machines, which all-reduces alone may use; otherwise a ring.
        base: seconds before the first step.
        inside: seconds of a step inside a machine.
        between: seconds of a step between machines.
        share: share of the links' rate that it reaches.
    """

    tree: bool
    base: float
    inside: float
    between: float
    share: float


_US = 1e-6
_NCCL_BETWEEN = {"ring, LL": 2.7, "ring, simple": 9.6, "tree, LL": 5.0, "tree, simple": 50.0}


def _nccl(inside: dict[str, float]) -> tuple[WireProtocol, ...]:
    """Latencies in microseconds as NCCL's tuner has them (NVIDIA/nccl, src/graph/tuning.cc: `baseLat`, `hwLat`, and the
    shares of `busBw`).
    """  # noqa: D205
    base = {"ring, LL": 3.6, "ring, simple": 8.4, "tree, LL": 4.4, "tree, simple": 0.0}
    share = {"ring, LL": 0.25, "ring, simple": 1.0, "tree, LL": 0.9 / 3.8, "tree, simple": 0.9}
    return tuple(
        WireProtocol(
            name.startswith("tree"), base[name] * _US, inside[name] * _US, _NCCL_BETWEEN[name] * _US, share[name]
        )
        for name in base
    )


NCCL_NVLINK = _nccl({"ring, LL": 0.47, "ring, simple": 3.4, "tree, LL": 0.52, "tree, simple": 28.0})
NCCL_PCIE = _nccl({"ring, LL": 1.0, "ring, simple": 5.7, "tree, LL": 1.0, "tree, simple": 28.0})

GLOO = (WireProtocol(tree=False, base=50 * _US, inside=20 * _US, between=60 * _US, share=1.0),)
"""Gloo over TCP: assumed, of the order that two processes of one machine were measured with."""


@dataclass(frozen=True, kw_only=True)
class Links:
    """What connects the processes of a run.

    Args:
        inside: bytes per second that reach a rank from the others of its machine in a long collective.
        between: bytes per second that a rank's own network link brings from other machines.
        node_size: ranks of a machine.
        protocols: ways to move a message.
    """

    inside: float
    between: float
    node_size: int
    protocols: tuple[WireProtocol, ...]

    def seconds(self, kind: str, received: float, calls: int, size: int, stride: int) -> float:
        """Returns the seconds of some collectives of one group.

        Args:
            kind: `all_reduce` or `all_gather`.
            received: bytes that reach a rank in all of them.
            calls: number of collectives.
            size: ranks of the group.
            stride: ranks of the job from one rank of the group to the next.
        """
        if size == 1 or not calls:
            return 0.0
        inside, machines = self.spread(size, stride)
        rate = self.inside if machines == 1 else min(self.inside, self.between * inside)
        return min(
            calls * _latency(way, kind, size, inside, machines) + received / (rate * way.share)
            for way in self.protocols
            if kind == "all_reduce" or not way.tree
        )

    def spread(self, size: int, stride: int) -> tuple[int, int]:
        """Returns the most ranks of a group in one machine, and the machines that it reaches."""
        inside = min(max(self.node_size // stride, 1), size)
        return inside, -(-size // inside) if size * stride > self.node_size else 1


def _latency(way: WireProtocol, kind: str, size: int, inside: int, machines: int) -> float:
    """Returns the seconds of a collective that moves nothing."""
    if way.tree:
        return way.base + 2 * ((inside - 1) * way.inside + math.log2(machines) * way.between)
    rounds = 2 if kind == "all_reduce" else 1
    crossing = rounds * (machines - 1)
    return way.base + (rounds * (size - 1) - crossing) * way.inside + crossing * way.between


def one_machine(rate: float, latency: float, ranks: int, measured_with: int) -> Links:
    """Returns the links of a machine on which a sum of its processes was measured.

    Args:
        rate: bytes that reached a process in a second.
        latency: seconds of a sum of one number; 0 if that was not measured.
        ranks: processes of the machine that are planned for.
        measured_with: processes that the sum was measured with.
    """
    step = latency / max(2 * (measured_with - 1), 1)
    return Links(inside=rate, between=rate, node_size=ranks, protocols=(WireProtocol(False, 0.0, step, step, 1.0),))


def exchange_seconds(shape: StepShape, found: Sequence[Exchange], links: Links) -> Iterator[tuple[str, float]]:
    """Yields the name and the seconds of each exchange; feature ranks are neighbours, so they fill machines first."""
    for exchange in found:
        stride = shape.feature if exchange.axis == "data" else 1
        size = exchange.ranks(shape)
        yield exchange.name, links.seconds(exchange.kind, exchange.received, exchange.calls, size, stride)
