"""A mesh whose collectives are counted and timed by what they are for, and selectors that time themselves.

The step knows nothing of it. Which exchange a call belongs to follows from its axis and its operation: the selection
alone uses the group of all ranks, the reconstructions are the only vectors of tokens that feature ranks sum, factors of
the gradients are what data ranks gather, firings are the integers they sum. The rest are a few numbers.
"""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from distsae.allocation import Matches, Placement, Scores, Selector
from distsae.collective import Collective
from distsae.parallel import GroupCollective, Mesh

__all__ = ["EXCHANGES", "Clock", "Ledger", "Spent", "TimedSelectors", "metered"]

EXCHANGES = ("selection", "reconstruction", "factors", "firings", "numbers")

_Found = TypeVar("_Found")


@dataclass
class Spent:
    """What the collectives of one kind took on this rank.

    Args:
        calls: torch's collectives.
        received: bytes that reached this rank, as `GroupCollective` counts them.
        seconds: wall time, waiting for other ranks included.
        own: processor seconds of the calling thread; the caller takes them off its own.
        processor: processor seconds of all threads.
    """

    calls: int = 0
    received: int = 0
    seconds: float = 0.0
    own: float = 0.0
    processor: float = 0.0


class Ledger:
    """What has been spent, by kind."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, Spent] = defaultdict(Spent)

    @property
    def own(self) -> float:
        """Processor seconds of the calling thread in collectives so far."""
        return sum(spent.own for spent in self.spent.values())

    def take(self) -> dict[str, Spent]:
        """Returns what was spent since the last call."""
        taken, self.spent = dict(self.spent), defaultdict(Spent)
        return taken


def metered(mesh: Mesh, ledger: Ledger) -> Mesh:
    """Returns the mesh with every real group metered into `ledger`."""

    def group(axis: str, collective: Collective) -> Collective:
        return _Metered(collective, axis, ledger) if isinstance(collective, GroupCollective) else collective

    return dataclasses.replace(
        mesh,
        data=group("data", mesh.data),
        feature=group("feature", mesh.feature),
        world=group("world", mesh.world),
    )


class _Metered:
    def __init__(self, group: GroupCollective, axis: str, ledger: Ledger) -> None:
        self._group = group
        self._axis = axis
        self._ledger = ledger
        self.rank, self.size = group.rank, group.size

    def sum(self, tensor: Tensor) -> Tensor:
        kind = "numbers"
        if self._axis == "feature" and tensor.ndim > 1:
            kind = "reconstruction"
        elif self._axis == "data" and not tensor.is_floating_point():
            kind = "firings"
        return self._timed(kind, lambda: self._group.sum(tensor))

    def max(self, tensor: Tensor) -> Tensor:
        return self._timed("numbers", lambda: self._group.max(tensor))

    def stack(self, tensor: Tensor) -> Tensor:
        return self._timed("factors", lambda: self._group.stack(tensor))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        return self._timed("factors", lambda: self._group.gather(tensor))

    def _timed(self, kind: str, call: Callable[[], _Found]) -> _Found:
        spent, group = self._ledger.spent["selection" if self._axis == "world" else kind], self._group
        calls, received = group.collectives, group.bytes_received
        begun = time.perf_counter()
        own = time.thread_time()
        processor = time.process_time()
        found = call()
        spent.processor += time.process_time() - processor
        spent.own += time.thread_time() - own
        spent.seconds += time.perf_counter() - begun
        spent.calls += group.collectives - calls
        spent.received += group.bytes_received - received
        return found


class Clock:
    """Processor seconds of this thread outside collectives.

    Args:
        ledger: of the collectives.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.begin()

    def begin(self) -> None:
        """Starts anew."""
        self._last = time.thread_time() - self._ledger.own

    def lap(self) -> float:
        """Returns the seconds since the last lap, or the start."""
        now = time.thread_time() - self._ledger.own
        taken, self._last = now - self._last, now
        return taken


class TimedSelectors:
    """Selectors that select the same and take the processor time of it, as one.

    Encoding is part of it, since blocks are encoded as they are offered.

    Args:
        selectors: the rules of a step, in their order.
        ledger: of the collectives, whose time is not counted.

    Attributes:
        wrapped: to be used in their place.
        seconds: taken so far.
        passes: over the encoder so far.
    """

    def __init__(self, selectors: Sequence[Selector], ledger: Ledger) -> None:
        self.wrapped: list[Selector] = [_Timed(one, self, first=one is selectors[0]) for one in selectors]
        self.clock = Clock(ledger)
        self.seconds = 0.0
        self.passes = 0


class _Timed:
    def __init__(self, selector: Selector, all_of_them: TimedSelectors, *, first: bool) -> None:
        self._selector = selector
        self._all = all_of_them
        self._first = first

    def start(self, placement: Placement, tokens: int) -> None:
        if self._first:
            self._all.clock.begin()
            self._all.passes += 1
        self._selector.start(placement, tokens)

    def offer(self, first_feature: int, scores: Scores) -> None:
        self._selector.offer(first_feature, scores)

    def tally(self) -> Tensor | None:
        return self._selector.tally()

    def resolve(self, told: Tensor) -> Matches | None:
        found = self._selector.resolve(told)
        self._all.seconds += self._all.clock.lap()
        return found
