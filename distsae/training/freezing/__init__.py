"""From a batch rule to a frozen SAE, which needs no batch: held-out rows, calibration, and the gap that remains."""

from distsae.training.freezing.frozen_sae import frozen_sae
from distsae.training.freezing.gap import FrozenGap, frozen_gap
from distsae.training.freezing.heldout_check import HeldoutCheck, heldout_values
from distsae.training.freezing.heldout_rows import CALIBRATION_TOKENS, JUDGING_TOKENS, heldout_rows

__all__ = [
    "CALIBRATION_TOKENS",
    "JUDGING_TOKENS",
    "FrozenGap",
    "HeldoutCheck",
    "frozen_gap",
    "frozen_sae",
    "heldout_rows",
    "heldout_values",
]
