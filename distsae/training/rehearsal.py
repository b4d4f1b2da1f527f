"""What Mutual Choice would select while Feature Choice rules.

Under Feature Choice densities follow the quotas, so ranking the features by them again would change nothing. A
rehearsal selects by Mutual Choice from the same scores beside the real selection, trains nothing with it, and counts.
"""

from __future__ import annotations

import torch

from distsae.allocation import MutualSelector
from distsae.losses import FiringStatistics

__all__ = ["Rehearsal"]


class Rehearsal:
    """Densities as Mutual Choice would make them.

    Args:
        k: mean matches per token.
        before: the statistics of Mutual Choice up to now, from which the rehearsal goes on; empty ones if there was
            none.
    """

    def __init__(self, k: float, before: FiringStatistics) -> None:
        self.selector = MutualSelector(k)
        self.statistics = FiringStatistics(
            before.matches.numel(), before.window_tokens, before.dead_after_tokens, before.matches.device
        )
        self.statistics.follow(before)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the live tensors."""
        return {f"rehearsal.{name}": tensor for name, tensor in self.statistics.tensors().items()}
