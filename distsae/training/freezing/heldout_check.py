"""Held-out FVU and L0 during training: by the training rule, and by the thresholds as tracked so far."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.batches import BatchReader
from distsae.model import needs_threshold
from distsae.store import Store
from distsae.training.freezing.calibration import filled_thresholds
from distsae.training.freezing.gap import FrozenGap, frozen_gap
from distsae.training.freezing.heldout_rows import heldout_rows
from distsae.training.state import TrainingState

__all__ = ["HeldoutCheck", "heldout_values"]


class HeldoutCheck:
    """Measures on the rows that also judge the frozen rule at the end of a run; they are read on first use.

    Args:
        store: store with held-out rows.
        hook: hook to read.
        reader: reader of the batches, whose normalisation and limit of the norm hold here as well.
    """

    def __init__(self, store: Store, hook: str, reader: BatchReader) -> None:
        self._store = store
        self._hook = hook
        self._reader = reader
        self._rows: Tensor | None = None

    def measure(self, state: TrainingState) -> FrozenGap:
        """Measures both rules without changing the state. Collective.

        Unlike at the end of a run, the thresholds are not calibrated.
        """
        if self._rows is None:
            self._rows = heldout_rows(self._store, self._hook, self._reader.max_norm)[1].clone()  # frees the other rows
        threshold = None
        if needs_threshold(state.phases.rule):
            tracked = filled_thresholds(state.thresholds.thresholds(), state.mesh)
            threshold = tracked.to(state.shard.b_dec.device, torch.float32)
        return frozen_gap(state, threshold, self._rows, self._reader.normalisation)


def heldout_values(gap: FrozenGap | None) -> dict[str, float | None]:
    """Returns the values of a measurement for a logged line; all are None without one."""
    return {
        "heldout_fvu": gap.fvu_training if gap else None,
        "heldout_l0": gap.l0_training if gap else None,
        "heldout_frozen_fvu": gap.fvu if gap else None,
        "heldout_frozen_l0": gap.l0 if gap else None,
    }
