"""What Mutual Choice would select during Feature Choice.

Under Feature Choice densities follow the quotas, so ranking the features by them again would change nothing. A
rehearsal selects from the same scores by Mutual Choice as well, and counts these matches without training on them.
"""

from __future__ import annotations

import torch

from distsae.allocation import MutualSelector
from distsae.losses import FiringStatistics

__all__ = ["Rehearsal"]


class Rehearsal:
    """The densities that Mutual Choice would give the features now.

    Args:
        k: mean matches per token.
        before: firing statistics of Mutual Choice so far, with which the rehearsal starts; empty if there are none.

    Attributes:
        selector: selector of Mutual Choice.
        statistics: firing statistics of its matches.
    """

    def __init__(self, k: float, before: FiringStatistics) -> None:
        self.selector = MutualSelector(k)
        self.statistics = FiringStatistics(
            before.matches.numel(), before.window_tokens, before.dead_after_tokens, before.matches.device
        )
        self.statistics.follow(before)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the live tensors of the statistics as `rehearsal.NAME`."""
        return {f"rehearsal.{name}": tensor for name, tensor in self.statistics.tensors().items()}
