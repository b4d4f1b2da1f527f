"""Everything that makes the next step: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from distsae.allocation import MutualSelector
from distsae.checkpoint import Shard, State, Streamed
from distsae.losses import FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.training.engines.protocol import Engine
from distsae.training.engines.weight_average import WeightAverage
from distsae.training.phases import Phases
from distsae.training.thresholds import ThresholdTracker

__all__ = ["TrainingState"]

_REPLICATED = ("b_dec", "adam.exp_avg.b_dec", "adam.exp_avg_sq.b_dec", "average.b_dec")


@dataclass
class TrainingState:
    """The moving parts of a run.

    Args:
        shard: parameters.
        engine: optimizer.
        phases: allocation and quotas.
        statistics: who fires how often.
        thresholds: the frozen rule.
        underused: the auxiliary loss's features, as last measured.
        d_sae: features over all ranks.
        auxiliary: selects for the auxiliary loss.
        average: of the weights; None if the last weights are the ones that count.
    """

    shard: FeatureShard
    engine: Engine
    phases: Phases
    statistics: FiringStatistics
    thresholds: ThresholdTracker
    underused: Underused
    d_sae: int
    auxiliary: MutualSelector
    average: WeightAverage | None = None

    def final_weights(self) -> AbstractContextManager[None]:
        """Lets the shard have meanwhile the weights that the SAE would have if training ended now."""
        return nullcontext() if self.average is None else self.average.applied()

    def tensors(self) -> State:
        """Returns the live tensors by name; filling them restores the run."""
        local: dict[str, Tensor | Streamed] = {
            name: parameter.detach() for name, parameter in self.shard.named_parameters()
        }
        local |= self.engine.tensors()
        local |= self.thresholds.tensors()
        local |= {f"firing.{name}": tensor for name, tensor in self.statistics.tensors().items()}
        local |= self.phases.tensors()
        local |= self.average.tensors() if self.average is not None else {}
        local["underused.members"] = self.underused.members.view(torch.uint8)
        state: State = {}
        for name, tensor in local.items():
            replicated = name in _REPLICATED or not tensor.shape
            state[name] = tensor if replicated else Shard(tensor, self.shard.features.start, self.d_sae)
        return state

    def forecasts(self) -> dict[str, dict[str, float | None]]:
        """Returns by name what the selectors expect of the next batch.

        Without it a resumed run selects the same, with more effort at first. Ranks of other groups may expect
        otherwise; after a resume all expect what the first rank did, so that those of a group agree on any mesh.
        """
        return self.phases.forecasts() | {"auxiliary": self.auxiliary.forecast()}

    def restore_forecasts(self, forecasts: Mapping[str, Mapping[str, float | None]]) -> None:
        """Expects what `forecasts` returned on the first rank, as far as it is there."""
        self.phases.restore_forecasts(forecasts)
        self.auxiliary.restore_forecast(forecasts.get("auxiliary", {}))
