"""A training that is not over before a test has done to it what it wants to do."""

from __future__ import annotations

import os
from pathlib import Path

from tests.end_to_end.launching import ROOT


class Hold:
    """Keeps `distsae train`, started with its environment, from a step until it is released or gets a signal.

    However fast the machine, and however late the test: what is killed or asked to stop has not ended by itself.

    Args:
        folder: where it keeps a file meanwhile.
        before: step, counted from 0, that is not begun.
    """

    def __init__(self, folder: Path, before: int) -> None:
        self._path = folder / "hold"
        self._path.touch()
        self.environment = {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).with_name("held")), str(ROOT)]),
            "HOLD_BEFORE": str(before),
            "HOLD_WHILE": str(self._path),
        }

    def release(self) -> None:
        self._path.unlink()
