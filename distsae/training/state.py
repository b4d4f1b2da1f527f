"""Everything that the next step follows from, and how a checkpoint holds it: as tensors and as facts, plain values.

Each part packs and unpacks its own values; this module puts them together. With the `tensors` and `facts` of a
checkpoint, a resumed run continues bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from distsae import __version__
from distsae.allocation import MutualSelector
from distsae.checkpoint import JSON, Shard, State, Streamed
from distsae.losses import CollapseAlarms, FiringStatistics, Underused
from distsae.model import FeatureShard
from distsae.parallel import Mesh
from distsae.training.config import TrainConfig
from distsae.training.engines import Engine, WeightAverage
from distsae.training.metrics import Meter
from distsae.training.phases import Phases
from distsae.training.thresholds import ThresholdTracker

__all__ = ["TrainingState"]

_REPLICATED = ("b_dec", "adam.exp_avg.b_dec", "adam.exp_avg_sq.b_dec", "average.b_dec")


@dataclass
class TrainingState:
    """One SAE in training, as one rank holds it.

    `config`, `mesh`, `mean` and `variance` stay the same throughout a run.

    Args:
        config: configuration of the run, with `steps`.
        mesh: the mesh, as this rank sees it.
        mean: mean of the normalised activations, `[d_in]`, on the shard's device.
        variance: total variance of the normalised activations, `E ||x - mean||^2`.
        shard: parameters of this rank's features.
        engine: engine that updates the parameters.
        phases: allocation rule of each step, and the quotas of Feature Choice.
        statistics: firing statistics of this rank's features.
        thresholds: running averages that the frozen rule is made from.
        underused: features that the auxiliary loss trains, as last measured.
        auxiliary: selector of the auxiliary loss: Mutual Choice among `underused.members`, with a budget of its own.
        meter: sums for the next logged line.
        alarms: warnings about a collapsing dictionary.
        average: running average of the weights; None if the SAE gets the last weights.
        init_scale: factor between encoder and decoder rows that training started with; None before the first step, and
            if it started with the weights of an SAE.
        step: number of optimizer steps done.
    """

    config: TrainConfig
    mesh: Mesh
    mean: Tensor
    variance: float
    shard: FeatureShard
    engine: Engine
    phases: Phases
    statistics: FiringStatistics
    thresholds: ThresholdTracker
    underused: Underused
    auxiliary: MutualSelector
    meter: Meter
    alarms: CollapseAlarms
    average: WeightAverage | None = None
    init_scale: float | None = None
    step: int = 0

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        assert self.config.steps is not None
        return self.config.steps

    def final_weights(self) -> AbstractContextManager[None]:
        """Within the block, the shard has the weights that the SAE would have if training ended now."""
        return nullcontext() if self.average is None else self.average.applied()

    def tensors(self) -> State:
        """Returns the live tensors by name: to fill them is one half of `restore`."""
        local: dict[str, Tensor | Streamed | Shard] = {
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
            if isinstance(tensor, Shard) or name in _REPLICATED or not tensor.shape:
                state[name] = tensor
            else:
                state[name] = Shard(tensor, self.shard.features.start, self.shard.d_sae)
        return state

    def facts(self) -> dict[str, JSON]:
        """Returns the plain values that a checkpoint keeps beside the tensors; it keeps those of rank 0."""
        return {
            "underused": {**self.underused.numbers()},
            "forecasts": {name: {**forecast} for name, forecast in self.forecasts().items()},
            "meter": {**self.meter.facts()},
            "alarms": [*self.alarms.facts()],
            "init_scale": self.init_scale,
            "switch_step": self.phases.switch_step,
            "config": self.config.stored(),
            "distsae_version": __version__,
        }

    def restore(self, step: int, facts: Mapping[str, Any], fill: Callable[[State], object]) -> None:
        """Continues from a checkpoint.

        Args:
            step: number of optimizer steps done at the checkpoint.
            facts: facts of the checkpoint, as `facts` returned them.
            fill: function that fills the tensors it is given with those of the checkpoint.
        """
        self.phases.restore(step, facts["switch_step"], self.statistics)  # `tensors` then has the quotas to fill
        tensors = self.tensors()
        fill(tensors)
        self.engine.restore(tensors)
        self.underused = replace(self.underused, **facts["underused"])
        self.restore_forecasts(facts.get("forecasts", {}))  # older checkpoints have none
        self.meter.restore(facts["meter"])
        self.alarms.restore(facts.get("alarms", []))  # older checkpoints have none
        self.init_scale = facts.get("init_scale")  # older checkpoints have none
        self.step = step

    def forecasts(self) -> dict[str, dict[str, float | None]]:
        """Returns, by name, the forecast of each selector for the next batch.

        Forecasts save effort and change no selection. They may differ between groups of ranks; a resumed run gives
        all ranks those of the first rank, so that the ranks of each group agree on any mesh.
        """
        return self.phases.forecasts() | {"auxiliary": self.auxiliary.forecast()}

    def restore_forecasts(self, forecasts: Mapping[str, Mapping[str, float | None]]) -> None:
        """Gives each selector its forecast, as `forecasts` returned it on the first rank; a missing one is none."""
        self.phases.restore_forecasts(forecasts)
        self.auxiliary.restore_forecast(forecasts.get("auxiliary", {}))
