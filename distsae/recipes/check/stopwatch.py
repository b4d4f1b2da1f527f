"""Seconds that work on a device takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

__all__ = ["now", "seconds_of"]

_AT_LEAST = 0.3
"""Seconds that repetitions take together, so that one that is disturbed does not count."""

_REPETITIONS = 3


def now(device: torch.device) -> float:
    """Returns the time in seconds once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Returns the median seconds of `work`, which is done once before, to warm up.

    Args:
        work: function that gives a device something to do.
        device: the device.
    """
    work()
    found: list[float] = []
    while len(found) < _REPETITIONS or sum(found) < _AT_LEAST:
        begun = now(device)
        work()
        found.append(now(device) - begun)
    return median(found)
