"""Held-out FVU and L0 while training goes on: by the training rule, and by the thresholds as tracked now."""

from __future__ import annotations

import torch
from torch import Tensor

from distsae.batches import Normalisation
from distsae.store import Store
from distsae.training.freezing.calibration import without_gaps
from distsae.training.freezing.gap import FrozenGap, frozen_gap
from distsae.training.freezing.heldout_rows import heldout_rows
from distsae.training.state import TrainingState

__all__ = ["HeldoutCheck", "heldout_values"]


class HeldoutCheck:
    """Measures on the rows that judge the frozen rule at the end of a run; they are read once, when first asked for.

    Args:
        store: with held-out rows.
        hook: hook to read.
        normalisation: of the rows that training sees.
    """

    def __init__(self, store: Store, hook: str, normalisation: Normalisation) -> None:
        self._store = store
        self._hook = hook
        self._normalisation = normalisation
        self._rows: Tensor | None = None

    def measure(self, state: TrainingState) -> FrozenGap:
        """Returns both rules' figures. Collective; the state stays as it is.

        The thresholds are not calibrated, as they are at the end of a run.
        """
        if self._rows is None:
            self._rows = heldout_rows(self._store, self._hook)[1].clone()  # lets go of the rest
        threshold = None
        if state.phases.rule != "token_choice":
            tracked = without_gaps(state.thresholds.thresholds(), state.mesh)
            threshold = tracked.to(state.shard.b_dec.device, torch.float32)
        rows = self._normalisation.apply(self._rows.to(torch.float32, copy=True))
        return frozen_gap(state, threshold, rows)


def heldout_values(gap: FrozenGap | None) -> dict[str, float | None]:
    """Returns the values of a logged line; None throughout if nothing was measured."""
    return {
        "heldout_fvu": gap.fvu_training if gap else None,
        "heldout_l0": gap.l0_training if gap else None,
        "heldout_frozen_fvu": gap.fvu if gap else None,
        "heldout_frozen_l0": gap.l0 if gap else None,
    }
