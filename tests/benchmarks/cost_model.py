"""The bytes and calls of a step of Mutual Choice as the benchmarks meter them: `distsae.planning` has the formulas."""

from __future__ import annotations

from distsae.planning.exchanges import all_reduce_bytes, exchanges, most_selection_bytes
from distsae.planning.step_shape import StepShape as Job
from distsae.planning.step_shape import work
from tests.benchmarks.metered_mesh import EXCHANGES

__all__ = ["Job", "bytes_received", "calls", "dense_bytes", "most_selection_bytes", "work"]

_METERED = {"gradients": "factors", "losses": "numbers", "norm": "numbers"}
"""Names that the meter has for exchanges: it tells them apart by axis and operation alone."""


def bytes_received(job: Job, matches: float | None = None) -> dict[str, float]:
    """Returns the bytes that reach a rank, by metered exchange; see `distsae.planning.exchanges.exchanges`."""
    found = dict.fromkeys(EXCHANGES, 0.0)
    for exchange in exchanges(job, matches):
        found[_METERED.get(exchange.name, exchange.name)] += exchange.received
    return found


def calls(job: Job) -> dict[str, int]:
    """Returns the collectives of a step, by metered exchange; the selection as it usually is."""
    found = dict.fromkeys(EXCHANGES, 0)
    for exchange in exchanges(job):
        found[_METERED.get(exchange.name, exchange.name)] += exchange.calls
    return found


def dense_bytes(job: Job) -> float:
    """Returns what data ranks would receive if they summed matrices of gradients rather than gather their factors."""
    return all_reduce_bytes(2 * job.own_features * 4 * job.d_in, job.data)
